"""The app's tasks by a real worker over a real Redis."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("chicory")
ROOT = Path(__file__).resolve().parent.parent
WORKER = """
import asyncio, signal
from chicory import Worker
from app.tasks import app
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    worker = Worker(app)
    await worker.start()
    await stop.wait()
    await worker.stop()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Redis of our own and one worker; what a client needs to know to find them."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        pytest.skip("no redis-server on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    environment = {**os.environ, "CHICORY_BROKER_REDIS_URL": f"redis://127.0.0.1:{port}/0", "CHICORY_BROKER_REDIS_BLOCK_MS": "500",
                   "CHICORY_BACKEND_REDIS_URL": f"redis://127.0.0.1:{port}/1", "EVENTS_LOG": str(folder / "events.log")}
    words = [server, "--port", str(port), "--save", "", "--dir", str(folder)]
    redis = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603 - a fixed command
    log = (folder / "worker.log").open("wb")
    while socket.socket().connect_ex(("127.0.0.1", port)) and redis.poll() is None:
        pass
    worker = subprocess.Popen([sys.executable, "-c", WORKER], cwd=ROOT, env=environment,  # noqa: S603 - as above
                              stdout=log, stderr=log)
    try:
        yield environment
    finally:
        for process in (worker, redis):
            process.terminate()
            process.wait(20)
        log.close()


def send(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m app.send``."""
    return subprocess.run([sys.executable, "-m", "app.send", *words], cwd=ROOT, env=environment,  # noqa: S603 - fixed words
                          timeout=60, check=False, capture_output=True, text=True)


def test_one_of_each_kind_ends_as_it_should(environment: dict[str, str]) -> None:
    done = send(environment, "--timeout", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "flaky(2)  event delivered at attempt 3" in done.stdout
    assert "FAILURE   reject()  event is not understood" in done.stdout
    assert "5 of 5 ended as they should" in done.stdout
    noted = Path(environment["EVENTS_LOG"]).read_text(encoding="utf-8").splitlines()
    assert [line for line in noted if line.startswith("try")] == ["try 0 event", "try 1 event", "try 2 event"]


def test_a_queue_that_nobody_consumes_is_noticed(environment: dict[str, str]) -> None:
    done = send(environment, "--deliver", "1", "--queue", "nobody", "--timeout", "0.5")
    assert done.returncode == 1
    assert "no result within 0.5 s: deliver(0.2)" in done.stderr
