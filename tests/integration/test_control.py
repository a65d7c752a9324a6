"""Live control of real Celery workers: what they do, what they refuse, and what is sent at all."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.engines.celery import wire as celery_wire
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import effects
from plugins.module_utils.workfleet.nodes import control as live
from tests.integration.drained import Drained
from tests.integration.supervised import Site, site
from tests.integration.test_reset import Played
from tests.patience import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import RedisServer

__all__ = ["site"]
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")


@pytest.fixture
def fleet(site: Site, redis_server: RedisServer, tmp_path: Path) -> Drained:
    return Drained(site, redis_server, tmp_path, "celery")


def tell(fleet: Drained, group: dict[str, Any], control: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
    host_nodes = fleet.site.host_nodes(fleet.site.request([group]))
    return live.control(host_nodes, live.Order("w", control, arguments), check=check)


def stats(fleet: Drained) -> dict[str, Any]:
    # While it makes children a node does not answer.
    found = until(lambda: celery_wire.reports(fleet.redis.url(3), ["shop.w.1.1@h1"], {}, 2.0).get("shop.w.1.1@h1"))
    # Celery's own figure stays what it was started with; the pool's children are what there is.
    children = effects.run(["pgrep", "-c", "-P", str(found.pid)], check=False).out
    return {"queues": sorted(found.queues or ()), "places": int(children)}


def log(fleet: Drained) -> str:
    return "\n".join(fleet.site.manager.log(fleet.site.manager.present()[0].name, 100))


def test_a_running_node_does_as_it_is_told_and_what_it_refuses_is_said_in_its_own_words(fleet: Drained) -> None:
    group = fleet.group(options={"pool": "prefork", "prefetch_multiplier": 1}, concurrency=1)
    fleet.converge(group)
    pid = fleet.site.pids()

    foretold = tell(fleet, group, "add_consumer", check=True, queue="other")
    assert stats(fleet) == {"queues": ["work"], "places": 1}
    done = tell(fleet, group, "add_consumer", queue="other")
    assert done["steps"] == foretold["steps"]
    assert [(step["action"], step["unit"], step["reason"]) for step in done["steps"]] == [
        ("live", "workfleet.shop.w.1.1", "add_consumer queue=other")]
    until(lambda: stats(fleet)["queues"] == ["other", "work"])
    assert "lost when a node is started again" in done["notes"][0]
    tell(fleet, group, "cancel_consumer", queue="other")
    until(lambda: stats(fleet)["queues"] == ["work"])
    tell(fleet, group, "pool_grow", processes=2)
    until(lambda: stats(fleet)["places"] == 3)
    tell(fleet, group, "pool_shrink", processes=1)
    until(lambda: stats(fleet)["places"] == 2)

    tell(fleet, group, "time_limit", task_name="work", time_limit=2)
    fleet.send(("long", 30))
    fleet.begun(1)
    until(lambda: "Hard time limit (2s) exceeded for work" in log(fleet), 25)

    tell(fleet, group, "cancel_consumer", queue="work")
    until(lambda: stats(fleet)["queues"] == [])
    fleet.send(("revoked", 0.1), task_id="r1")
    tell(fleet, group, "revoke", task_id="r1")
    tell(fleet, group, "add_consumer", queue="work")
    fleet.send(("after", 0.1))
    until(lambda: "after" in fleet.noted("end"))
    assert "revoked" not in fleet.noted("begin")

    tell(fleet, group, "rate_limit", task_name="work", rate_limit="1/h")
    fleet.send(("limited1", 0.1), ("limited2", 0.1))
    until(lambda: "limited1" in fleet.noted("end"))
    assert "limited2" not in fleet.noted("begin")

    with pytest.raises(WorkfleetError, match=r"queue = 'wrok': no node of w here consumes it .* They consume: work"):
        tell(fleet, group, "cancel_consumer", queue="wrok")
    for control, arguments, said in (("autoscale", {"autoscale_max": 3, "autoscale_min": 1}, "Autoscale not enabled"),
                                     ("rate_limit", {"task_name": "nosuch", "rate_limit": "1/s"}, "unknown task")):
        with pytest.raises(WorkfleetError, match=said) as raised:
            tell(fleet, group, control, **arguments)
        assert raised.value.details["steps"] == []
    assert fleet.site.pids() == pid


def test_a_node_that_is_busy_and_cannot_hear_is_not_called_told(fleet: Drained) -> None:
    group = fleet.group(options={"pool": "solo", "prefetch_multiplier": 1})
    group.pop("concurrency")
    fleet.converge(group)
    fleet.send(("long", 9))
    fleet.begun(1)
    with pytest.raises(WorkfleetError, match="no answer within 5 s"):
        tell(fleet, group, "add_consumer", queue="other")


def test_a_time_limit_that_would_have_no_effect_is_refused(fleet: Drained) -> None:
    command = ["python", "-m", "celery", "-A", "noted", "worker", "-n", "shop.w.1.1@h1", "-Q", "work"]
    group = {"name": "w", "engine": "celery", "app": "noted", "command": command}
    with pytest.raises(WorkfleetError, match="no effect on a worker that a command of your own starts"):
        tell(fleet, group, "time_limit", task_name="work", time_limit=2)


def test_a_quiet_node_is_given_no_queue(fleet: Drained) -> None:
    group = fleet.group()
    fleet.converge(group)
    fleet.call(group)
    with pytest.raises(WorkfleetError, match=r"run resume\.yml first. No node was told"):
        tell(fleet, group, "add_consumer", queue="other")
    assert stats(fleet)["queues"] == []


def test_a_host_without_the_group_is_passed_over_and_a_group_that_none_has_is_refused(
    site: Site, redis_server: RedisServer, tmp_path: Path,
) -> None:
    app = Played(site, redis_server, tmp_path, "celery")
    app.play("start")
    inventory = json.loads(app.inventory.read_text())
    hosts = inventory["workers"]["hosts"]
    (group,) = hosts["web1"]["worker_groups"]
    hosts["web2"] = {**hosts["web1"], "worker_groups": [{**group, "name": "other"}]}
    app.inventory.write_text(json.dumps(inventory))
    said = app.play("control", "-e", "group=w control=rate_limit task_name=work rate_limit=5/s")
    assert app.steps == [("live", "workfleet.shop.w.1.1")]
    assert "web2: it has no nodes of w; nothing was sent to it" in said
    assert "group = 'none': must be one of w, other" in app.play("control", "-e", "group=none control=rate_limit", expect=2)
