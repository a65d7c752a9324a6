"""Real Chicory workers of the example app, started as a process manager starts them: launcher, environment file, runner."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugins.module_utils.workfleet import model
from plugins.module_utils.workfleet.engines.base import Place
from plugins.module_utils.workfleet.engines.chicory.engine import ENGINE
from plugins.module_utils.workfleet.engines.verbs.report import Report
from plugins.module_utils.workfleet.host import envfile
from plugins.module_utils.workfleet.spec import workers as spec
from tests.patience import until

if TYPE_CHECKING:
    from tests.integration.conftest import RedisServer

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "examples" / "events"
ENVIRONMENT = ROOT / ".cache" / "chicory"
#: The newest redis-py, with which Chicory's own command dies; the example app's tests run with an older one.
REQUIREMENTS = ("chicory[redis]==0.1.0", "redis==8.1.0")


def environment() -> Path:
    """A virtualenv with Chicory, made if it is not there."""
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    made = ENVIRONMENT / "made-from"
    with (ENVIRONMENT.parent / "chicory.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != str(REQUIREMENTS):
            subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
            subprocess.run([ENVIRONMENT / "bin" / "pip", "install", "--quiet", *REQUIREMENTS], check=True)
            made.write_text(str(REQUIREMENTS))
    return ENVIRONMENT


def group(**keys: Any) -> model.Group:
    """Return a worker group of the example app, as the inventory would give it."""
    entry = {"name": "slow", "engine": "chicory", "app": "app.tasks:app", **keys}
    return spec.parse({"app": {"name": "events"}, "groups": [entry]}).groups[0]


class Node:
    """One node: its process, its run record, what it wrote."""

    def __init__(self, fleet: Fleet, name: str, declared: model.Group, variables: dict[str, str]) -> None:
        self.name = name
        self.unit = f"workfleet.{name.partition('@')[0]}"
        place = Place(node=name, directory=str(APP), environment=str(ENVIRONMENT), runners=str(ROOT / "runners"))
        whole = {**fleet.variables, **ENGINE.environment(declared, place), **variables}
        env = fleet.folder / f"{self.unit}.env"
        env.write_text(envfile.render(whole))
        self.record_file, self.log_file = fleet.folder / f"{self.unit}.json", fleet.folder / f"{self.unit}.log"
        launch = [sys.executable, "-I", str(ROOT / "runners" / "launch.py"), "--unit", self.unit, "--generation", "g",
                  "--run-directory", str(fleet.folder), "--env-file", str(env)]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen([*launch, "--", *ENGINE.command(declared, place)], cwd=APP, stdout=log, stderr=log)

    @property
    def record(self) -> dict[str, Any]:
        """The run record."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(self.record_file.read_text()))
        return {}

    @property
    def log(self) -> str:
        """All that the node wrote."""
        return self.log_file.read_text(errors="replace")

    def ready(self) -> Node:
        """Wait until its record says that it is ready."""
        try:
            until(lambda: self.record.get("ready") and self.record["pid"] == self.process.pid)
        except AssertionError:
            raise AssertionError(self.log) from None
        return self

    def stop(self, seconds: float = 20) -> int:
        """Tell it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


class Fleet:
    """Nodes on one Redis; the result store is another database, as Chicory's defaults have it."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        environment()
        self.folder, self.redis = folder, redis
        self.events = folder / "events.log"
        self.events.touch()
        self.variables = {"CHICORY_BROKER_REDIS_URL": redis.url(), "CHICORY_BACKEND_REDIS_URL": redis.url(1),
                          "EVENTS_LOG": str(self.events)}
        self.nodes: list[Node] = []

    def start(self, name: str = "events.slow.1.1@h", /, *, variables: dict[str, str] | None = None, **keys: Any) -> Node:
        """Start a node of a group with these keys; ``variables`` come to its environment."""
        self.nodes.append(Node(self, name, group(**keys), variables or {}))
        return self.nodes[-1]

    def send(self, *calls: tuple[str, list[Any]], queue: str = "default") -> list[str]:
        """Send tasks as a client of the app does; return their ids."""
        code = ("import asyncio, json, sys\nfrom app import send, tasks\n"
                "async def main():\n    await tasks.app.connect()\n"
                "    ids = [await send.send(getattr(tasks, name), args, sys.argv[2]) for name, args in json.loads(sys.argv[1])]\n"
                "    await tasks.app.disconnect()\n    print(json.dumps(ids))\nasyncio.run(main())")
        done = subprocess.run([ENVIRONMENT / "bin" / "python", "-c", code, json.dumps(calls), queue], cwd=APP, timeout=180,
                              env={**os.environ, **self.variables}, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    def noted(self) -> Counter[str]:
        """What tasks noted, and how often."""
        return Counter(self.events.read_text().splitlines())

    def result(self, task_id: str) -> dict[str, Any] | None:
        """A task's result."""
        stored = self.redis.call("GET", f"chicory:result:{task_id}", db=1)
        return None if stored is None else dict(json.loads(stored))

    def told(self, *nodes: Node) -> dict[str, Report]:
        """What nodes tell over the broker."""
        return ENGINE.inspect(self.redis.url(), [node.name for node in nodes or self.nodes], {}, 1.0)

    def pending(self, queue: str) -> int:
        """How many messages are taken and not acknowledged."""
        return int(self.redis.call("XPENDING", f"chicory:stream:{queue}", "chicory-workers")[0])

    def close(self) -> None:
        """End everything at once."""
        for node in self.nodes:
            node.process.kill()
            node.process.wait()
