"""The files of a run: its steps in the order in which they were taken, and what became of tasks, without a callback."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.plugin_utils import results

if TYPE_CHECKING:
    from pathlib import Path

RUNS = itertools.count(1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return next(RUNS)


def steps(*reasons: str) -> dict[str, Any]:
    return {"steps": [{"action": "start", "reason": reason} for reason in reasons]}


def test_steps_stand_in_the_order_of_tasks_and_of_one_task_by_host(run: int, tmp_path: Path) -> None:
    asked = {"steps_json": str(tmp_path / "steps.json")}
    for task, host, batch, reasons in (
        ("write", "b", ["a", "b"], ("1", "2")), ("write", "a", ["a", "b"], ("3",)),  # at the same time
        ("start", "b", ["b"], ("4",)), ("start", "a", ["a"], ("5",)),  # serial: one host after the other
        ("start", "a", ["a"], ("6",)),  # once more, in a loop
    ):
        results.keep(run, asked, steps(*reasons), task, host, batch)
        results.keep(run, asked, {"changed": False}, "look", host, batch)
    written = json.loads((tmp_path / "steps.json").read_text())
    assert [(step["host"], step["reason"]) for step in written] == [("a", "3"), ("b", "1"), ("b", "2"), ("b", "4"), ("a", "5"), ("a", "6")]


def test_a_run_that_does_nothing_has_written_an_empty_list_over_what_was_there(run: int, tmp_path: Path) -> None:
    (tmp_path / "steps.json").write_text('[{"action": "start"}]')
    results.keep(run, {"steps_json": str(tmp_path / "steps.json")}, {"changed": False}, "validate", "a", ["a"])
    assert json.loads((tmp_path / "steps.json").read_text()) == []


def test_the_last_word_on_each_node_is_written_and_a_measurement_in_its_place(run: int, tmp_path: Path) -> None:
    asked = {"result_json": str(tmp_path / "result.json")}
    for lines in ([{"node": "b", "lost": None}], [{"node": "b", "lost": 0}, {"node": "a", "lost": 1}]):
        results.keep(run, asked, {"ledger": lines}, "nodes", "web1", ["web1"])
    assert json.loads((tmp_path / "result.json").read_text()) == [{"node": "a", "lost": 1}, {"node": "b", "lost": 0}]
    results.keep(run, asked, {"report": {"latency": {}, "sent": 4}}, "load", "web1", ["web1"])
    assert json.loads((tmp_path / "result.json").read_text()) == {"latency": {}, "sent": 4}


def test_a_file_that_cannot_be_written_is_named(run: int, tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match=r"steps_json = .*/no/where: cannot be written: No such file or directory"):
        results.keep(run, {"steps_json": str(tmp_path / "no" / "where")}, {}, "validate", "a", ["a"])
