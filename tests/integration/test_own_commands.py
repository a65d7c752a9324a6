"""Groups whose ``command`` starts the worker: what such nodes tell, and wrappers that would keep a stop for themselves."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.nodes import info
from tests.integration import arq_fleet, celery_fleet, chicory_fleet
from tests.integration.supervised import Site, site
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import RedisServer

__all__ = ["site"]
WORKER = "-m celery -A app.celery_app worker -P threads -c 1 -Q reports --without-mingle --without-gossip"


@pytest.fixture(autouse=True)
def no_worker_stays(site: Site) -> Iterator[None]:
    """What a wrapper has left running is found by what the launcher put into its environment."""
    yield
    site.end()
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        with contextlib.suppress(OSError):
            if f"WORKFLEET_RECORD={site.run_directory}/".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def celery(site: Site, redis_server: RedisServer) -> Site:
    """An app whose Python is ours."""
    site.app = {"broker_url": redis_server.url(3), "env": {"PYTHONPATH": str(celery_fleet.APP), "PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}}
    return site


def script(site: Site, text: str, **keys: Any) -> dict[str, Any]:
    """Return a group that runs a script of these lines."""
    path = Path(site.root, "start-worker")
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"name": "own", "engine": "celery", "app": "app.celery_app", "command": [str(path)], **keys}


def look(site: Site, *groups: dict[str, Any]) -> dict[str, Any]:
    return info.look(site.host_nodes(site.request(list(groups))), 5.0)


def test_a_script_that_execs_a_worker_is_known_by_its_nodes_name(celery: Site) -> None:
    group = script(celery, f"exec python {WORKER}", nodes=2, queues=["reports"])
    celery.converge([group])
    told = look(celery, group)
    assert told["problems"] == []
    assert [(node["state"], node["reason"], node["concurrency"], node["running"], node["queues"]) for node in told["nodes"]] == [
        ("ready", None, 1, 0, ["reports"])] * 2, "ready when the rollout ends, without a wait"
    assert [(queue["queue"], queue["waiting"]) for queue in told["queues"]] == [("reports", 0)]


def test_a_worker_with_a_name_of_its_own_is_known_by_its_process(celery: Site) -> None:
    group = script(celery, f"exec python {WORKER} -n own@elsewhere")
    celery.converge([group])
    node, = look(celery, group)["nodes"]
    assert (node["state"], node["reason"], node["queues"]) == ("ready", None, ["reports"])
    declared = look(celery, {**group, "queues": ["other"]})
    assert declared["problems"] == ["own 1: unresponsive: does not consume other"]


@pytest.mark.parametrize("name", ["", " -n own@elsewhere"])
def test_a_wrapper_that_keeps_the_stop_for_itself_halts_the_rollout_and_is_told(celery: Site, name: str) -> None:
    group = script(celery, f"python {WORKER}{name}\ntrue", nodes=2)
    with pytest.raises(WorkfleetError, match=r"node workfleet.shop.own.[12].1 is no good: wrapper: the worker is process \d+"):
        celery.work([group])
    until(lambda: [node["state"] for node in look(celery, group)["nodes"]] == ["failed"] * 2)
    for node in look(celery, group)["nodes"]:
        assert node["reason"].startswith("wrapper: the worker is process ")
        assert f"but the unit's main process is {node['pid']}" in node["reason"]


def test_two_workers_of_one_name_are_not_told_apart_by_guessing(celery: Site) -> None:
    group = script(celery, f"exec python {WORKER} -n same@name", nodes=2)
    celery.converge([group])
    for node in look(celery, group)["nodes"]:
        assert (node["state"], node["queues"], node["running"]) == ("unknown", None, None)
        assert "the broker knows another worker by the name same@name" in node["reason"]


def test_a_command_that_starts_no_worker_is_not_ready(celery: Site) -> None:
    group = script(celery, "exec sleep 1000", queues=["reports"])
    with pytest.raises(WorkfleetError, match="is up, but its worker did not answer over the broker within 3 s"):
        celery.work([group], rollout={"ready_timeout_seconds": 3})
    queue, = look(celery, group)["queues"]
    assert (queue["waiting"], queue["consumers"], queue["running"]) == (0, None, None), "who is silent is not taken for nobody"


@pytest.mark.parametrize("key", ["reports", "reports\x06\x163"])
def test_a_queue_that_is_something_else_in_redis_is_told_before_a_node_starts(celery: Site, redis_server: RedisServer, key: str) -> None:
    redis_server.call("ZADD", key, "1", "a job", db=3)
    with pytest.raises(WorkfleetError) as raised:
        celery.work([script(celery, f"exec python {WORKER}", queues=["reports"])])
    said = f"none was stopped for them: queue reports: the key {key!r} in Redis is no queue of Celery's (a list): does something else use"
    assert said in str(raised.value)
    assert celery.present() == {}


def test_what_arq_cannot_tell_of_a_command_is_null(site: Site, redis_server: RedisServer) -> None:
    site.app = {"broker_url": redis_server.url(4), "broker_env": ["REDIS_URL"],
                "env": {"PATH": f"{arq_fleet.environment()}/bin:/usr/bin:/bin", "PYTHONPATH": str(arq_fleet.APP)}}
    group = {**script(site, "exec arq app.worker.WorkerSettings"), "engine": "arq", "app": "app.worker.WorkerSettings"}
    site.converge([group])
    node, = look(site, group)["nodes"]
    assert (node["state"], node["concurrency"], node["running"], node["queues"]) == ("ready", None, None, None)
    assert node["reason"] == "up; what a command of your own does cannot be told by engine arq"


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_an_arq_worker_behind_a_wrapper_is_known_by_its_connection(site: Site, redis_server: RedisServer, is_wrapped: bool) -> None:
    site.app = {"broker_url": redis_server.url(4), "broker_env": ["REDIS_URL"],
                "env": {"PATH": f"{arq_fleet.environment()}/bin:/usr/bin:/bin", "PYTHONPATH": str(arq_fleet.APP)}}
    words = '["arq", "app.worker.WorkerSettings"]'
    start = f"import subprocess; subprocess.run({words})" if is_wrapped else f'import os; os.execvp("arq", {words})'
    Path(site.root, "start_worker.py").write_text(f"{start}\n")
    group = {"name": "own", "engine": "arq", "app": "app.worker.WorkerSettings", "command": ["python", "start_worker.py"]}
    with pytest.raises(WorkfleetError, match="is no good: wrapper: ") if is_wrapped else contextlib.nullcontext():
        site.work([group], rollout={"monitor_seconds": 15, "ready_timeout_seconds": 60})
    node, = look(site, group)["nodes"]
    assert (node["state"], str(node["reason"]).startswith("wrapper: the worker is process ")) == (
        ("failed", True) if is_wrapped else ("ready", False))


CHICORY = "import asyncio; from app.tasks import app; from chicory import Worker; asyncio.run(Worker(app).run())"


@pytest.mark.parametrize(("words", "is_wrapped"), [("exec python", False), ("python", True)])
def test_a_chicory_worker_is_known_by_its_heartbeat(
    site: Site, redis_server: RedisServer, words: str, is_wrapped: bool, tmp_path: Path,
) -> None:
    site.app = {"broker_url": redis_server.url(), "result_url": redis_server.url(1),
                "env": {"PATH": f"{chicory_fleet.environment()}/bin:/usr/bin:/bin", "PYTHONPATH": str(chicory_fleet.APP),
                        "EVENTS_LOG": str(tmp_path / "events.log"), "CHICORY_BROKER_REDIS_BLOCK_MS": "1000"}}
    group = {**script(site, f"{words} -c '{CHICORY}'\ntrue"), "engine": "chicory", "app": "app.tasks:app"}
    with pytest.raises(WorkfleetError, match="wrapper: the worker is process") if is_wrapped else contextlib.nullcontext():
        site.work([group], rollout={"monitor_seconds": 15, "ready_timeout_seconds": 60})  # until it tells of itself
    state = "failed" if is_wrapped else "ready"
    node = until(lambda: [node for node in look(site, group)["nodes"] if node["state"] == state and node["queues"]])[0]
    assert node["queues"] == ["default"]
    assert str(node["reason"]).startswith("wrapper: ") is is_wrapped
