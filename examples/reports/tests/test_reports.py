"""The app's tasks by real workers over a real Redis."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("celery")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Redis of our own and one worker of both queues; what a client needs to know to find them."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        pytest.skip("no redis-server on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"redis://127.0.0.1:{port}/0"
    environment = {**os.environ, "CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url,
                   "CELERY_TASK_SOFT_TIME_LIMIT": "1", "CELERY_TASK_TIME_LIMIT": "20"}
    folder = tmp_path_factory.mktemp("redis")
    words = [server, "--port", str(port), "--save", "", "--dir", str(folder)]
    redis = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603 - a fixed command
    log = (folder / "worker.log").open("wb")
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "app.celery_app", "worker", "-Q", "reports,default", "-c", "2"],
        cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield environment
    finally:
        for process in (worker, redis):
            process.terminate()
            process.wait(20)
        log.close()


def python(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the app's directory."""
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, timeout=60,  # noqa: S603 - fixed words
                          check=False, capture_output=True, text=True)


def send(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m app.send``."""
    return python(environment, "-m", "app.send", *words)


def test_every_kind_of_task_ends_as_it_should(environment: dict[str, str]) -> None:
    done = send(environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 of 12 came back" in done.stdout
    assert "ReportError('no such report')" in done.stdout
    assert "done at attempt 3" in done.stdout
    report = next(line for line in done.stdout.splitlines() if "build_report" in line)
    primes = next(line for line in done.stdout.splitlines() if "count_primes" in line)
    assert report.split()[-1] == primes.split()[-1] == "2262"  # the primes below 20000, in parts and in one


def test_the_soft_time_limit_of_the_environment_is_obeyed(environment: dict[str, str]) -> None:
    code = "from app.tasks import fetch; print(fetch.delay(5).get(timeout=30))"
    began = time.monotonic()
    done = python(environment, "-c", code)
    assert done.stdout.strip().startswith("given up after 1.")
    assert time.monotonic() - began < 5


def test_a_task_that_nobody_takes_is_reported_and_not_waited_for_longer_than_told(environment: dict[str, str]) -> None:
    done = send(environment, "--cpu", "1", "--queue", "nobody", "--timeout", "1")
    assert done.returncode == 1
    assert "no result within 1 s: count_primes(20000)" in done.stderr


def test_registered_names_are_the_documented_ones(environment: dict[str, str]) -> None:
    code = ("from app.celery_app import celery_app as a; a.loader.import_default_modules(); "
            "print('\\n'.join(sorted(n for n in a.tasks if not n.startswith('celery.'))))")
    done = python(environment, "-c", code)
    documented = (ROOT / "README.md").read_text()
    names = done.stdout.split()
    assert names and all(f"`{name}`" in documented for name in names)
