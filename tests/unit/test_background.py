"""Work in the background: nothing that it tells is lost between two calls, and it ends when nobody comes any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import background
from tests.patience import is_within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugins.module_utils.workfleet.host.background import Background

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    ended_by = time.monotonic() + 10
    while list(tmp_path.glob(f"{background.PREFIX}*")) and time.monotonic() < ended_by:
        time.sleep(0.05)
    assert not list(tmp_path.glob(f"{background.PREFIX}*")), "nothing is left behind"


def everything(directory: str, pause: float = 0.0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while not (found and found[-1].get("last")):
        found += background.take(directory)
        time.sleep(pause)
    return found


def test_all_that_is_told_comes_once_and_in_order_however_calls_fall() -> None:
    def job(mine: Background) -> None:
        for number in range(2000):
            mine.tell({"number": number})

    found = everything(background.start(job), pause=0.01)
    assert [item.get("number") for item in found] == [*range(2000), None]
    assert found[-1] == {"last": True, "error": None}


def test_an_error_is_the_last_word_and_a_mistake_of_ours_is_told_with_its_line() -> None:
    def refuse(mine: Background) -> None:
        raise WorkfleetError("no broker there")

    def stumble(mine: Background) -> None:
        raise KeyError("nosuch")

    assert everything(background.start(refuse)) == [{"last": True, "error": "no broker there"}]
    assert "in stumble" in everything(background.start(stumble))[-1]["error"]


def test_what_there_is_no_room_for_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MOST_BYTES", 1000)

    def job(mine: Background) -> None:
        mine.tell(*({"number": number} for number in range(1000)))
        while os.stat(background._file(mine.directory)).st_size:
            time.sleep(0.01)
        mine.tell({"number": "after"})

    found = everything(background.start(job), pause=0.1)
    numbers = [item["number"] for item in found if "number" in item]
    dropped = sum(item.get("dropped", 0) for item in found)
    assert dropped > 900
    assert numbers == [*range(1000 - dropped), "after"]


def test_nobody_comes_and_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LEASE_SECONDS", 0.3)

    def job(mine: Background) -> None:
        mine.tell({"pid": os.getpid()})
        while mine.wanted:
            time.sleep(0.02)

    directory = background.start(job)
    pid = background.take(directory)[0]["pid"]
    ended_by = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < ended_by:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")
    with pytest.raises(WorkfleetError, match="gone before its time"):
        background.take(directory)


def test_a_killed_one_is_no_end_of_its_work() -> None:
    def job(mine: Background) -> None:
        mine.tell({"pid": os.getpid()})
        time.sleep(60)

    directory = background.start(job)
    pid = background.take(directory)[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkfleetError, match="gone before its time: it was killed"):
        everything(directory)


def test_only_what_this_made_is_taken_from_and_removed(tmp_path: Path) -> None:
    with pytest.raises(WorkfleetError, match="is no directory of work"):
        background.take(str(tmp_path))
    assert tmp_path.exists()


def test_a_caller_s_output_ends_with_the_caller(tmp_path: Path) -> None:
    # Ansible waits for the end of a module's output, which a child that keeps it open would put off.
    code = ("import time\nfrom plugins.module_utils.workfleet.host import background\n"
            "print(background.start(lambda mine: time.sleep(3)))\n")
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, check=True,
                          capture_output=True, text=True, timeout=20)
    assert is_within(time.monotonic() - begun, 2.5)
    assert everything(done.stdout.strip())[-1]["last"]
