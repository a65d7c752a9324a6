"""The app's jobs by a real worker, started by arq's own command, over a real Redis."""

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

pytest.importorskip("arq")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Redis of our own and one worker; what a client needs to know to find them."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        pytest.skip("no redis-server on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    folder = tmp_path_factory.mktemp("redis")
    words = [server, "--port", str(port), "--save", "", "--dir", str(folder)]
    redis = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603 - a fixed command
    log = (folder / "worker.log").open("wb")
    worker = subprocess.Popen([sys.executable, "-m", "arq", "app.worker.WorkerSettings"],
                              cwd=ROOT, env=environment, stdout=log, stderr=log)
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


def test_every_kind_of_job_ends_as_it_should(environment: dict[str, str]) -> None:
    done = send(environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 jobs sent" in done.stdout
    assert "FlowError('no such flow')" in done.stdout
    assert "done at try 3" in done.stdout
    assert "flow-3: 3 steps at try 1" in done.stdout


def test_a_job_that_nobody_takes_is_reported_and_not_waited_for_longer_than_told(environment: dict[str, str]) -> None:
    done = send(environment, "--where", "1", "--queue", "nobody", "--timeout", "1")
    assert done.returncode == 1
    assert "no result within 1 s" in done.stdout


def test_registered_names_are_the_documented_ones(environment: dict[str, str]) -> None:
    code = "from app.worker import WorkerSettings as s; print(*(f.__name__ for f in s.functions))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, timeout=60,  # noqa: S603
                          check=False, capture_output=True, text=True)
    documented = (ROOT / "README.md").read_text()
    assert done.stdout.split() and all(f"`{name}`" in documented for name in done.stdout.split())
