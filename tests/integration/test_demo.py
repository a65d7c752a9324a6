"""``bin/demo``: from nothing to real tasks, and back to nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import printed

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


def demo(place: Path | str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``bin/demo`` with its directory at ``place``."""
    return subprocess.run(
        [shutil.which("bash") or "bash", str(ROOT / "bin" / "demo"), *words], cwd=ROOT, timeout=900, check=False,
        env={**os.environ, "WORKFLEET_DEMO": str(place), "COLUMNS": "100", **environment}, capture_output=True, text=True)


def processes(place: Path) -> list[str]:
    """Return the command lines of processes that were started from ``place``."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{place}/" in line:
            found.append(line)
    return found


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a path that is short enough for sockets; nothing of it is left behind."""
    found = Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
    try:
        yield found
    finally:
        demo(found, "--stop", "--purge")
        shutil.rmtree(found, ignore_errors=True)


def test_tasks_go_through_a_fleet_that_is_quickly_there_again_and_leaves_no_process(place: Path) -> None:
    first = demo(place)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "34 of 34 came back" in first.stdout
    assert f"\nstatus JSON: {place}/status.json\n" in first.stdout
    printed.same("README.md", "status", first.stdout)
    status = json.loads((place / "status.json").read_text())
    assert {node["state"] for node in status["hosts"]["localhost"]["nodes"]} == {"ready"}
    assert sum(node["processed"] for node in status["hosts"]["localhost"]["nodes"]) >= 34
    assert status["problems"] == []

    before = sorted(processes(place))
    again = demo(place)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "changed: [localhost]" not in again.stdout
    assert sorted(processes(place)) == before

    stopped = demo(place, "--stop")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert processes(place) == []
    assert demo(place, "--stop", "--purge").returncode == 0
    assert not place.exists()


def test_an_old_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\n')
    (tmp_path / "python3").chmod(0o755)
    for tool in ("dirname", "uname", "mkdir", "ls", "df", "awk", "sh"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        done = demo(place, PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Python 3.11 or newer is needed; here is Python 3.9.2" in done.stderr


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    (place / "mine").write_text("x")
    done = demo(place)
    purge = demo(place, "--stop", "--purge")
    assert done.returncode == 1 and "is not empty and no demo of ours" in done.stderr
    assert purge.returncode == 0 and (place / "mine").read_text() == "x"
    shutil.rmtree(place)


@pytest.mark.parametrize("place", ["/tmp/a b", "/tmp/" + "x" * 60])
def test_a_directory_that_sockets_or_supervisor_cannot_have_is_refused(place: str) -> None:
    done = demo(place)
    assert done.returncode == 1 and "WORKFLEET_DEMO" in done.stderr
    assert not Path(place).exists()
