"""Rollouts that start the new node first, and their undoing, with a real supervisord and real processes."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines import process

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.nodes import lease, snapshot
from tests.integration.supervised import Group, Site, site, sleeper
from tests.patience import until

if TYPE_CHECKING:
    pass

__all__ = ["site"]

#: Takes its time to end, as a worker does that has a task.
LINGER = ["sh", "-c", "trap 'sleep 3; exit' TERM; while :; do sleep 0.1; done"]
BROKEN = ["sh", "-c", "echo no broker here; exit 3"]


@pytest.fixture(autouse=True)
def overlapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain commands stand in for workers, which may run side by side."""
    monkeypatch.setattr(process.ENGINE, "overlaps", True)


def lingerer(nodes: int = 1, **keys: Any) -> Group:
    return sleeper(nodes=nodes, **{"command": LINGER, **keys})


def alive(pid: int | None) -> bool:
    return pid is not None and os.path.exists(f"/proc/{pid}")


def test_the_new_node_runs_before_the_old_one_is_told_to_go_and_nobody_waits_for_its_end(site: Site) -> None:
    site.converge([lingerer(2)])
    old = site.pids()
    done = site.converge([lingerer(2, env={"NEW": "1"})])
    assert done.steps == [
        "write a.1.2", "reload", "enable a.1.2", "start a.1.2", "disable a.1.1", "stop a.1.1",
        "write a.2.2", "reload", "enable a.2.2", "start a.2.2", "disable a.2.1", "stop a.2.1"]
    assert alive(old["a.2.1"]) and site.present()["a.2.1"].activity == "stopping"
    until(lambda: not any(map(alive, old.values())))
    assert site.converge([lingerer(2, env={"NEW": "1"})]).steps == ["remove a.1.1", "remove a.2.1"]
    assert sorted(site.present()) == ["a.1.2", "a.2.2"]
    assert not site.env_file("a.1.1").exists()


def test_a_run_that_is_to_wait_for_the_drain_waits_and_removes_what_is_left(site: Site) -> None:
    site.converge([lingerer()])
    old = site.pids()
    done = site.converge([lingerer(env={"NEW": "1"})], rollout={"wait_for_drain": True})
    assert done.steps[-3:] == ["disable a.1.1", "stop a.1.1", "remove a.1.1"]
    assert not alive(old["a.1.1"])


def test_a_node_too_many_drains_in_the_background(site: Site) -> None:
    site.converge([lingerer(2)])
    assert site.converge([lingerer()]).steps == ["disable a.2.1", "stop a.2.1"]
    assert site.present()["a.2.1"].activity == "stopping"


def fail(site: Site, groups: list[Group], **more: Any) -> WorkfleetError:
    """Run into the failure of a node and return it."""
    with pytest.raises(WorkfleetError) as caught:
        site.work(groups, **{"rollout": {"monitor_seconds": 2}, **more})
    return caught.value


def test_a_rollout_that_fails_has_cost_no_node_and_is_undone_to_the_letter(site: Site) -> None:
    before = [lingerer(3, env={"VERSION": "1"}), sleeper("gone")]
    site.converge(before)
    until(lambda: all(node.generation for node in site.present().values()))  # its process has become the node's
    old = site.present()
    # The first node comes up, the second does not: its file of flags is not there any more.
    flag = Path(site.root, "flag")
    flag.touch()
    once = ["sh", "-c", f"[ -e {flag} ] || exit 3; rm {flag}; while :; do sleep 0.1; done"]
    after = [lingerer(3, env={"VERSION": "2"}, command=once), sleeper("came")]
    error = fail(site, after)
    assert "workfleet.shop.a.2.2 does not stay up" in str(error)
    assert all(alive(old[name].pid) for name in ("a.2.1", "a.3.1"))
    remembered = snapshot.load(site.root)
    assert remembered is not None and stat.S_IMODE(os.stat(snapshot.path(site.root)).st_mode) == 0o600
    site.work(after, undo=True, cleans=[])
    running = {name: node for name, node in site.present().items() if node.activity == "running"}
    assert sorted(name.rpartition(".")[0] for name in running) == ["a.1", "a.2", "a.3", "gone.1"]
    assert {running[name].pid for name in ("a.2.1", "a.3.1")} == {old[name].pid for name in ("a.2.1", "a.3.1")}
    again = next(node for node in running.values() if (node.name.group, node.name.slot) == ("a", 1))
    assert again.generation == old["a.1.1"].generation
    assert b"VERSION=1" in Path(f"/proc/{again.pid}/environ").read_bytes().split(b"\0")
    assert not os.path.exists(snapshot.path(site.root))
    # Nobody told the inventory; with the old one all is well and as it was declared.
    until(lambda: "stopping" not in {node.activity for node in site.present().values()})
    site.work(before)
    assert site.pids().keys() == running.keys()
    assert {name: site.pids()[name] for name in running} == {name: node.pid for name, node in running.items()}


