"""A real Redis and real Celery workers of the example app, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines.celery import settings as celery_settings
from plugins.module_utils.workfleet.engines.celery import wire as celery_wire
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "examples" / "reports"


class Fleet:
    """One Redis, any number of workers; all that was started ends with ``close``."""

    def __init__(self, db: int = 3) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fleet-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/{db}"
        self.environment = {**os.environ, "CELERY_BROKER_URL": self.url, "CELERY_RESULT_BACKEND": self.url}
        words = [str(shutil.which("redis-server")), "--port", str(port), "--save", "", "--dir", str(self.directory)]
        self.redis = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.client = until(self._connect)

    def _connect(self) -> resp.Client | None:
        with contextlib.suppress(resp.RespConnectionError):
            return resp.connect(self.url)
        return None

    def log(self, node: str) -> str:
        """What a worker has written."""
        return (self.directory / f"{node}.log").read_text(errors="replace")

    def start(
        self, node: str, *words: str, pool: str = "threads", queues: str = "reports,default",
        settings: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a worker; it may not consume yet."""
        command = [sys.executable, "-m", "celery", "-A", "app.celery_app", "worker", "-n", node, "-P", pool,
                   "-Q", queues, "-c", "1", "--without-mingle", "--without-gossip", *words]
        if settings:
            command += ["--", *celery_settings.render(settings)]
        with (self.directory / f"{node}.log").open("ab") as log:
            self.workers[node] = subprocess.Popen(
                command, cwd=APP, env={**self.environment, **(environment or {})}, stdout=log, stderr=log)
        return self.workers[node]

    def ready(self, *nodes: str, options: Mapping[str, Any] | None = None, seconds: float = 60) -> dict[str, Any]:
        """Wait until these nodes answer, and return their reports."""
        def answers() -> Any:
            found = celery_wire.reports(self.url, nodes, options or {}, timeout=0.3)
            return found if set(found) == set(nodes) else None
        try:
            return dict(until(answers, seconds))
        except AssertionError:
            raise AssertionError("\n".join(self.log(node)[-2000:] for node in nodes)) from None

    def all_keys(self) -> set[str]:
        """All keys of the database."""
        return {resp.text(key) for key in self.client.call("KEYS", "*")}

    def python(self, code: str) -> str:
        """What a client of the app prints."""
        done = subprocess.run([sys.executable, "-c", code], cwd=APP, env=self.environment, timeout=180, check=False,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def close(self) -> None:
        """End everything at once."""
        for process in (*self.workers.values(), self.redis):
            process.kill()
            process.wait()
        shutil.rmtree(self.directory)


@contextlib.contextmanager
def fleet() -> Iterator[Fleet]:
    """A fleet for the length of a block."""
    started = Fleet()
    try:
        yield started
    finally:
        started.close()
