"""Old nodes of a rollout, with real workers: they have the stop signal when they are idle, and tell what became of their tasks."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.workfleet.model import Name
from plugins.module_utils.workfleet.nodes import leave
from tests.integration.drained import Drained, Made, made
from tests.integration.supervised import site
from tests.patience import is_within, until

__all__ = ["made", "site"]
OLD, UNTOLD = "shop.w.1.1@h1", dict.fromkeys(("finished", "returned", "lost", "duplicates"))


def replaced(fleet: Drained, group: dict[str, Any], **rollout: Any) -> Any:
    """Replace the node."""
    fleet.variables["COLOUR"] = str(time.time())
    return fleet.site.work([group], rollout={"ready_timeout_seconds": 60, **rollout})


def note(fleet: Drained) -> Path:
    return Path(fleet.site.root, "env", "workfleet.shop.w.1.1.leaving")


def gone(fleet: Drained) -> bool:
    """Whether what became of the old node is written down."""
    return not leave.pending(fleet.site.manager)


@pytest.mark.parametrize(("engine", "options", "before", "returned"), [
    ("celery", {"prefetch_multiplier": 3}, 2, 6), ("celery", {"pool": "threads", "prefetch_multiplier": 3}, 2, 6),
    ("arq", {}, 2, 0), ("chicory", {}, 2, 0),
], ids=["prefork", "threads", "arq", "chicory"])
def test_a_node_that_drains_in_the_background_is_told_of_by_the_run_and_then_by_the_next(
    made: Made, engine: str, options: dict[str, Any], before: int, returned: int,
) -> None:
    fleet = made(engine)
    group = fleet.at_work(*((f"t{number}", 16) for number in range(8)), options=options)
    if returned:  # until it has fetched all that it may
        until(lambda: fleet.redis.call("HLEN", "unacked", db=3) == returned)
    done = replaced(fleet, group)
    assert {key: done.ledger[OLD][key] for key in UNTOLD} == UNTOLD and done.ledger[OLD]["state"] == "draining"
    until(lambda: gone(fleet))
    again = fleet.site.work([group])
    assert again.steps == ["remove w.1.1"]
    line = again.ledger[OLD]
    assert {**line, "seconds": 0} == {"node": OLD, "running_before": before, "finished": before, "returned": returned, "lost": 0,
                                      "duplicates": 0, "seconds": 0, "state": "gone"}
    assert line["seconds"] > 0 and is_within(line["seconds"], 17)
    assert not note(fleet).exists() and fleet.site.work([group]).ledger == {}
    until(lambda: len(fleet.noted("end")) == 8, 120)
    assert {len(times) for times in fleet.noted("begin").values()} == {1}


def test_a_run_that_waits_has_the_whole_line_and_waits_beyond_the_time_where_nothing_is_to_be_killed(made: Made) -> None:
    fleet = made("celery")
    group = fleet.at_work(("long", 24), concurrency=1, drain_seconds=2)  # supervisor would kill after 17 s
    begun = time.monotonic()
    done = replaced(fleet, group, wait_for_drain=True)
    assert time.monotonic() - begun > 18
    assert any("longer than drain_seconds, and waited for: w 1" in said for said in done.doing)
    assert {key: done.ledger[OLD][key] for key in ("running_before", "finished", "lost", "state")} == {
        "running_before": 1, "finished": 1, "lost": 0, "state": "gone"}
    assert len(fleet.noted("end")["long"]) == 1


@pytest.mark.parametrize(("engine", "task", "lost", "duplicates"), [
    ("celery", "work", 1, 0), ("celery", "late", 0, 1), ("arq", "work", 0, 1), ("chicory", "once", 1, 0)])
def test_a_node_is_killed_at_its_time_where_that_is_asked_for_and_the_ledger_names_what_that_cuts_short(
    made: Made, engine: str, task: str, lost: int, duplicates: int,
) -> None:
    fleet = made(engine)
    group = fleet.at_work(("killed", 60), task=task, concurrency=1, drain_seconds=3)
    pid = fleet.site.pids()["w.1.1"]
    done = replaced(fleet, group, drain_timeout_action="kill", wait_for_drain=True)
    assert not os.path.exists(f"/proc/{pid}")
    line = done.ledger[OLD]
    assert {key: line[key] for key in ("running_before", "finished", "returned", "lost", "duplicates", "state")} == {
        "running_before": 1, "finished": 0, "returned": 1 - lost, "lost": lost, "duplicates": duplicates, "state": "killed"}
    cut, = line["cut_short"]
    assert cut["id"] and cut["task"] == task and cut["seconds"] >= 3 and cut["lost"] == bool(lost)


def test_a_process_that_saw_nodes_off_and_was_killed_is_followed_by_that_of_the_next_run(made: Made) -> None:
    fleet = made("celery")
    group = fleet.at_work(("long", 10), concurrency=1)
    replaced(fleet, group)
    lock = Path(fleet.site.root, "state", "leaving.lock")
    holder = until(lambda: subprocess.run(["fuser", lock], capture_output=True, text=True, check=False).stdout.split())
    os.kill(int(holder[0]), signal.SIGKILL)
    until(lambda: "long" in fleet.noted("end"))
    time.sleep(1)
    assert fleet.site.present()["w.1.1"].activity == "stopping" and not gone(fleet)
    fleet.site.work([group])
    until(lambda: gone(fleet))
    assert fleet.site.work([group]).ledger[OLD]["finished"] == 1


def test_a_node_that_goes_is_no_drained_one_to_resume(made: Made) -> None:
    fleet = made("arq")
    group = fleet.at_work(("long", 8))
    replaced(fleet, group)
    assert fleet.call(group, resume=True)["steps"] == []
    assert fleet.call(group)["steps"] == ["drain w.1.2"]
    assert fleet.call(group, resume=True)["steps"] == ["live w.1.2"]
    until(lambda: gone(fleet))
    assert leave.notes(fleet.site.manager)[Name("shop", "w", 1, 1)].line


def test_what_somebody_else_tells_to_stop_while_it_drains_is_not_called_lost(made: Made) -> None:
    fleet = made("celery")
    group = fleet.at_work(("long", 12), concurrency=1)
    replaced(fleet, group)
    first = Name("shop", "w", 1, 1)
    until(lambda: (record := fleet.site.manager.lives([first])[first][1]) is not None and record.quiesced)
    pid = fleet.site.pids()["w.1.1"]
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    until(lambda: gone(fleet))
    assert len(fleet.noted("end")["long"]) == 1
    assert {**fleet.site.work([group]).ledger[OLD], "seconds": 0} == {
        "node": OLD, "running_before": None, **UNTOLD, "seconds": 0, "state": "gone"}


def test_a_node_that_was_drained_before_it_was_one_too_many_takes_tasks_when_it_is_wanted_again(made: Made) -> None:
    fleet = made("arq")
    group = fleet.group(nodes=2)
    fleet.converge(group)
    until(lambda: set(fleet.states(group)) == {"w.1", "w.2"} and {state for state, *_ in fleet.states(group).values()} == {"ready"})
    fleet.call(group)
    fleet.site.work([{**group, "nodes": 1}], rollout={"ready_timeout_seconds": 60})
    until(lambda: leave.notes(fleet.site.manager)[Name("shop", "w", 2, 1)].line)
    assert fleet.call({**group, "nodes": 1}, resume=True)["steps"] == ["live w.1.1", "live w.2.1"]
    assert not os.path.exists(fleet.site.manager.mark_path(Name("shop", "w", 2, 1)))


def test_a_node_that_heeds_no_mark_has_the_signal_at_once_and_of_its_tasks_nothing_is_told(made: Made) -> None:
    fleet = made("celery")
    command = ["python", "-m", "celery", "-A", "noted", "worker", "-Q", "work", "-c", "1", "-P", "threads"]
    group = {key: value for key, value in fleet.group(command=command, queues=[], concurrency=None).items() if value is not None}
    fleet.converge(group)
    until(lambda: fleet.states(group)["w.1"][0] == "ready")
    fleet.send(("first", 3))
    fleet.begun(1)
    done = replaced(fleet, group, wait_for_drain=True)
    assert {**done.ledger[OLD], "seconds": 0} == {"node": OLD, "running_before": None, **UNTOLD, "seconds": 0, "state": "gone"}
    assert "first" in fleet.noted("end")