def test_an_undo_where_nothing_was_replaced_touches_nothing(site: Site) -> None:
    site.converge([sleeper()])
    site.converge([sleeper(env={"A": "1"})])  # ended well, so it is forgotten
    pids = site.pids()
    nothing = site.work([sleeper(env={"A": "1"})], undo=True)
    assert nothing.steps == []
    assert "workfleet.shop.a.1.2" in {node["unit"] for node in nothing.nodes}
    assert site.pids() == pids


def test_a_rollout_that_ended_well_here_can_be_undone_while_other_hosts_have_yet_to_follow(site: Site) -> None:
    site.converge([sleeper(env={"A": "1"})])
    site.work([sleeper(env={"A": "2"})], undoable=True)
    assert site.work([sleeper(env={"A": "3"})], undo=True).steps == []  # another rollout's undo is not ours
    site.work([sleeper(env={"A": "2"})], undo=True)
    node, = (node for node in site.present().values() if node.is_up)
    assert b"A=1" in Path(f"/proc/{node.pid}/environ").read_bytes().split(b"\0")


def test_what_ran_before_a_rollout_that_was_cut_short_is_what_an_undo_of_the_next_brings_back(site: Site) -> None:
    site.converge([sleeper(nodes=2, env={"A": "1"})])
    fail(site, [sleeper(nodes=2, env={"A": "2"}, command=BROKEN)])
    fail(site, [sleeper(nodes=2, env={"A": "3"}, command=BROKEN)])
    site.work([sleeper(nodes=2, env={"A": "3"}, command=BROKEN)], undo=True)
    up = [node for node in site.present().values() if node.is_up]
    assert [node.activity for node in up] == ["running"] * 2
    assert all(b"A=1" in Path(f"/proc/{node.pid}/environ").read_bytes().split(b"\0") for node in up)


def test_a_successor_that_crashes_a_moment_after_its_start_does_not_cost_the_old_node_in_the_next_run_either(site: Site) -> None:
    site.converge([sleeper()])
    old = site.pids()["a.1.1"]
    moment = sleeper(command=["sh", "-c", "sleep 2; exit 3"])
    for _ in range(2):
        assert "does not stay up" in str(fail(site, [moment], rollout={"monitor_seconds": 4, "failure_action": "pause"}))
        assert alive(old)


def test_a_node_that_crashed_in_an_earlier_run_and_is_up_since_failed_every_run_until_it_was_stopped_by_hand(site: Site) -> None:
    site.converge([sleeper()])
    flag = Path(site.root, "flag")
    new = [sleeper(command=["sh", "-c", f"[ -e {flag} ] || exit 3; exec sleep 1000"])]
    pause = {"monitor_seconds": 2, "failure_action": "pause"}
    assert "does not stay up" in str(fail(site, new, rollout=pause))
    flag.touch()
    until(lambda: site.present()["a.1.2"].activity == "running")
    shaky = site.present()["a.1.2"]
    assert shaky.restarts
    site.work(new, rollout=pause)
    assert {name: node.pid for name, node in site.present().items() if node.is_up} == {"a.1.2": shaky.pid}


@pytest.mark.parametrize("was_well", [True, False])
def test_an_undo_was_called_done_while_a_node_that_had_not_been_replaced_only_crashed(site: Site, was_well: bool) -> None:
    flag = Path(site.root, "flag")
    old = [sleeper(), sleeper("b", command=["sh", "-c", f"while [ ! -e {flag} ]; do sleep 0.1; done; sleep 2; exit 3"])]
    site.converge(old)
    rollout = {"monitor_seconds": 4}
    if not was_well:
        flag.touch()
        until(lambda: bool(site.present()["b.1.1"].restarts))
    until(lambda: site.present()["b.1.1"].activity == "running")
    # Both groups are stale; the second one is not reached.
    new = [sleeper(command=BROKEN), {**old[1], "env": {"A": "2"}}]
    if was_well:
        time.sleep(4)
    fail(site, new, rollout=rollout)
    flag.touch()
    until(lambda: bool(site.present()["b.1.1"].restarts) and site.present()["b.1.1"].activity == "running")
    said = str(fail(site, new, rollout=rollout, undo=True))
    assert "workfleet.shop.b.1.1 does not stay up" in said
    assert ("Before the rollout it had not been ready for 4 s either" in said) is not was_well
    # The rest is as it was all the same.
    assert [name for name, node in site.present().items() if node.is_up and node.name.group == "a"] == ["a.1.1"]


