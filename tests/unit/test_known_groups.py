"""Plays name the groups of a fleet; what an inventory lacks of them is neither matched nor warned of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.workfleet.core.plugins.filter.known_groups import known_groups

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"


@pytest.mark.parametrize(("pattern", "groups", "left"), [
    ("workers:scheduler:dashboard", {"workers", "dashboard"}, "workers:dashboard"),
    ("redis", {"workers"}, "all:!all"),
    ("scheduler:dashboard:&stale", {"scheduler", "stale"}, "scheduler:&stale"),
    ("scheduler:dashboard:&stale", {"scheduler"}, "all:!all"),
    ("scheduler:&stale", {"stale"}, "all:!all"),
    ("workers:!drained", {"workers"}, "workers"),
])
def test_what_the_inventory_lacks_is_left_out(pattern: str, groups: set[str], left: str) -> None:
    assert known_groups(pattern, groups) == left


def test_every_play_names_its_groups_this_way() -> None:
    filtered = re.compile(r"\"{{ '[\w:&!]+' \| workfleet.core.known_groups\(groups\) }}\"|\"{{ query\(.*\) }}\"|all")
    for path in PLAYBOOKS.glob("*.yml"):
        for pattern in re.findall(r"^  hosts: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert filtered.fullmatch(pattern), f"{path.name}: {pattern}"
