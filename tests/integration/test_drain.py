"""Nodes that are told to take no new tasks: what they finish, what goes back, that they stay so, and that they go on when told."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.release import preflight
from tests.integration.drained import Drained, Group, Made, made
from tests.integration.supervised import site
from tests.patience import is_within, until

__all__ = ["made", "site"]
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")
QUIET = ("draining", "told to take no new tasks; resume.yml ends that")
#: A drain ends so soon after its last task: the figure to reach.
LAG = 0.5


def line(result: dict[str, Any]) -> dict[str, Any]:
    """The ledger's only line."""
    assert len(result["ledger"]) == 1
    return dict(result["ledger"][0])


@pytest.mark.parametrize(("engine", "keys", "finished", "unacked", "back"), [
    ("celery", {"options": {"pool": "prefork", "prefetch_multiplier": 3}}, 2, 6, 6),
    ("celery", {"options": {"pool": "threads", "prefetch_multiplier": 3}}, 2, 6, 6),
    ("celery", {"options": {"pool": "solo", "prefetch_multiplier": 1}, "concurrency": None}, 1, 0, 0),
    ("arq", {}, 2, 0, 0),
    ("chicory", {}, 2, 0, 0),
], ids=["prefork", "threads", "solo", "arq", "chicory"])
def test_a_node_finishes_what_it_runs_takes_nothing_more_and_stays_so_beyond_its_death_until_it_is_resumed(
    made: Made, engine: str, keys: dict[str, Any], finished: int, unacked: int, back: int, record_property: Callable[[str, object], None],
) -> None:
    fleet = made(engine)
    group = {key: value for key, value in fleet.group(**keys).items() if value is not None}
    fleet.converge(group)
    pid = fleet.site.pids()["w.1.1"]
    names = {f"t{number}" for number in range(8)}
    fleet.send(*((name, 4) for name in sorted(names)))
    hidden = keys.get("options", {}).get("pool") == "solo"
    places = 1 if hidden else 2
    fleet.begun(places)
    if unacked:  # until it has fetched all that it may
        until(lambda: fleet.redis.call("HLEN", "unacked", db=3) == unacked, 3)

    foretold = fleet.call(group, check=True)
    assert foretold["steps"] == ["drain w.1.1"] and fleet.noted("end") == {}
    told = fleet.call(group)
    ended = fleet.noted("end")
    lag = told["ended"] - max(times[0] for times in ended.values())
    record_property("lag", round(lag, 2))
    record_property("ledger", line(told))
    assert told["steps"] == foretold["steps"] and told["unfinished"] == []
    assert lag < LAG
    counted = {"running_before": None if hidden else places, "finished": None if hidden else finished, "returned": back, "lost": 0,
               "duplicates": 0, "state": "idle"}
    assert {key: value for key, value in line(told).items() if key in counted} == counted
    if engine == "celery":
        assert fleet.queued() == sorted(names - set(ended)), "nothing that was taken comes behind what was not"
    assert set(fleet.noted("begin")) == set(ended) and len(ended) >= finished
    assert fleet.states(group) == {"w.1": QUIET}
    assert fleet.call(group)["steps"] == [], "told once"
    assert fleet.site.pids()["w.1.1"] == pid

    os.kill(int(pid or 0), signal.SIGKILL)
    until(lambda: fleet.site.pids()["w.1.1"] not in (None, pid) and fleet.states(group) == {"w.1": QUIET})
    time.sleep(2)
    assert set(fleet.noted("begin")) == set(ended), "the new process took a task"

    assert fleet.call(group, check=True, resume=True)["steps"] == ["live w.1.1"]
    resumed = fleet.call(group, resume=True)
    assert resumed["steps"] == ["live w.1.1"] and resumed["unfinished"] == []
    assert fleet.states(group)["w.1"][0] == "ready"
    until(lambda: set(fleet.noted("end")) == names)
    assert {len(times) for times in fleet.noted("begin").values()} == {1}, "none ran twice"
    assert fleet.call(group, resume=True)["steps"] == []


def test_a_node_that_is_too_busy_to_heed_its_mark_is_not_replaced_by_one_that_takes_tasks(made: Made) -> None:
    fleet = made("celery")
    keys = {"options": {"pool": "solo", "prefetch_multiplier": 1}, "concurrency": None}
    group = {key: value for key, value in fleet.group(**keys).items() if value is not None}
    fleet.converge(group)
    fleet.send(("long", 60), ("next", 0))
    fleet.begun(1)
    pids = fleet.site.pids()
    assert fleet.call(group, wait=False)["steps"] == ["drain w.1.1"]
    record = fleet.site.present()["w.1.1"].record
    assert record is not None and record.quiesced is None
    fleet.variables["COLOUR"] = "red"
    assert fleet.site.work([group], rollout={"ready_timeout_seconds": 60}).steps == []
    assert (fleet.site.pids(), list(fleet.noted("begin"))) == (pids, ["long"])


