"""Real arq workers of the example app, started as a process manager starts them: launcher, environment file, runner."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugins.module_utils.workfleet import engines, model
from plugins.module_utils.workfleet.engines.base import Place
from plugins.module_utils.workfleet.host import envfile
from plugins.module_utils.workfleet.spec import workers as spec
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import RedisServer

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "examples" / "flow"
ENVIRONMENT = ROOT / ".cache" / "examples-flow"  # bin/test makes it too: arq needs a redis-py that Celery refuses


def environment() -> Path:
    """The virtualenv of the example app, made if it is not there."""
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with (ENVIRONMENT.parent / ".cache-examples-flow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (ENVIRONMENT / "bin" / "arq").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
            subprocess.run([ENVIRONMENT / "bin" / "pip", "install", "--quiet", "-r", APP / "tests" / "requirements.txt"], check=True)
    return ENVIRONMENT


def group(**keys: Any) -> model.Group:
    """Return a worker group of the example app, as the inventory would give it."""
    entry = {"name": "flows", "engine": "arq", "app": "app.worker.WorkerSettings", **keys}
    declared = spec.parse({"app": {"name": "flow"}, "groups": [entry]})
    return declared.groups[0]


class Node:
    """One node: its process, its run record, what it wrote."""

    def __init__(self, fleet: Fleet, name: str, declared: model.Group, **variables: str) -> None:
        self.fleet, self.name = fleet, name
        place = Place(node=name, directory=str(fleet.source), environment=str(ENVIRONMENT), runners=str(ROOT / "runners"))
        engine = engines.named("arq")
        whole = {"PYTHONPATH": str(APP), **dict.fromkeys(engine.runner_env, fleet.url), **variables}
        env = fleet.folder / f"{name}.env"
        env.write_text(envfile.render({name: value for name, value in whole.items() if value}))
        self.record_file, self.log_file = fleet.folder / f"{name}.json", fleet.folder / f"{name}.log"
        launch = [sys.executable, "-I", str(ROOT / "runners" / "launch.py"), "--unit", name, "--generation", "g",
                  "--run-directory", str(fleet.folder), "--env-file", str(env)]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen([*launch, "--", *engine.command(declared, place)], cwd=fleet.source,
                                            stdout=log, stderr=log)

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
            until(lambda: "ready" in self.record)
        except AssertionError:
            raise AssertionError(self.log) from None
        return self


class Fleet:
    """Nodes on one Redis, with the example app or a directory of modules over it."""

    def __init__(self, folder: Path, redis: RedisServer, source: Path = APP) -> None:
        self.folder, self.redis, self.source, self.url = folder, redis, source, redis.url()
        self.nodes: list[Node] = []

    def start(self, name: str = "flow.flows.1.1@h", **keys: Any) -> Node:
        """Start a node of a group with these keys; ``variables`` is its environment."""
        variables = keys.pop("variables", {})
        self.nodes.append(Node(self, name, group(**keys), **variables))
        return self.nodes[-1]

    def python(self, code: str) -> str:
        """What a client of the app prints; ``q`` is a function that enqueues a job."""
        head = ("import asyncio, sys\nfrom arq import create_pool\nfrom app.worker import REDIS\n"
                "async def main():\n    redis = await create_pool(REDIS)\n    q = redis.enqueue_job\n")
        body = "".join(f"    {line}\n" for line in code.splitlines())
        done = subprocess.run([ENVIRONMENT / "bin" / "python", "-c", f"{head}{body}asyncio.run(main())"], cwd=APP, timeout=180,
                              env={**os.environ, "REDIS_URL": self.url}, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def enqueue(self, count: int, seconds: float, queue: str = "arq:queue") -> None:
        """Enqueue flows f0, f1, …"""
        self.python(f"for n in range({count}): await q('run_flow', f'f{{n}}', {seconds}, 1, _queue_name={queue!r})")

    def flows(self, key: str) -> list[str]:
        """The flows that began (``flow:begun``) or ended (``flow:done``)."""
        return sorted(name.decode() for name in self.redis.call("LRANGE", key, 0, -1))

    def close(self) -> None:
        """End everything at once."""
        for node in self.nodes:
            node.process.kill()
            node.process.wait()


@contextlib.contextmanager
def fleet(folder: Path, redis: RedisServer, source: Path = APP) -> Iterator[Fleet]:
    """A fleet for the length of a block."""
    environment()
    started = Fleet(folder, redis, source)
    try:
        yield started
    finally:
        started.close()
