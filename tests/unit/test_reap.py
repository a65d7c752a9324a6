"""Who is proved dead, which queue an exchange leads to, and hosts that did not tell."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.plugin_utils import reaping as told_by_hosts

from plugins.module_utils.workfleet.engines import local
from plugins.module_utils.workfleet.engines.celery import held as celery_held
from plugins.module_utils.workfleet.engines.verbs import reaping

if TYPE_CHECKING:
    from pathlib import Path

NODE = "shop.w.1.1@web1"


@pytest.mark.parametrize(("node", "pid", "beats", "more", "said"), [
    (NODE, 7, False, {}, None),
    (NODE, 7, True, {}, None),
    (NODE, None, False, {}, None),
    (NODE, 7, False, {"processes": {NODE: [7, 8]}}, "its process 7 is there"),
    (NODE, 8, False, {"processes": {NODE: [7, 8]}}, "its process 8 is there"),
    (NODE, None, False, {"processes": {NODE: [7]}}, "its process 7 is there"),
    (NODE, 9, False, {"processes": {NODE: [7]}}, None),  # the one before, whose node is there again
    ("shop.w.1.1@old1", 7, False, {"processes": {NODE: [7]}}, "old1 is not in the inventory"),
    ("shop.w.1.1@old1", 7, False, {"force": True}, None),
    ("shop.w.1.1@old1", 7, True, {"force": True}, "its heartbeat is in the broker"),
])
def test_a_process_is_dead_where_its_host_was_looked_at_and_has_it_not(
    node: str, pid: int | None, beats: bool, more: dict[str, Any], said: str | None
) -> None:
    order = reaping.Reaping("shop", "redis://", hosts=["web1"], **more)
    doubt = order.doubt(node, pid, beats=beats)
    assert (doubt is None) == (said is None)
    assert (said or "") in (doubt or "")


@pytest.mark.parametrize(("before", "now", "same", "alive"), [
    ("a", "a", True, False), ("a", "b", True, True), ("a", "b", False, False), (None, "b", True, True), ("a", None, False, False)])
def test_a_heartbeat_that_is_renewed_is_a_sign_of_life(before: str | None, now: str | None, same: bool, alive: bool) -> None:
    assert (reaping.renewed(before, now, same=same) is not None) == alive


@pytest.mark.parametrize(("name", "app"), [
    ("shop.w.1.1@web1", "shop"), ("shop-too.w.12.3@web1", "shop-too"), ("worker-1a2b3c4d", None), ("celery@web1", None), ("", None)])
def test_the_app_stands_in_a_nodes_name(name: str, app: str | None) -> None:
    assert reaping.app_of(name) == app


def tables(*bindings: tuple[str, str, str]) -> celery_held.Tables:
    found: dict[str, list[celery_held.Binding]] = {}
    for exchange, key, queue in bindings:
        found.setdefault(exchange, []).append(celery_held.Binding(exchange, key, queue, b"", "#" in key or "*" in key))
    return dict(found)


@pytest.mark.parametrize(("exchange", "key", "queues"), [
    ("", "reports", ["reports"]),
    ("reports", "reports", ["reports"]),  # as celery itself names them; the table may be gone
    ("tasks", "r", ["reports"]),
    ("tasks", "x", []),
    ("both", "r", ["default", "reports"]),
    ("news", "world.europe.fr", ["reports"]),
    ("news", "sport.football", ["default"]),
    ("news", "sport", []),
    ("news", "worldwide", []),
    ("nosuch", "r", []),
])
def test_an_exchange_and_a_routing_key_lead_to_queues(exchange: str, key: str, queues: list[str]) -> None:
    bound = tables(("tasks", "r", "reports"), ("both", "r", "reports"), ("both", "r", "default"), ("news", "world.#", "reports"),
                   ("news", "sport.*", "default"))
    assert celery_held.origins(exchange, key, bound) == queues


def told(**more: Any) -> dict[str, Any]:
    return {"nodes": [], "processes": [{"unit": "workfleet.shop.w.1.1", "engine": "arq", "pids": [7], "name": None}], **more}


def test_a_host_that_did_not_tell_or_cannot_read_a_node_has_nothing_moved() -> None:
    def look(web2: dict[str, Any] | None) -> dict[str, Any]:
        seen = {"web1": {"seen": told()}, **({"web2": {"seen": web2}} if web2 is not None else {})}
        return told_by_hosts.processes(["web1", "web2"], "seen", {"hostvars": seen})

    assert sorted(look(told())) == ["shop.w.1.1@web1", "shop.w.1.1@web2"]
    with pytest.raises(AnsibleActionFail, match="web2: it was not looked at: leave --limit out"):
        look(None)
    with pytest.raises(AnsibleActionFail, match=r"web2: no route\. A worker may run there, so nothing was returned"):
        look({"unreachable": True, "msg": "no route"})
    unread = {"unit": "workfleet.shop.w.1.1", "state": "unknown", "reason": "what it was started with cannot be read"}
    with pytest.raises(AnsibleActionFail, match=r"web2: workfleet.shop.w.1.1: what it was started with cannot be read. It may be at work"):
        look(told(nodes=[unread]))


def test_a_child_that_outlived_its_worker_is_a_process_of_the_node(tmp_path: Path) -> None:
    record = tmp_path / "workfleet.shop.w.1.1.json"
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, "WORKFLEET_RECORD": str(record)})
    try:
        assert local.pids_of("shop", str(tmp_path)) == {"workfleet.shop.w.1.1": [child.pid]}
        assert local.pids_of("shop", str(tmp_path / "another")) == {}
    finally:
        child.kill()
        child.wait()
