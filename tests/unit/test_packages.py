"""Who else works with Debian's packages is waited for, and named."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import packages

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLD = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name in ("frontend", "lists"):
        (tmp_path / name).touch()
    found = [str(tmp_path / name) for name in ("frontend", "lists", "missing")]
    monkeypatch.setattr(packages, "LOCKS", found)
    return found


@pytest.fixture
def busy(locks: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the second of the locks until its input ends."""
    with subprocess.Popen([sys.executable, "-c", HOLD, locks[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"\n"
        yield process
        process.kill()


def test_nobody_is_waited_for_where_nothing_is_locked(locks: list[str]) -> None:
    assert packages.holder() == ""
    packages.wait(time.monotonic())
    assert packages.step("redis-server", "not on this host").reason == "not on this host"


def test_a_step_says_whom_it_waits_for(locks: list[str], busy: subprocess.Popen[bytes]) -> None:
    step = packages.step("python3.11-venv", "it is lacking")
    name = Path(f"/proc/{busy.pid}/comm").read_text().strip()
    assert step.reason == f"it is lacking; process {busy.pid} ({name}) holds {locks[1]}, which is waited for, 120 s at most"
    assert packages.waiting(step) == f"package python3.11-venv: {step.reason}"


def test_it_goes_on_as_soon_as_the_lock_is_free(locks: list[str], busy: subprocess.Popen[bytes]) -> None:
    assert busy.stdin
    busy.stdin.close()
    packages.wait(time.monotonic() + 3600)
    assert packages.holder() == ""


def test_who_still_holds_it_at_the_end_is_named_and_that_the_next_run_goes_on(locks: list[str], busy: subprocess.Popen[bytes]) -> None:
    with pytest.raises(WorkfleetError, match=rf"process {busy.pid} .* holds {locks[1]}: .* Run this again when it has ended"):
        packages.wait(time.monotonic())


def test_a_lock_of_our_own_process_is_none(locks: list[str]) -> None:
    with open(locks[0], "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert packages.holder() == ""
