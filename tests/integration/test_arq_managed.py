"""arq nodes as the toolkit runs them: reconciled under a real supervisord, looked at, probed by the module."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.nodes import info
from tests.integration.arq_fleet import APP, ROOT, environment
from tests.integration.supervised import Site, site
from tests.integration.test_celery_task_probe import play
from tests.patience import until

if TYPE_CHECKING:
    from tests.integration.conftest import RedisServer

__all__ = ["site"]
FLOWS = {"name": "flows", "engine": "arq", "app": "app.worker.WorkerSettings", "nodes": 2, "concurrency": 3}
SLOW = {"name": "slow", "engine": "arq", "app": "app.worker.WorkerSettings", "queues": ["slow"], "drain_seconds": 400}


@pytest.fixture
def fleet(site: Site, redis_server: RedisServer) -> Site:
    """An app without a release, whose Python is that of the example's virtualenv."""
    for name in ("workfleet_arq.py", "workfleet_redis_url.py", "workfleet_tell.py"):
        shutil.copy(ROOT / "runners" / name, Path(site.root, "workfleet"))
    site.app = {"broker_url": redis_server.url(4), "broker_env": ["REDIS_URL"],
                "env": {"PATH": f"{environment()}/bin:/usr/bin:/bin", "PYTHONPATH": str(APP)}}
    return site


def look(fleet: Site, groups: list[dict[str, Any]]) -> dict[str, Any]:
    return info.look(fleet.host_nodes(fleet.request(groups)), 1.0)


def test_nodes_converge_tell_their_figures_and_drain(fleet: Site, redis_server: RedisServer) -> None:
    groups = [FLOWS, SLOW]
    fleet.converge(groups)
    pids = fleet.pids()
    told = look(fleet, groups)
    assert told["problems"] == []
    shown = {f"{node['group']}.{node['slot']}": node for node in told["nodes"]}
    assert {name: (node["state"], node["concurrency"], node["running"], node["queues"]) for name, node in shown.items()} == {
        "flows.1": ("ready", 3, 0, ["arq:queue"]), "flows.2": ("ready", 3, 0, ["arq:queue"]), "slow.1": ("ready", 10, 0, ["slow"])}
    assert {(queue["queue"], queue["waiting"]) for queue in told["queues"]} == {("arq:queue", 0), ("slow", 0)}
    for pid in pids.values():
        assert redis_server.url(4).encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    fleet.converge([{**FLOWS, "state": "stopped"}, SLOW])
    assert fleet.pids()["slow.1.1"] == pids["slow.1.1"]
    assert [node["state"] for node in look(fleet, [{**FLOWS, "state": "stopped"}, SLOW])["nodes"]] == ["stopped", "stopped", "ready"]


def test_a_changed_option_replaces_the_nodes_of_its_group_alone(fleet: Site) -> None:
    fleet.converge([FLOWS, SLOW])
    changed = {**SLOW, "options": {"max_tries": 9}}
    fleet.converge([FLOWS, changed], rollout={"wait_for_drain": True})
    assert sorted(fleet.pids()) == ["flows.1.1", "flows.2.1", "slow.1.2"]


@pytest.mark.parametrize(("keys", "said"), [
    ({"app": "app.worker.Nosuch"}, "a worker cannot be made: workfleet_arq: app.worker.Nosuch: the module app.worker has no Nosuch"),
    ({"queues": ["celery"]}, "queue celery: the key of that name in Redis is no queue of arq's"),
])
def test_what_no_node_could_start_with_is_said_before_one_is_touched(
    fleet: Site, redis_server: RedisServer, keys: dict[str, Any], said: str,
) -> None:
    fleet.converge([SLOW])
    pids = fleet.pids()
    redis_server.call("LPUSH", "celery", "a message", db=4)
    with pytest.raises(WorkfleetError) as raised:
        fleet.work([{**SLOW, **keys}])
    assert f"nodes of slow were not started, and none was stopped for them: {said}" in str(raised.value)
    # A release is held for what is its own fault, not for what somebody has put into Redis.
    assert raised.value.details.get("blame") == ("a worker of slow cannot be made of it" if "app" in keys else None)
    assert fleet.pids() == pids


def test_a_drain_below_the_class_s_own_job_timeout_is_warned_of_before_a_node_starts(fleet: Site) -> None:
    said, = fleet.work([FLOWS]).warned
    assert said.startswith("flows: drain_seconds = 300 is below the timeout of fail, flaky, record, run_flow, where: a stop may cancel")
    assert fleet.work([{**FLOWS, "drain_seconds": 3600, "options": {"max_tries": 4}}]).warned == []


def test_a_killed_node_comes_back_and_is_ready_again(fleet: Site) -> None:
    fleet.converge([SLOW])
    pid = fleet.pids()["slow.1.1"]
    os.kill(int(pid or 0), signal.SIGKILL)
    until(lambda: fleet.pids()["slow.1.1"] not in (None, pid))
    states = set()

    def is_ready() -> bool:
        states.add(look(fleet, [SLOW])["nodes"][0]["state"])
        return "ready" in states

    until(is_ready)
    assert "failed" not in states


def test_verify_proves_the_queues_of_a_declaration(fleet: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    fleet.converge([SLOW])
    arguments = {"app": {"name": "shop", "broker_url": redis_server.url(4)}, "groups": [SLOW, {**FLOWS, "nodes": 1}], "timeout": 2}
    _, said, told = play(tmp_path, arguments, host="h1")
    assert {probe["queue"]: probe["state"] for probe in told["probes"]} == {"slow": "ok", "arq:queue": "failed"}, said
    assert "1 of 2 canaries did not come back. arq:queue: not taken by a worker within 2 s" in told["msg"]
