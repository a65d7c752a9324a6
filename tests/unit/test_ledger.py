"""What became of the tasks of nodes that take no new ones, told without the process that is watched."""

from __future__ import annotations

import time
from typing import Any

import pytest

from plugins.module_utils.workfleet.nodes import ledger
from plugins.module_utils.workfleet.nodes.drain import doing
from plugins.module_utils.workfleet.nodes.ledger import Watched

NOW = time.time()
RUNS: dict[str, Any] = {"id": "1", "task": "app.fetch", "since": NOW - 30, "acked": True}
LATE = {**RUNS, "id": "2", "acked": False}
TAKEN = {**LATE, "id": "3", "since": None}


def figures(line: dict[str, Any]) -> list[Any]:
    return [line[name] for name in ("running_before", "finished", "returned", "lost", "duplicates", "state")]


def watched(*tasks: dict[str, Any], **changes: Any) -> Watched:
    found = Watched(NOW - 60, pid=7)
    found.told(tasks, {})
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_what_was_acknowledged_is_lost_with_its_process_and_the_rest_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    node = watched(RUNS, LATE, TAKEN, is_killed=True)
    node.die()
    line = node.line("n")
    assert figures(line) == [2, 0, 2, 1, 1, "killed"]
    assert [(cut["id"], cut["lost"], cut["seconds"]) for cut in line["cut_short"]] == [("1", True, 30), ("2", False, 30)]
    assert ledger.said(line["cut_short"]) == "app.fetch (1) after 30 s, which is lost, app.fetch (2) after 30 s, which is run again"


def test_of_a_node_that_somebody_told_to_stop_it_was_said_that_it_had_died_and_lost_what_it_ended_then() -> None:
    node = watched(RUNS, TAKEN, is_stopping=True)
    node.ended()
    node.state = "gone"
    assert figures(node.line("n")) == [None] * 5 + ["gone"] and "cut_short" not in node.line("n")
    killed = watched(RUNS, is_stopping=True, is_killed=True)
    killed.ended()
    assert figures(killed.line("n")) == [1, 0, 0, 1, 0, "killed"]


def test_of_the_tasks_that_a_node_has_not_named_none_is_told_to_have_ended() -> None:
    node = Watched(NOW - 60, pid=7)
    node.told([RUNS, TAKEN], {"before": 1, "held": 9, "more": 5})
    assert figures(node.line("n")) == [1, 2, 0, 0, 0, "draining"]
    assert "6 taken and not begun" in doing(node)
    node.die()
    assert figures(node.line("n")) == [None] * 5 + ["died"]


def test_of_a_node_that_never_told_what_it_held_nothing_is_told_when_it_has_gone() -> None:
    gone = Watched(NOW, state="gone").line("n")
    dead = Watched(NOW)
    dead.die()
    assert figures(gone) == [None] * 5 + ["gone"] and figures(dead.line("n")) == [None] * 5 + ["died"]
    assert "cut_short" not in gone


def test_the_short_form_counts_what_is_known_and_says_of_whom_nothing_is() -> None:
    well = watched(state="gone", before=2, held=2).line("a")
    assert ledger.short([well, Watched(NOW, state="gone").line("b"), {**well, "state": "draining"}]) == (
        "old nodes: 1 still draining; 1 gone that cannot tell; 1 gone, of their tasks 2 ran, 2 finished, 0 returned, 0 lost")
