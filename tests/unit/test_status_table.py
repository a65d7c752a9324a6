"""The table that a person reads: it fits the terminal, folds large fleets, and hides no problem."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.workfleet.core.plugins.plugin_utils import status
from hypothesis import given, settings
from hypothesis import strategies as st

WIDTHS = (60, 80, 120)


def node(slot: int = 1, state: str = "ready", **changes: Any) -> dict[str, Any]:
    return {"group": "reports", "slot": slot, "incarnation": 1, "state": state, "current": True, "uptime_seconds": 4000.0,
            "draining_seconds": None, "running": 1, "reserved": 2, "processed": 12345, "memory_bytes": 81_000_000,
            "release": "20261122-1f0c9a", "queues": ["reports", "default"], **changes}


def told(*nodes: dict[str, Any], problems: list[str] | None = None) -> dict[str, Any]:
    queue = {"queue": "reports", "engine": "celery", "waiting": 3}
    return {"manager": "systemd", "release": "r1", "nodes": list(nodes), "problems": problems or [], "queues": [queue],
            "scaled": {}}


def painted(text: str, colour: str) -> str:
    return f"\033[{len(colour)}m{text}\033[0m"


def lines(found: dict[str, Any], width: int) -> list[str]:
    """Return the table as it is seen, without colour codes."""
    return [re.sub(r"\033\[\d+m", "", line) for line in status.table(found, width, painted)]


NAMES = st.text("abcdefgh-12", min_size=1, max_size=40)


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, Any]:
    def one(slot: int) -> dict[str, Any]:
        return node(slot, draw(st.sampled_from(sorted(status.COLOURS))), group=draw(NAMES),
                    incarnation=draw(st.integers(1, 99999)), current=draw(st.sampled_from([True, False, None])),
                    running=draw(st.sampled_from([None, 0, 10**6])), release=draw(st.one_of(st.none(), NAMES)),
                    memory_bytes=draw(st.sampled_from([None, 10**12])), queues=draw(st.one_of(st.none(), st.lists(NAMES))))

    hosts = draw(st.dictionaries(NAMES, st.integers(0, 30), max_size=4))
    words = st.lists(st.text("ab cd\n:/", max_size=200), max_size=2)
    found = status.combine("shop", {host: told(*(one(slot) for slot in range(1, size + 1)), problems=draw(words))
                                    for host, size in hosts.items()})
    found["queues"] = [{"queue": draw(NAMES), "waiting": draw(st.sampled_from([None, 0, 10**9]))} for _ in range(5)]
    return found


@settings(deadline=None, max_examples=60)
@given(fleets(), st.sampled_from(WIDTHS))
def test_no_line_is_longer_than_the_terminal(found: dict[str, Any], width: int) -> None:
    table = lines(found, width)
    assert [line for line in table if len(line) > width or "\n" in line] == []
    letters = re.sub(r"\s", "", "".join(table))
    for text in found["problems"]:
        assert re.sub(r"\s", "", text) in letters


@pytest.mark.parametrize("width", WIDTHS)
def test_who_and_how_is_told_in_every_terminal(width: int) -> None:
    table = lines(status.combine("shop", {"a-long-host-name.example.com": told(node(12, "unresponsive", current=False))}), width)
    row = next(line for line in table if "unresponsive *" in line)
    assert "a-long-h" in row and "report" in row and "12.1" in row
    assert any("of another generation" in line for line in table)
    # What drains goes by itself.
    table = lines(status.combine("shop", {"web1": told(node(1, "draining", current=False))}), width)
    assert not any("*" in line for line in table)


def test_a_wide_terminal_shows_everything() -> None:
    assert lines(status.combine("shop", {"web1": told(node())}), 120) == [
        "shop: 1 node on 1 host: 1 ready", "",
        "HOST  GROUP    NODE  STATE   UP  RUN  HELD   DONE  RSS  RELEASE       QUEUES",
        "web1  reports  1.1   ready  66m    1     2  12345  81M  20261122-1f0  reports,default", "",
        "waiting: reports 3"]


def test_up_to_forty_nodes_each_has_its_row_and_above_groups_fold() -> None:
    def rows(count: int) -> list[str]:
        nodes = [node(slot) for slot in range(1, count + 1)]
        return [line for line in lines(status.combine("shop", {"web1": told(*nodes)}), 100) if line.startswith("web1")]

    assert len(rows(status.MOST_ROWS)) == 40
    folded, = rows(status.MOST_ROWS + 1)
    assert "×41" in folded and "ready" in folded and str(12345 * 41) in folded


@pytest.mark.parametrize("ill", [{"state": "failed"}, {"current": False}, {"state": "draining"}])
def test_a_group_in_which_not_all_is_well_is_not_folded(ill: dict[str, Any]) -> None:
    nodes = [node(slot) for slot in range(1, 50)] + [{**node(50), **ill}]
    table = lines(status.combine("shop", {"web1": told(*nodes), "web2": told(node(), node(2))}), 100)
    assert sum(line.startswith("web1") for line in table) == 50 and sum(line.startswith("web2") for line in table) == 1


def test_a_node_that_drains_shows_for_how_long_and_both_generations_are_there() -> None:
    old, new = node(state="draining", draining_seconds=42.3, current=False), node(incarnation=2)
    table = lines(status.combine("shop", {"web1": told(old, new)}), 120)
    assert any("  1.1   draining 42s  " in line for line in table)
    assert any("  1.2   ready         " in line for line in table)
    minutes = lines(status.combine("shop", {"web1": told({**old, "draining_seconds": 700.0, "current": True})}), 120)
    assert any("  draining 11m  " in line for line in minutes)


def test_what_one_node_cannot_tell_its_folded_group_cannot() -> None:
    nodes = [node(slot) for slot in range(1, 50)] + [node(50, running=None, processed=None)]
    table = lines(status.combine("shop", {"w": told(*nodes)}), 100)
    assert "HELD" in table[2] and "RUN" not in table[2] and "DONE" not in table[2]
    assert "  100  " in next(line for line in table if "×50" in line)


def test_hosts_that_cannot_be_read_stay_in_the_status_with_a_problem() -> None:
    found = status.combine("shop", {
        "web1": told(node(), problems=["reports 2: failed: exit-code"]),
        "web2": {"unreachable": True, "msg": "Connection timed out\n"}, "web3": {"failed": True, "msg": "no sudo"}, "web4": {},
    })
    assert list(found["hosts"]) == ["web1", "web2", "web3", "web4"]
    assert found["hosts"]["web2"] == {**dict.fromkeys(("manager", "release", "declared_release", "hold", "scheduler", "dashboard")),
                                      "nodes": [], "scaled": {}}
    assert found["problems"] == ["web1: reports 2: failed: exit-code", "web2: unreachable: Connection timed out",
                                 "web3: cannot be read: no sudo", "web4: cannot be read: it was not asked"]
    assert lines(found, 80)[0] == "shop: 1 node on 4 hosts: 1 ready"
    assert lines(found, 80)[-4:] == [f"  {text}" for text in found["problems"]]


def test_a_queue_is_told_once_by_a_host_that_knows() -> None:
    blind = told()
    blind["queues"] = [{**blind["queues"][0], "waiting": None}]
    assert [queue["waiting"] for queue in status.combine("shop", {"a": blind, "b": told(), "c": told()})["queues"]] == [3]


def test_nothing_at_all_is_a_status_too() -> None:
    assert lines(status.combine("shop", {}), 60) == ["shop: 0 nodes on 0 hosts: nothing runs", ""]


def test_a_count_that_was_set_in_place_of_the_inventorys_is_told() -> None:
    set_by_hand = {"reports": {"nodes": 5, "declared": 2, "by": "ops on control"}}
    found = status.combine("revrx", {"web1": {**told(), "scaled": set_by_hand}})
    assert found["hosts"]["web1"]["scaled"] == set_by_hand
    assert "web1: reports: 5 nodes, set by ops on control; the inventory has 2" in "\n".join(lines(found, 100))


def test_what_is_wrong_on_many_hosts_is_told_once_with_their_names() -> None:
    wrong = "release a is held: it is used in place of the declared b"
    hosts = {f"web{number}": told(node(), problems=[wrong, f"only {number}"]) for number in (1, 2)}
    assert status.combine("shop", hosts)["problems"] == [f"web1, web2: {wrong}", "web1: only 1", "web2: only 2"]
def test_hosts_of_two_releases_are_a_problem_of_the_fleet() -> None:
    found = status.combine("shop", {f"web{number}": {**told(), "release": release} for number, release in enumerate(("r1", "r2", None), 1)})
    assert [text for text in found["problems"] if "do not have one release: r1 on web1; r2 on web2." in text] == found["problems"] != []
    assert status.combine("shop", {"web1": told(), "web2": told()})["problems"] == []
    apart = {"web1": {**told(), "release": "r1"}, "web2": {**told(), "release": "r2"}}
    assert status.combine("shop", apart, {"web1": "some", "web2": "other requirements"})["problems"] == []
