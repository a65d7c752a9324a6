"""Real rq workers of the example app, started as a process manager starts them: launcher, environment file, runner."""

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
APP = ROOT / "examples" / "rq"
#: The environments by version of rq; the first is the usual one.
VERSIONS = {"3.0.0": ROOT / ".cache" / "examples-rq", "2.12.0": ROOT / ".cache" / "rq-2.12"}
ENVIRONMENT = VERSIONS["3.0.0"]


def environment(version: str = "3.0.0") -> Path:
    """A virtualenv with this rq, made if it is not there."""
    made = VERSIONS[version]
    made.parent.mkdir(exist_ok=True)
    with (made.parent / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "bin" / "rq").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", made], check=True)
            wanted = ["-r", str(APP / "requirements.txt")] if made == ENVIRONMENT else [f"rq=={version}", "redis==8.1.0"]
            subprocess.run([made / "bin" / "pip", "install", "--quiet", *wanted], check=True)
    return made


def group(**keys: Any) -> model.Group:
    """Return a worker group of the example app, as the inventory would give it."""
    entry = {"name": "mails", "engine": "rq", "app": "app.tasks", **keys}
    return spec.parse({"app": {"name": "rq"}, "groups": [entry]}).groups[0]


class Node:
    """One node: its process, its run record, what it wrote."""

    def __init__(self, fleet: Fleet, name: str, declared: model.Group, **variables: str) -> None:
        self.fleet, self.name = fleet, name
        place = Place(node=name, directory=str(APP), environment=str(fleet.environment), runners=str(ROOT / "runners"))
        engine = engines.named("rq")
        whole = {"PYTHONPATH": str(APP), **dict.fromkeys((*engine.runner_env, *engine.broker_env), fleet.url), **variables}
        env = fleet.folder / f"{name}.env"
        env.write_text(envfile.render({name: value for name, value in whole.items() if value}))
        self.record_file, self.log_file = fleet.folder / f"{name}.json", fleet.folder / f"{name}.log"
        self.mark = fleet.folder / f"{name}.quiesced"
        launch = [sys.executable, "-I", str(ROOT / "runners" / "launch.py"), "--unit", name, "--generation", "g",
                  "--run-directory", str(fleet.folder), "--env-file", str(env)]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen([*launch, "--", *engine.command(declared, place)], cwd=APP, stdout=log, stderr=log)

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
            until(lambda: "ready" in self.record and self.record.get("pid") == self.process.pid)
        except AssertionError:
            raise AssertionError(self.log) from None
        return self

    def children(self) -> list[int]:
        """Its processes: the running job's, and that of the scheduler where it has one."""
        return [int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]


class Fleet:
    """Nodes on one Redis."""

    def __init__(self, folder: Path, redis: RedisServer, made: Path) -> None:
        self.folder, self.redis, self.environment, self.url = folder, redis, made, redis.url()
        self.nodes: list[Node] = []

    def start(self, name: str = "rq.mails.1.1@h", **keys: Any) -> Node:
        """Start a node of a group with these keys; ``variables`` is its environment."""
        variables = keys.pop("variables", {})
        self.nodes.append(Node(self, name, group(**keys), **variables))
        return self.nodes[-1]

    def python(self, code: str) -> str:
        """What a client of the app prints; ``q`` is its queue."""
        head = "from datetime import timedelta\nfrom redis import Redis\nfrom rq import Queue, Retry\nfrom app import tasks\n"
        head += "q = Queue('default', connection=Redis.from_url(tasks.BROKER))\n"
        done = subprocess.run([self.environment / "bin" / "python", "-c", head + code], cwd=APP, timeout=180, check=False,
                              env={**os.environ, "RQ_REDIS_URL": self.url}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def enqueue(self, count: int, seconds: float, *, more: str = "") -> None:
        """Enqueue records j0, j1, …, whose jobs have these ids too."""
        self.python(f"for n in range({count}): q.enqueue(tasks.record, f'j{{n}}', {seconds}, job_id=f'j{{n}}'{more})")

    def told(self, what: str) -> list[str]:
        """The jobs that began (``begin``) or ended (``end``)."""
        entries = [json.loads(entry) for entry in self.redis.call("LRANGE", "executions", 0, -1)]
        return [entry["task"] for entry in entries if entry["what"] == what]

    def status(self, job: str) -> str:
        """What rq says of a job."""
        return str((self.redis.call("HGET", f"rq:job:{job}", "status") or b"").decode())

    def close(self) -> None:
        """End everything at once."""
        for node in self.nodes:
            node.process.kill()
            node.process.wait()


@contextlib.contextmanager
def fleet(folder: Path, redis: RedisServer, version: str = "3.0.0") -> Iterator[Fleet]:
    """A fleet for the length of a block."""
    started = Fleet(folder, redis, environment(version))
    try:
        yield started
    finally:
        started.close()
