"""What is remembered of a host before a rollout, group by group, and by which run it may be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.nodes import plan, snapshot
from tests.fakes.nodes import APP, FakeHost, converge, intent, seen, short

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "state").mkdir()
    return str(tmp_path)


def remembered(root: str) -> dict[str, list[str]]:
    """Return what is remembered, ``1.2 g1`` for slot, incarnation and generation."""
    found = snapshot.load(root)
    groups = found.groups if found else {}
    return {group: [f"{node.slot}.{node.incarnation} {node.generation}" for node in nodes] for group, nodes in groups.items()}


def undo(root: str, nodes: list[plan.Seen], declared: list[plan.Intent]) -> FakeHost:
    """Return the host once what is remembered has been brought back."""
    found, host = snapshot.load(root), FakeHost.of(nodes)
    assert found is not None
    intents = found.intents(APP, declared)
    converge(host, intents, lambda now: plan.make(APP, intents, now.nodes.values()))
    return host


def test_two_nodes_of_one_slot_were_brought_back_as_two_slots(root: str) -> None:
    # A rollout was cut short between start and stop: for a while both run.
    nodes = [seen("a.1.1"), seen("a.1.2", generation="g0"), seen("a.2.1")]
    snapshot.remember(root, nodes, {"a": "g2"}, "run")
    host = undo(root, nodes, [intent("a", 2, "g2")])
    assert {(name.slot, node.present.generation) for name, node in host.nodes.items()} == {(1, "g1"), (2, "g1")}


def test_a_node_in_its_restart_pause_was_not_brought_back(root: str) -> None:
    nodes = [seen("a.1.1"), seen("a.2.1", "failed"), seen("a.3.1", "failed", env=None), seen("b.1.1"), seen("b.1.2", "failed", "g0")]
    snapshot.remember(root, nodes, {"a": "g2"}, "run")
    assert remembered(root) == {"a": ["1.1 g1", "2.1 g1"], "b": ["1.1 g1"]}


def test_a_rollout_that_got_there_is_past_and_one_that_did_not_is_what_the_next_one_would_undo_to(root: str) -> None:
    before = [seen("a.1.1", generation="g1"), seen("b.1.1", generation="g1")]
    snapshot.remember(root, before, {"a": "g2", "b": "g2"}, "run 1")
    # Group a got there before the run was killed, b did not.
    now = [seen("a.1.2", generation="g2"), seen("b.1.1", generation="g1"), seen("b.2.2", generation="g2")]
    snapshot.remember(root, now, {"a": "g2", "b": "g2"}, "run 2")
    assert remembered(root) == {"a": ["1.1 g1"], "b": ["1.1 g1"]}
    snapshot.remember(root, now, {"a": "g3", "b": "g3"}, "run 3")
    assert remembered(root) == {"a": ["1.2 g2"], "b": ["1.1 g1"]}


def test_a_node_that_takes_no_new_tasks_did_not_make_a_failed_deploy_go_back_two_releases(root: str) -> None:
    before = [seen("a.1.1", generation="g1"), seen("a.2.1", generation="g1", quiesced=True)]
    snapshot.remember(root, before, {"a": "g2"}, "run 1")
    now = [seen("a.1.2", generation="g2"), seen("a.2.1", generation="g1", quiesced=True)]
    snapshot.remember(root, now, {"a": "g3"}, "run 2")
    assert remembered(root) == {"a": ["1.2 g2", "2.1 g1"]}


def test_a_group_of_which_the_new_nodes_only_crash_has_not_got_there(root: str) -> None:
    snapshot.remember(root, [seen("a.1.1", generation="g1")], {"a": "g2"}, "run 1")
    snapshot.remember(root, [seen("a.1.2", "failed", "g2")], {"a": "g3"}, "run 2")
    assert remembered(root) == {"a": ["1.1 g1"]}


def test_a_narrowed_run_remembers_and_forgets_its_own_groups(root: str) -> None:
    nodes = [seen("a.1.1"), seen("b.1.1")]
    snapshot.remember(root, nodes, {"a": "g2"}, "run 1", ["a"])
    assert remembered(root) == {"a": ["1.1 g1"]}
    snapshot.remember(root, nodes, {"b": "g3"}, "run 2", ["b"])
    assert remembered(root) == {"a": ["1.1 g1"], "b": ["1.1 g1"]}
    found = snapshot.load(root)
    assert found is not None
    assert found.is_of("run 2", {"b": "g3"}, ["b"])
    assert not found.is_of("run 1", {"a": "g2"}, ["a"])
    snapshot.forget(root, ["b"])
    assert remembered(root) == {"a": ["1.1 g1"]}
    snapshot.forget(root, ["a"])
    assert snapshot.load(root) is None


def test_the_scheduler_that_is_brought_back_comes_last_in_a_rollout_still(root: str) -> None:
    nodes = [seen("a.1.1"), seen("scheduler.1.1")]
    declared = [intent("a", 1, "g2"), intent("scheduler", 1, "g2", comes_last=True)]
    snapshot.remember(root, nodes, {one.group: one.generation for one in declared}, "run")
    found = snapshot.load(root)
    assert found is not None
    assert {one.group: one.comes_last for one in found.intents(APP, declared)} == {"a": False, "scheduler": True}
    assert short(undo(root, nodes, declared).done) == []
