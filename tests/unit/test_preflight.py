"""What a deploy is refused for, and what it only warns of."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.module_utils.workfleet.engines.pickled import text_of
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host.layout import Layout
from plugins.module_utils.workfleet.release import plan as release
from plugins.module_utils.workfleet.release import preflight
from plugins.module_utils.workfleet.release.preflight import Nodes


def fleet(seen: dict[str, Any], **keys: Any) -> preflight.Fleet:
    return preflight.Fleet(seen=seen, **{"clocks": {}, "nodes": {}, **keys})


def group(**told: Any) -> dict[str, Any]:
    return {"engine": "celery", "queues": ["reports"], **told}


def backlog(names: dict[str, int], *, cut: bool = False, unreadable: int = 0) -> dict[str, Any]:
    return {"queues": {"reports": {"names": names, "cut": cut, "unreadable": unreadable}}}


def said(findings: list[preflight.Finding]) -> list[tuple[bool, str]]:
    return [(finding.refuses, str(finding)) for finding in findings]


def test_a_waiting_task_that_the_release_lacks_refuses_with_its_name_and_number() -> None:
    seen = {"web1": {"groups": {"r": group(tasks=["app.a"])}, "waiting": backlog({"app.a": 5, "app.gone": 3})}}
    ((refuses, text),) = said(preflight.after_build(fleet(seen)))
    assert refuses
    assert "queue reports: tasks wait that the new release does not register in the group r: app.gone (3)." in text
    assert "app.a" not in text
    assert said(preflight.after_build(fleet(seen, allow_unregistered=True)))[0][0] is False


def test_each_group_that_takes_from_a_queue_must_know_its_tasks() -> None:
    seen = {"web1": {"groups": {"r": group(tasks=["app.a"]), "s": group(tasks=[])}, "waiting": backlog({"app.a": 5}, cut=True)}}
    ((refuses, text),) = said(preflight.after_build(fleet(seen)))
    assert refuses
    assert "in the group s, among those that were read: app.a (5)" in text


def test_a_queue_is_told_once_though_every_host_reads_it_and_unread_messages_only_warn() -> None:
    told = {"groups": {"r": group(tasks=[])}, "waiting": backlog({"app.a": 5}, unreadable=2)}
    found = said(preflight.after_build(fleet({"web1": told, "web2": told})))
    assert [refuses for refuses, _ in found] == [True, False]
    assert "2 messages do not tell the names" in found[1][1]


def test_a_group_that_cannot_be_asked_is_not_judged_and_one_that_cannot_be_imported_refuses() -> None:
    assert preflight.after_build(fleet({"web1": {"groups": {"r": group()}, "waiting": backlog({"app.a": 1})}})) == []
    broken = {"groups": {"r": group(error="ImportError: no app")}, "waiting": {}}
    ((refuses, text),) = said(preflight.after_build(fleet({"web1": broken, "web2": broken})))
    assert refuses
    assert text.startswith("web1, web2: ")
    assert "| ImportError: no app" in text


def test_what_cannot_be_read_refuses_unless_that_is_allowed() -> None:
    seen = {"web1": {"groups": {}, "waiting": {"error": "cannot connect"}}}
    assert [refuses for refuses, _ in said(preflight.after_build(fleet(seen)))] == [True]
    assert [refuses for refuses, _ in said(preflight.after_build(fleet(seen, allow_unregistered=True)))] == [False]


def test_a_short_visibility_timeout_and_an_orphaned_queue_warn() -> None:
    told = group(tasks=["app.a"], visibility_timeout=60.0, time_limit=300.0, queues_sent_to={"reports": ["app.a"], "mail": ["app.b"]})
    found = said(preflight.after_build(fleet({"web1": {"groups": {"r": told}}})))
    assert [refuses for refuses, _ in found] == [False, False]
    assert "visibility_timeout is 60 s, shorter than the longest task limit of 300 s" in found[0][1]
    assert "the app sends to the queue mail (app.b), and no worker group consumes it" in found[1][1]
    taken = {**told, "visibility_timeout": 300.0, "queues": ["reports", "mail"]}
    assert preflight.after_build(fleet({"web1": {"groups": {"r": taken}}})) == []


@pytest.mark.parametrize(("ahead", "refuses"), [(1.9, None), (2.5, False), (40.0, True)])
def test_clocks_that_differ_warn_and_then_refuse(ahead: float, refuses: bool | None) -> None:
    clocks = {"web1": (-0.2, 0.3), "web2": (0.3 + ahead, 0.9 + ahead)}
    found = said(preflight.before_build(fleet({}, clocks=clocks)))
    assert [each for each, _ in found] == ([] if refuses is None else [refuses])


def test_a_slow_way_there_and_back_is_not_held_against_a_clock() -> None:
    assert preflight.before_build(fleet({}, clocks={"web1": (-60.0, 0.1), "web2": (-0.1, 45.0)})) == []


def test_places_of_all_hosts_are_compared_with_the_databases_connections() -> None:
    seen = {"web1": {"cpus": 4}, "web2": {"cpus": 8}}
    nodes = {"web1": [Nodes("celery", 2), Nodes("arq", 1)], "web2": [Nodes("celery", 1, 3), Nodes("celery", 0, 50)]}
    assert preflight.before_build(fleet(seen, nodes=nodes, database_connections=21)) == []
    ((refuses, text),) = said(preflight.before_build(fleet(seen, nodes=nodes, database_connections=20)))
    assert refuses
    assert "can run 21 tasks at once, and app_database_connections is 20" in text


@pytest.mark.parametrize(("most", "refuses", "words"), [
    (19, True, "can run 16 tasks at once, with the new ones beside them that start first 20, and"), (20, False, "can run 32 at once"),
    (32, None, ""),
])
def test_nodes_that_start_first_and_old_ones_that_end_their_tasks_count(most: int, refuses: bool | None, words: str) -> None:
    nodes = {host: [Nodes("celery", 2, 4, beside=1, behind=2)] for host in ("web1", "web2")}
    found = said(preflight.before_build(fleet({"web1": {}, "web2": {}}, nodes=nodes, database_connections=most)))
    assert [each for each, _ in found] == ([] if refuses is None else [refuses])
    assert all(words in text for _, text in found)


def test_a_task_that_was_run_refuses_though_none_waits_and_one_that_only_vanishes_warns() -> None:
    told = group(tasks=["app.a"], ran={"app.a": 9, "app.old": 3}, vanishes=["app.old", "app.unused"])
    seen = {host: {"groups": {"r": told}, "waiting": backlog({})} for host in ("web1", "web2")}
    (refusing, run), (warning, vanished) = said(preflight.after_build(fleet(seen)))
    assert (refusing, warning) == (True, False)
    assert "group r: its nodes have run or hold tasks, since they were started, that the new release does not register: app.old (6)." in run
    assert "does not register any more: app.unused." in vanished
    assert [refuses for refuses, _ in said(preflight.after_build(fleet(seen, allow_unregistered=True)))] == [False, False]


def test_a_check_says_where_a_release_that_is_not_built_was_not_compared() -> None:
    seen = {"web1": {"groups": {"r": group(unbuilt=True), "s": group(unbuilt=True)}, "waiting": backlog({"app.a": 1})}}
    ((refuses, text),) = said(preflight.after_build(fleet(seen)))
    assert not refuses
    assert text.startswith("web1: the release is not built there, so what tasks it registers was not compared")


def test_the_disk_is_that_of_the_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {str(tmp_path): 1, str(tmp_path / "shop" / "releases"): 2}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    assert preflight.space(Layout(str(tmp_path / "shop")))["free_bytes"] == 1
    (tmp_path / "shop" / "releases").mkdir(parents=True)
    assert preflight.space(Layout(str(tmp_path / "shop")))["free_bytes"] == 2


def test_a_release_that_a_deploy_left_when_it_was_cut_short_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(str(tmp_path))
    for name in ("0123456789ab", "ba9876543210"):
        for path in (layout.python(name), layout.marker(name)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(json.dumps({"id": name}))
        Path(layout.src(name)).mkdir(exist_ok=True)
    Path(layout.current).symlink_to(layout.release("0123456789ab"))
    assert preflight.space(layout)["needed_bytes"] == 0
    Path(layout.history).parent.mkdir(exist_ok=True)
    Path(layout.history).write_text(json.dumps({"releases": ["ba9876543210", "0123456789ab"]}))
    needed = preflight.space(layout)["needed_bytes"]
    assert needed > 0
    # Whoever builds yet another one finds out then.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    with pytest.raises(WorkfleetError, match="a new release with its virtualenv needs about 100 MB"):
        release.require_space(layout, "fedcba987654", {"size": 1}, None)
    release.require_space(layout, "ba9876543210", {"size": 1}, None)  # what is left of it goes first


def test_nodes_that_were_told_to_take_no_new_tasks_would_not_be_replaced() -> None:
    seen = {"web1": {"quiesced": ["reports 1", "reports 2"]}, "web2": {"quiesced": []}}
    for judge in (preflight.before_build, preflight.after_build):
        ((refuses, text),) = said(judge(fleet(seen)))
        assert refuses
        assert text.startswith("web1: nodes were told to take no new tasks (drain.yml)")
        assert "reports 1, reports 2. resume.yml" in text


def test_disk_broker_and_eviction() -> None:
    seen = {
        "web1": {"free_bytes": 90_000_000, "needed_bytes": 300_000_000, "broker": {"policy": "allkeys-lru"}},
        "web2": {"free_bytes": 900_000_000, "needed_bytes": 300_000_000, "broker": {"error": "cannot connect"}},
        "web3": {"free_bytes": 900_000_000, "needed_bytes": 300_000_000, "broker": {"policy": "noeviction"}},
    }
    found = said(preflight.before_build(fleet(seen)))
    assert [(refuses, text.split(":")[0]) for refuses, text in found] == [
        (True, "web1"), (True, "web2"), (False, "the broker's maxmemory-policy is allkeys-lru")]


class Bomb:
    """Does something when it is unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize("protocol", range(6))
def test_a_name_is_read_from_a_pickle_that_is_never_loaded(protocol: int) -> None:
    message = pickle.dumps({"t": None, "f": "app.tasks.run", "a": (Bomb(), "f"), "k": {}}, protocol=protocol)
    assert text_of(message, "f") == "app.tasks.run"


@pytest.mark.parametrize("data", [None, b"", b"no pickle", pickle.dumps({"f": 7}), pickle.dumps({"g": "x"}), pickle.dumps("f")])
def test_what_tells_no_name_is_unreadable(data: bytes | None) -> None:
    assert text_of(data, "f") is None


def test_who_consumes_too_and_is_no_node_of_ours_is_warned_of_once() -> None:
    text = "old@web1 consumes q and is no node of this inventory"
    found = preflight.before_build(fleet({"web1": {"strangers": [text]}, "web2": {}}))
    assert said(found) == [(False, f"{text}. The deploy does not replace it")]