def test_a_canary_is_one_node_and_what_follows_replaces_the_others(site: Site) -> None:
    site.converge([sleeper(nodes=3), sleeper("b")])
    new = [sleeper(nodes=3, env={"A": "2"}), sleeper("b")]
    foretold = [*site.work(new, check=True, canary="only").steps, *site.work(new, check=True, canary="done").steps]
    first = site.work(new, canary="only", undoable=True)
    assert first.stale == 2
    assert [step for step in first.steps if step.startswith("start")] == ["start a.1.2"]
    second = site.work(new, canary="done", cleans=[])
    assert [*first.steps, *second.steps] == foretold
    assert sorted(name for name, node in site.present().items() if node.is_up) == ["a.1.2", "a.2.2", "a.3.2", "b.1.1"]


# -- the host belongs to the run that rolls out ------------------------------------------------------------------------


def variables(site: Site) -> set[bytes]:
    """Return the A of every node that takes tasks."""
    return {word for node in site.present().values() if node.activity == "running"
            for word in Path(f"/proc/{node.pid}/environ").read_bytes().split(b"\0") if word.startswith(b"A=")}


def refused(site: Site, groups: list[Group], **more: Any) -> WorkfleetError:
    """Return the refusal of another run, and see that it has nothing to undo."""
    reconciler = site.reconciler(site.request(groups, **{"run": "run 2", **more}))
    with pytest.raises(WorkfleetError, match="somebody is changing the nodes of shop") as caught:
        reconciler.call()
    assert caught.value.details["locked"]
    assert not reconciler.can_undo()
    return caught.value


def test_a_run_that_was_refused_the_host_took_the_other_runs_rollout_back(site: Site) -> None:
    site.converge([sleeper(env={"A": "1"})])
    new = [sleeper(env={"A": "2"})]
    site.work(new, undoable=True)
    # It is on another host now; here a second play of the same declaration comes, and one of another.
    refused(site, new, undoable=True)
    refused(site, [sleeper(env={"A": "3"})])
    refused(site, [sleeper(state="stopped")])
    assert site.work(new, run="run 2", undo=True).steps == []
    assert variables(site) == {b"A=2"}
    site.work(new, undo=True, undoable=True)
    assert variables(site) == {b"A=1"}
    # It is undone, and the run goes on elsewhere: the host is still its own.
    refused(site, new)
    site.work(new, phase="end")
    site.converge(new, run="run 2")


def test_what_a_killed_run_has_begun_is_undone_by_the_run_that_goes_on_with_it(site: Site) -> None:
    site.converge([sleeper(env={"A": "1"})])
    new = [sleeper(env={"A": "2"})]
    site.work(new, undoable=True)
    refused(site, new)
    # Nothing is left to do here; this run knows that the process of the other one is gone.
    later: dict[str, Any] = {"run": "run 2", "ended_run": "run 1"}
    assert site.work(new, undoable=True, cleans=[], **later).steps == []
    assert site.work(new, undo=True).steps == []
    site.work(new, undo=True, **later)
    assert variables(site) == {b"A=1"}
    assert snapshot.load(site.root) is None


def test_the_lease_of_a_run_that_does_not_come_back_runs_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RUN_LEASE_SECONDS", 2)
    site.work([sleeper(env={"A": "1"})])
    site.work([], undoable=True, phase="begin")
    refused(site, [sleeper(env={"A": "2"})])
    time.sleep(2)
    site.work([sleeper(env={"A": "2"})], run="run 2")
    assert variables(site) == {b"A=2"}


def test_a_run_takes_the_host_before_it_touches_a_node_and_gives_it_back(site: Site) -> None:
    old = [sleeper(env={"A": "1"})]
    site.converge(old)
    new = [sleeper(env={"A": "2"})]
    assert site.work(new, undoable=True, phase="begin").steps == []
    assert variables(site) == {b"A=1"}
    refused(site, new)
    site.work(new, undoable=True)
    site.work(new, phase="pause", run="run 2")  # not its to give back
    refused(site, old)
    site.work(new, phase="pause")
    assert snapshot.load(site.root) is not None
    site.work(new, phase="end", run="run 2", ended_run="run 1")
    assert snapshot.load(site.root) is None