def test_what_waits_for_its_time_or_its_rate_goes_back_into_the_queue(made: Made) -> None:
    fleet = made("celery")
    group = fleet.group(options={"pool": "prefork", "prefetch_multiplier": 10}, settings={"task_default_rate_limit": "1/h"})
    fleet.converge(group)
    fleet.send(("now", 0.1))
    until(lambda: "now" in fleet.noted("end"))
    fleet.send(*((f"limited{number}", 0.1) for number in range(3)))
    fleet.send(("later", 0.1), countdown=3600)
    until(lambda: fleet.redis.call("HLEN", "unacked", db=3) == 4)
    told = fleet.call(group)
    assert not told["more"]
    assert [line(told)[key] for key in ("state", "returned", "finished", "lost")] == ["idle", 4, 0, 0]
    assert fleet.queued() == ["limited0", "limited1", "limited2", "later"] and fleet.redis.call("HLEN", "unacked", db=3) == 0


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_broker_that_comes_back_finds_a_quiet_celery_node_as_quiet_as_before(made: Made, pool: str) -> None:
    fleet = made("celery")
    group = fleet.group(options={"pool": pool}, concurrency=1)
    fleet.converge(group)
    pid = fleet.site.pids()
    fleet.call(group)
    for kind in ("normal", "pubsub"):
        fleet.redis.call("CLIENT", "KILL", "TYPE", kind)
    fleet.send(("after", 0.1))
    until(lambda: fleet.states(group) == {"w.1": QUIET})
    time.sleep(2)
    assert fleet.redis.call("LLEN", "work", db=3) == 1 and fleet.noted("begin") == {}
    fleet.call(group, resume=True)
    until(lambda: "after" in fleet.noted("end"))
    assert fleet.site.pids() == pid


def test_a_celery_worker_that_a_command_of_the_users_own_starts_is_told_over_the_broker(made: Made) -> None:
    fleet = made("celery")
    command = ["python", "-m", "celery", "-A", "noted", "worker", "-n", "shop.w.1.1@h1", "-Q", "work", "-c", "2", "-P", "threads"]
    group = fleet.group(command=command, queues=[], concurrency=None)
    group = {key: value for key, value in group.items() if value is not None}
    fleet.converge(group)
    until(lambda: fleet.states(group)["w.1"][0] == "ready")
    fleet.send(("first", 1.5))
    fleet.begun(1)
    told = fleet.call(group)
    lag = told["ended"] - fleet.noted("end")["first"][0]
    assert lag < LAG, lag
    assert (line(told)["running_before"], line(told)["finished"], line(told)["state"]) == (1, 1, "idle")
    fleet.send(("second", 0.1))
    time.sleep(1.5)
    assert "second" not in fleet.noted("begin") and fleet.states(group) == {"w.1": QUIET}
    pid = fleet.site.pids()["w.1.1"]
    os.kill(int(pid or 0), signal.SIGKILL)  # it heeds no mark: the next process consumes, until it is told again
    until(lambda: "second" in fleet.noted("end"))
    assert fleet.call(group)["steps"] == ["drain w.1.1"] and fleet.states(group) == {"w.1": QUIET}
    fleet.send(("third", 0.1))
    fleet.call(group, resume=True)
    until(lambda: "third" in fleet.noted("end"))
    assert fleet.states(group)["w.1"][0] == "ready"


@pytest.mark.parametrize(("engine", "task", "expected"), [
    ("celery", "work", {"lost": 1, "duplicates": 0, "returned": 0}),
    ("celery", "late", {"lost": 0, "duplicates": 1, "returned": 1}),
    ("arq", "work", {"lost": 0, "duplicates": 1, "returned": 1}),
    ("chicory", "work", {"lost": 0, "duplicates": 1, "returned": 1}),
    ("chicory", "once", {"lost": 1, "duplicates": 0, "returned": 0}),
])
def test_a_node_that_dies_while_it_drains_is_accounted_for_honestly(
    made: Made, engine: str, task: str, expected: dict[str, int],
) -> None:
    fleet = made(engine)
    options: dict[str, Any] = {"options": {"prefetch_multiplier": 1}} if engine == "celery" else {}
    group = fleet.at_work(("killed", 60), task=task, concurrency=1, **options)
    first = fleet.call(group, calls=1, deadline_seconds=2)
    assert first["more"] and any("for" in said for said in fleet.progress)
    os.kill(int(fleet.site.pids()["w.1.1"] or 0), signal.SIGKILL)
    order = {"since": first["since"], "known": first["known"]}
    result = _go_on(fleet, group, order)
    found = line(result)
    assert {key: found[key] for key in expected} == expected, found
    assert (found["running_before"], found["finished"], found["state"]) == (1, 0, "died")


