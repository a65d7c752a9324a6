"""Chicory nodes as the toolkit runs them: reconciled under a real supervisord, looked at, probed by the module."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.nodes import info
from tests.integration.chicory_fleet import APP, ROOT, Fleet, environment
from tests.integration.supervised import Site, site
from tests.integration.test_celery_task_probe import play
from tests.patience import is_within, until

if TYPE_CHECKING:
    from tests.integration.conftest import RedisServer

__all__ = ["site"]
FAST: dict[str, Any] = {"name": "fast", "engine": "chicory", "app": "app.tasks:app", "nodes": 2, "concurrency": 3, "drain_seconds": 60}
SLOW: dict[str, Any] = {"name": "slow", "engine": "chicory", "app": "app.tasks:app", "queues": ["slow"], "concurrency": 4,
                        "drain_seconds": 60, "options": {"dlq": True}}


@pytest.fixture
def managed(site: Site, redis_server: RedisServer, tmp_path: Path) -> Site:
    """An app without a release, whose Python is that of a virtualenv with Chicory."""
    for name in ("workfleet_chicory.py", "workfleet_tell.py"):
        shutil.copy(ROOT / "runners" / name, Path(site.root, "workfleet"))
    site.app = {"broker_url": redis_server.url(), "result_url": redis_server.url(1),
                "env": {"PATH": f"{environment()}/bin:/usr/bin:/bin", "PYTHONPATH": str(APP), "EVENTS_LOG": str(tmp_path / "events.log")}}
    return site


def look(site: Site, groups: list[dict[str, Any]]) -> dict[str, Any]:
    return info.look(site.host_nodes(site.request(groups)), 1.0)


def test_nodes_of_two_queues_converge_tell_their_figures_and_drain(managed: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    managed.converge([FAST, SLOW])
    told = until(lambda: None if (found := look(managed, [FAST, SLOW]))["problems"] else found)
    figures = ("group", "slot", "state", "concurrency", "running")
    assert {(*(node[figure] for figure in figures), *node["queues"]) for node in told["nodes"]} == {
        ("fast", 1, "ready", 3, 0, "default"), ("fast", 2, "ready", 3, 0, "default"), ("slow", 1, "ready", 4, 0, "slow")}
    assert {(queue["queue"], queue["waiting"]) for queue in told["queues"]} == {("default", 0), ("slow", 0)}
    for pid in managed.pids().values():
        assert redis_server.url().encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()

    tasks = Fleet(tmp_path, redis_server)
    long, short = [("deliver", [3, f"{n}"]) for n in range(8)], [("deliver", [0.1, f"w{n}"]) for n in range(20)]
    tasks.send(*long, *short, queue="slow")
    until(lambda: len(tasks.noted()) == 4)
    begun = time.monotonic()
    managed.converge([FAST, {**SLOW, "state": "stopped"}])
    assert is_within(time.monotonic() - begun, 10), "as long as the running tasks, not as long as the timeout"
    assert tasks.noted() == {f"{word} {number}": 1 for word in ("begin", "end") for number in range(4)}
    assert tasks.pending("slow") == 0
    managed.converge([FAST, SLOW])
    until(lambda: len(tasks.noted()) == 56)
    assert set(tasks.noted().values()) == {1}


@pytest.mark.parametrize(("keys", "said"), [
    ({"app": "app.nothing:app"}, "a worker cannot be made: "),
    ({"queues": ["other"]}, "queue other: the key chicory:stream:other in Redis is not of Chicory's kind"),
])
def test_what_no_node_could_start_with_is_said_before_one_is_touched(
    managed: Site, redis_server: RedisServer, keys: dict[str, Any], said: str,
) -> None:
    managed.converge([SLOW])
    pids = managed.pids()
    redis_server.call("LPUSH", "chicory:stream:other", "a message")
    with pytest.raises(WorkfleetError) as raised:
        managed.work([{**SLOW, **keys}])
    assert f"nodes of slow were not started, and none was stopped for them: {said}" in str(raised.value)
    assert managed.pids() == pids


def test_verify_proves_the_queues_of_a_declaration(managed: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    managed.converge([SLOW])
    app = {"name": "shop", "broker_url": redis_server.url(), "result_url": redis_server.url(1)}
    _, said, told = play(tmp_path, {"app": app, "groups": [SLOW, {**FAST, "nodes": 1}], "timeout": 2}, host="h1")
    assert {probe["queue"]: probe["state"] for probe in told["probes"]} == {"slow": "ok", "default": "failed"}, said
    assert "1 of 2 canaries did not come back. default: no worker has ever consumed it" in told["msg"]