def test_a_host_of_which_nothing_was_stale_stays_with_the_run_too(site: Site) -> None:
    new = [sleeper(env={"A": "2"})]
    other = [sleeper(env={"A": "3"})]
    site.work(new, undoable=True, phase="begin")
    site.work(new, undoable=True)
    refused(site, other)
    site.work(new, phase="end")
    site.converge(other, run="run 2")


def test_a_run_that_takes_a_host_takes_over_what_a_killed_one_had_done_there(site: Site) -> None:
    """It may fail on another host before it comes to this one, and takes that back then."""
    site.converge([sleeper(env={"A": "1"})], release="old")
    new = [sleeper(env={"A": "2"})]
    site.work(new, undoable=True, release="new")
    later: dict[str, Any] = {"run": "run 2", "ended_run": "run 1", "undoable": True, "release": "new"}
    begun = site.reconciler(site.request(new, phase="begin", **later)).call()
    assert begun.remembered and begun.steps == []
    site.work(new, undo=True, **later)
    assert variables(site) == {b"A=1"}


def test_the_undo_of_workers_leaves_what_sends_tasks_to_a_task_of_its_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a rollback that has gone first: back on the new release it would send what the workers do not know any more."""
    old = [sleeper(env={"A": "1"}), sleeper("sender", env={"B": "1"})]
    site.converge(old)
    new = [sleeper(env={"A": "2"}, command=BROKEN), sleeper("sender", env={"B": "2"})]

    def last(request: dict[str, Any]) -> dict[str, Any]:
        return {**request, "groups": [{**group, "comes_last": group["name"] == "sender"} for group in request["groups"]]}

    plain = site.request
    monkeypatch.setattr(site, "request", lambda *words, **more: last(plain(*words, **more)))
    site.work(new, undoable=True, singles="only")
    assert "sender.1.2" in site.pids()
    fail(site, new, undoable=True, singles="later")
    site.work(new, undoable=True, singles="later", undo=True, cleans=[])
    assert {"a.1", "sender.1"} == {name.rpartition(".")[0] for name in site.pids()} and site.pids()["sender.1.2"]
    assert variables(site) == {b"A=1"}
    # With the others it can go back yet.
    site.work(new, undoable=True, singles="only", undo=True, cleans=[])
    assert site.pids().get("sender.1.2") is None and site.pids()["sender.1.3"]


def test_counts_are_not_changed_in_the_middle_of_a_rollout(site: Site) -> None:
    old = [sleeper(env={"A": "1"}), sleeper("b")]
    site.converge(old)
    new = [sleeper(env={"A": "2"}), sleeper("b")]
    site.work(new, undoable=True, only=["a"])
    # As with `current`, which still is the old release: the autoscaler would start nodes of it beside the new ones.
    tick: dict[str, Any] = {"with_rollout": False, "run": "tick", "only": ["a"], "scale": {"a": {"nodes": 3, "by": "it", "follows": True}}}
    for check in (True, False):
        told = site.reconciler(site.request(old, **tick), check=check).call()
        assert told.steps == [] and "as many nodes as before, for somebody is changing them" in told.notes[0]
    # The run was killed, and its lease has run out.
    tick["ended_run"] = "run 1"
    told = site.reconciler(site.request(old, **tick)).call()
    assert told.steps == [] and "site.yml, deploy.yml or rollback.yml ends it" in told.notes[0]
    by_hand = {**tick, "scale": {"a": {"nodes": 3, "by": "anna"}}}
    with pytest.raises(WorkfleetError, match="the number of nodes was not changed: a rollout is under way on this host"):
        site.work(old, **by_hand)
    assert snapshot.load(site.root) is not None
    assert sorted(name for name, node in site.present().items() if node.activity == "running") == ["a.1.2", "b.1.1"]
    # Another group's count may change, and that is no end of the rollout either.
    site.work(new, **{**tick, "only": ["b"], "scale": {"b": {"nodes": 2, "by": "anna"}}})
    assert "b.2.1" in site.present() and snapshot.load(site.root) is not None
    site.work(new, run="run 2")
    assert snapshot.load(site.root) is None
    site.work(new, **by_hand)
    assert variables(site) == {b"A=2"} and len(site.present()) >= 5