def _go_on(fleet: Drained, group: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    from plugins.module_utils.workfleet.nodes import drain

    host_nodes = fleet.site.host_nodes(fleet.site.request([group]))
    return drain.Drain(host_nodes, drain.Order(patience={"w": 60}, **order), check=False).call()


def test_a_drain_that_takes_too_long_says_who_runs_what_and_waits_on(made: Made) -> None:
    fleet = made("celery")
    group = fleet.at_work(("long", 8), concurrency=1)
    told = fleet.call(group, patience=2)
    assert any(said.startswith("w 1: work for ") and said.endswith("; longer than its 2 s, and waited for") for said in fleet.progress)
    assert "long" in fleet.noted("end") and told["unfinished"] == []
    assert (line(told)["lost"], line(told)["state"]) == (0, "idle")


@pytest.mark.parametrize(("task", "lost"), [("work", 1), ("late", 0)])
def test_a_drain_that_takes_too_long_kills_where_that_is_asked_for_and_the_node_comes_back_quiet(made: Made, task: str, lost: int) -> None:
    fleet = made("celery")
    group = fleet.at_work(("long", 60), task=task, concurrency=1)
    told = fleet.call(group, patience=2, rollout={"drain_timeout_action": "kill", "ready_timeout_seconds": 60})
    found = line(told)
    assert {key: found[key] for key in ("running_before", "finished", "returned", "lost", "duplicates", "state")} == {
        "running_before": 1, "finished": 0, "returned": 1 - lost, "lost": lost, "duplicates": 1 - lost, "state": "killed"}
    assert [(cut["task"], cut["lost"]) for cut in found["cut_short"]] == [(task, bool(lost))]
    fleet.send(("after", 0.1))
    until(lambda: fleet.site.pids()["w.1.1"] is not None and fleet.states(group) == {"w.1": QUIET})
    time.sleep(1)
    assert "after" not in fleet.noted("begin")


def test_without_waiting_the_nodes_are_only_told(made: Made) -> None:
    fleet = made("arq")
    group = fleet.at_work(("long", 3))
    begun = time.monotonic()
    told = fleet.call(group, wait=False)
    assert told["steps"] == ["drain w.1.1"] and not told["more"] and is_within(time.monotonic() - begun, 2)
    assert fleet.noted("end") == {}


def test_a_worker_that_cannot_be_told_is_refused_before_any_is(made: Made) -> None:
    fleet = made("arq")
    groups = [fleet.group(), {"name": "own", "engine": "arq", "command": ["arq", "noted.WorkerSettings"]}]
    fleet.converge(*groups)
    with pytest.raises(WorkfleetError, match="no node was told: group own: a worker of engine arq that a command of your own starts"):
        fleet.call(*groups)
    assert not list(Path(fleet.site.root, "env").glob("*.quiesced"))
    assert fleet.call(*groups, only=["w"])["steps"] == ["drain w.1.1"]
    fleet.site.work([groups[0], {**groups[1], "state": "stopped"}])
    assert fleet.call(*groups, resume=True)["steps"] == ["live w.1.1"], "what is stopped, and was never told, is in nobody's way"


def test_a_node_of_the_same_name_as_a_quiet_one_that_was_removed_takes_tasks(made: Made) -> None:
    fleet = made("arq")
    group = fleet.group()
    fleet.converge(group)
    fleet.call(group)
    fleet.site.work([{**group, "state": "absent"}])
    fleet.converge(group)
    assert fleet.states(group)["w.1"] == ("ready", None)


def test_a_node_that_was_drained_and_then_stopped_takes_tasks_when_it_was_resumed_and_started(made: Made) -> None:
    fleet = made("arq")
    group = fleet.group()
    fleet.converge(group)
    fleet.call(group)
    assert quiesced(fleet, group) == ["w 1"]
    assert quiesced(fleet, {**group, "nodes": 0}) == quiesced(fleet, {**group, "state": "stopped"}) == quiesced(fleet, group, only=[]) == []
    fleet.site.work([{**group, "state": "stopped"}])
    assert quiesced(fleet, group) == quiesced(fleet, {**group, "env": {"TURN": "2"}}, release="0123456789ab") == []
    assert quiesced(fleet, group, release="0123456789ab") == ["w 1"], "it would be started under its name, and quiet"
    assert fleet.call(group, check=True, resume=True)["steps"] == fleet.call(group, resume=True)["steps"] == ["live w.1.1"]
    assert quiesced(fleet, group, release="0123456789ab") == []
    fleet.converge(group)
    assert fleet.states(group)["w.1"] == ("ready", None)


def quiesced(fleet: Drained, group: Group, release: str | None = None, **more: Any) -> list[str]:
    """Return the nodes for which a deploy is refused."""
    return preflight.quiesced(fleet.site.host_nodes(fleet.site.request([group], release=release, **more)), release)
