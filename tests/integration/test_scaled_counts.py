"""Counts that were set on a host, with a real supervisord: what keeps them, and what ends them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from tests.integration.supervised import Site, site, sleeper

__all__ = ["site"]


def to(nodes: int | None, group: str = "a", by: str = "somebody") -> dict[str, Any]:
    return {"scale": {group: {"nodes": nodes, "by": by}}}


def running(site: Site) -> list[str]:
    return sorted(name for name, pid in site.pids().items() if pid)


def file(site: Site) -> Any:
    return json.loads(Path(site.root, "state", "scale.json").read_text())


def test_a_count_that_was_set_is_kept_by_later_runs_until_the_inventory_changes(site: Site) -> None:
    site.converge([sleeper("a", 1), sleeper("b", 1)])
    done = site.converge([sleeper("a", 1), sleeper("b", 1)], **to(3))
    assert done.steps[:3] == ["write", "write a.2.1", "write a.3.1"]
    assert done.reasons[0] == "a: 3 nodes, set by somebody"
    assert running(site) == ["a.1.1", "a.2.1", "a.3.1", "b.1.1"]
    pids = site.pids()
    assert site.work([sleeper("a", 1), sleeper("b", 1)]).steps == []
    # Something else of the group may change.
    site.converge([sleeper("a", 1, drain_seconds=9), sleeper("b", 1)])
    assert site.pids() == pids
    assert file(site) == {"a": {"nodes": 3, "declared": 1, "by": "somebody"}}
    site.converge([sleeper("a", 2), sleeper("b", 1)])
    assert running(site) == ["a.1.1", "a.2.1", "b.1.1"]
    # The count is forgotten, not asleep.
    assert file(site) == {}
    site.converge([sleeper("a", 1), sleeper("b", 1)])
    assert running(site) == ["a.1.1", "b.1.1"]


def test_the_inventorys_count_holds_again_when_that_is_asked_for(site: Site) -> None:
    site.converge([sleeper("a", 2)], **to(0))
    assert running(site) == []
    assert site.work([sleeper("a", 2)]).steps == []
    site.converge([sleeper("a", 2)], **to(None))
    assert running(site) == ["a.1.1", "a.2.1"]


def test_setting_the_same_count_again_does_nothing(site: Site) -> None:
    site.converge([sleeper("a", 1)], **to(2))
    assert site.work([sleeper("a", 1)], **to(2, by="somebody else")).steps == []
    assert file(site)["a"]["by"] == "somebody"


def test_a_run_that_is_narrowed_leaves_the_counts_of_other_groups(site: Site) -> None:
    site.converge([sleeper("a", 1), sleeper("b", 1)], **to(2))
    site.converge([sleeper("a", 5), sleeper("b", 1)], only=["b"], **to(2, "b"))
    assert running(site) == ["a.1.1", "a.2.1", "b.1.1", "b.2.1"]
    assert set(file(site)) == {"a", "b"}


def test_a_file_that_somebody_broke_is_named_and_nothing_is_touched(site: Site) -> None:
    site.converge([sleeper("a", 1)], **to(2))
    pids = site.pids()
    Path(site.root, "state", "scale.json").write_text('{"a": {"nodes": "mo')
    with pytest.raises(WorkfleetError, match=r"scale\.json cannot be read.*Remove it"):
        site.work([sleeper("a", 1)])
    assert site.pids() == pids


def test_what_somebody_stopped_stays_stopped_while_the_count_only_follows_the_backlog(site: Site) -> None:
    site.converge([sleeper("a", 1), sleeper("b", 1)])
    site.converge([sleeper("a", 1, state="stopped"), sleeper("b", 1)])
    wish = {"scale": {name: {"nodes": 2, "by": "the autoscaler", "follows": True} for name in ("a", "b")}, "only": ["a", "b"]}
    site.converge([sleeper("a", 1), sleeper("b", 1)], **wish)
    assert running(site) == ["b.1.1", "b.2.1"]
    assert set(file(site)) == {"b"}


def test_from_no_node_at_all_it_begins_again(site: Site) -> None:
    follows = {"by": "the autoscaler", "follows": True}
    site.converge([sleeper("a", 2)], scale={"a": {"nodes": 0, **follows}}, only=["a"])
    assert running(site) == []
    site.converge([sleeper("a", 2)], scale={"a": {"nodes": 1, **follows}}, only=["a"])
    assert running(site) == ["a.1.1"]
