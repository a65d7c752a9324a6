"""Nodes that are to go, seen off: a process stands in for each, and a run record that says what it holds."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.host.processes import start_time
from plugins.module_utils.workfleet.managers.base import Present
from plugins.module_utils.workfleet.model import Name
from plugins.module_utils.workfleet.nodes import leave
from tests.unit.test_info import FakeManager

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NAME = Name("shop", "a", 1, 1)
RUNS: dict[str, Any] = {"id": "1", "task": "app.fetch", "since": time.time() - 30, "acked": True}


class Told(FakeManager):
    """Notes what it is told, and has one process, which it ends."""

    process: subprocess.Popen[bytes]
    is_deaf = False

    def __init__(self, app: str, root: str, run_directory: str) -> None:
        super().__init__(app, root, run_directory)
        self.calls: list[str] = []
        self.start_process()

    def start_process(self) -> None:
        self.process = subprocess.Popen(["sleep", "1000"])

    def present_of(self, names: Sequence[Name]) -> list[Present]:
        return [Present(name, None, False, "running", pid=self.process.pid) for name in names if self.process.poll() is None]

    def stop(self, names: Sequence[Name]) -> None:
        self.calls.append("stop")
        if not self.is_deaf:
            self.end()

    def kill(self, nodes: Sequence[Present]) -> None:
        self.calls.append("kill")
        self.end()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def says(self, tasks: Sequence[dict[str, Any]] | None) -> None:
        """Write the run record, of a node that has heeded its mark unless it says nothing."""
        pid = self.process.pid
        record: dict[str, Any] = {"pid": pid, "starttime": start_time(pid), "generation": "g"}
        if tasks is not None:
            holds = {"tasks": tasks, "before": 1, "held": 1, "returned": 2, "idle": None if tasks else time.time()}
            record |= {"quiesced": 1.0, "holds": holds}
        with open(self.record_path(NAME), "w", encoding="utf-8") as file:
            json.dump(record, file)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Told]:
    for folder in ("env", "state"):
        (tmp_path / folder).mkdir()
    found = Told("shop", str(tmp_path), str(tmp_path))
    yield found
    found.end()


def note(**changes: Any) -> leave.Note:
    values = {"node": "shop.a.1.1@h1", "since": time.time() - 5, "seconds": 3, "kills": False, "by_mark": True}
    return leave.Note(**{**values, **changes})


def seen_off(manager: Told, looks: int = 1, **changes: Any) -> dict[str, Any] | None:
    """Look so many times at a node with such a note; return its line when it has gone."""
    if not leave.notes(manager):
        leave.write(manager, NAME, note(**changes))
    attendant = leave.Attendant(manager)
    for _ in range(looks):
        attendant.go_round()
    return leave.notes(manager)[NAME].line


def figures(line: dict[str, Any] | None) -> list[Any]:
    assert line is not None
    return [line[name] for name in ("running_before", "finished", "returned", "lost", "duplicates", "state")]


def test_a_note_is_pending_until_its_line_is_written_and_till_then_no_figure_is_told_that_is_not_final(manager: Told) -> None:
    first = note()
    leave.write(manager, NAME, first)
    leave.write(manager, Name("other", "a", 1, 1), first)
    assert list(leave.pending(manager)) == [NAME] and leave.pending(manager)[NAME].is_late
    assert manager.leaving_since(NAME) == first.since
    manager.says([RUNS])
    assert figures(leave.lines(manager)[NAME]) == [1, None, None, None, None, "draining"]
    node, = manager.present_of([NAME])
    assert manager.as_told(node).activity == "stopping"
    leave.write(manager, NAME, note(line={"node": "n"}))
    assert leave.pending(manager) == {} and manager.leaving_since(NAME) is None and manager.as_told(node) == node
    assert leave.lines(manager) == {NAME: {"node": "n"}}


def test_one_process_attends_at_a_time(manager: Told) -> None:
    with leave.alone(manager) as first, leave.alone(manager) as second:
        assert (first, second) == (True, False)


def test_a_node_has_the_signal_when_it_is_idle_and_not_before_however_long_that_takes(manager: Told) -> None:
    manager.says([RUNS])
    assert seen_off(manager, looks=3) is None and manager.calls == []
    manager.says([])
    assert figures(seen_off(manager, looks=2)) == [1, 1, 2, 0, 0, "gone"] and manager.calls[0] == "stop" and "kill" not in manager.calls


def test_a_node_is_killed_at_its_time_and_what_runs_there_is_written_down_before(manager: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    manager.says([RUNS])
    assert seen_off(manager, seconds=60, kills=True) is None and manager.calls == []
    leave.write(manager, NAME, note(kills=True))
    known = []
    monkeypatch.setattr(manager, "stop", lambda names: known.append(leave.notes(manager)[NAME].known["tasks"]))  # type: ignore[index]
    assert seen_off(manager) is None and manager.calls == ["kill"] and known == [[RUNS]]
    # Another process goes on: this one is lost with what it knew.
    line = seen_off(manager, looks=2)
    assert figures(line) == [1, 0, 2, 1, 0, "killed"]
    assert line is not None and [(cut["id"], cut["lost"]) for cut in line["cut_short"]] == [("1", True)]


@pytest.mark.parametrize("changes", [{"by_mark": False}, {"since": time.time() - 100, "seconds": 300}], ids=["heeds no mark", "cut off"])
def test_a_node_that_does_not_heed_its_mark_has_the_signal_and_nobody_knows_of_its_tasks(manager: Told, changes: dict[str, Any]) -> None:
    manager.says(None)
    assert figures(seen_off(manager, looks=2, **changes)) == [None] * 5 + ["gone"] and manager.calls[0] == "stop"
    assert not os.path.exists(manager.mark_path(NAME))


def test_a_crash_on_the_way_is_accounted_for_and_the_process_that_comes_back_is_sent_off(manager: Told) -> None:
    manager.says([RUNS])
    leave.write(manager, NAME, note())
    attendant = leave.Attendant(manager)
    attendant.go_round()
    manager.end()
    manager.start_process()
    manager.says([])
    for _ in range(2):
        attendant.go_round()
    assert figures(leave.notes(manager)[NAME].line) == [1, 0, 2, 1, 0, "died"]


def test_a_mark_of_its_own_goes_with_the_node_and_that_of_a_drain_stays(manager: Told) -> None:
    for is_drained in (False, True):
        manager.start_process()
        manager.says([RUNS])
        if is_drained:
            with open(manager.mark_path(NAME), "w", encoding="utf-8") as file:
                file.write("{}")
        leave.write(manager, NAME, note())
        assert seen_off(manager) is None and os.path.exists(manager.mark_path(NAME))
        manager.says([])
        assert seen_off(manager, looks=2)
        assert os.path.exists(manager.mark_path(NAME)) is is_drained
