"""Tasks of a worker that was killed go back once; those of a worker that may be alive never do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from plugins.module_utils.workfleet import reap, resp
from plugins.module_utils.workfleet.engines import celery_reap, celery_wire
from plugins.module_utils.workfleet.errors import WorkfleetError
from tests.integration import celery_fleet
from tests.integration.celery_fleet import until
from tests.integration.supervised import ME, MY_GROUP, REPOSITORY, Site, site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.celery_fleet import Fleet

__all__ = ["site"]
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")
DEAD, ALIVE = "shop.w.1.1@h1", "shop.w.2.1@h1"
LATER = 600
NOTHING: dict[str, Any] = {"changed": False, "returned": [], "dead": [], "forgotten": [], "unbound": [], "left": []}


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with celery_fleet.fleet() as started:
        yield started


def order(fleet: Fleet, *running: str, **more: Any) -> reap.Order:
    given = {"app": "shop", "url": fleet.url, "queues": ["reports"], "running": running, "hosts": ["h1"], "seconds": 0.3, "timeout": 3.0}
    return reap.Order(**{**given, **more})


def reaped(wanted: reap.Order, *, check: bool = False) -> dict[str, Any]:
    return reap.reap("celery", wanted, check=check)


def send(fleet: Fleet, *ids: str, queue: str = "reports", **options: Any) -> None:
    """Tasks for later: a worker takes them at once and holds them."""
    with Celery(broker=fleet.url) as client:
        for identity in ids:
            client.send_task("celery.accumulate", [identity], queue=queue, task_id=identity, countdown=LATER, **options)


def held(fleet: Fleet) -> int:
    return int(fleet.client.call("HLEN", "unacked"))


def waiting(fleet: Fleet, *lists: str) -> list[str]:
    return [json.loads(message)["headers"]["id"] for name in lists for message in fleet.client.call("LRANGE", name, 0, -1)]


def kill(fleet: Fleet, node: str) -> None:
    fleet.workers[node].kill()
    fleet.workers[node].wait()
    alive = [process for process in fleet.workers.values() if process.poll() is None]
    until(lambda: len(fleet.client.call("CLIENT", "LIST", "TYPE", "pubsub").splitlines()) == len(alive))


def test_a_killed_workers_tasks_go_back_once_each_to_its_priority_and_no_foreign_one(fleet: Fleet) -> None:
    fleet.start(DEAD)
    fleet.ready(DEAD)
    send(fleet, "a", "b")
    send(fleet, "urgent-6", priority=6)
    send(fleet, "foreign", queue="default")
    until(lambda: held(fleet) == 4)

    assert reaped(order(fleet, DEAD)) == NOTHING
    kill(fleet, DEAD)
    keys = fleet.all_keys()
    foretold = reaped(order(fleet), check=True)
    assert (held(fleet), fleet.all_keys()) == (4, keys)
    done = reaped(order(fleet))
    assert done == foretold
    assert [(task["id"], task["task"]) for task in done["returned"]] == [
        ("a", "celery.accumulate"), ("b", "celery.accumulate"), ("urgent-6", "celery.accumulate")]
    assert done["forgotten"] == [DEAD]
    assert sorted(waiting(fleet, "reports")) == ["a", "b"]
    assert waiting(fleet, "reports\x06\x166") == ["urgent-6"]
    assert (held(fleet), fleet.client.call("ZCARD", "unacked_index")) == (1, 1)
    assert reaped(order(fleet))["changed"] is False

    # Celery takes them as its own.
    fleet.start(ALIVE, queues="reports")
    until(lambda: held(fleet) == 4)
    fleet.ready(ALIVE)
    assert reaped(order(fleet, ALIVE))["changed"] is False


def test_nothing_is_moved_while_an_owner_may_be_alive(fleet: Fleet) -> None:
    fleet.start(DEAD)
    fleet.ready(DEAD)
    send(fleet, "a")
    until(lambda: held(fleet) == 1)
    # It lives, and is silent.
    fleet.workers[DEAD].send_signal(19)
    try:
        with pytest.raises(WorkfleetError, match="1 workers listen on the broker, and 0 have answered"):
            reaped(order(fleet, timeout=0.5))
    finally:
        fleet.workers[DEAD].send_signal(18)
    kill(fleet, DEAD)
    # A node of the inventory has a process, and the broker does not know it: it may be cut off.
    with pytest.raises(WorkfleetError, match=f"{ALIVE}: runs on its host, and has not answered"):
        reaped(order(fleet, ALIVE))
    assert (held(fleet), waiting(fleet, "reports")) == (1, [])


def test_of_two_reaps_at_once_and_of_celerys_own_restore_one_returns_a_task(fleet: Fleet) -> None:
    fleet.start(DEAD)
    fleet.ready(DEAD)
    send(fleet, "a")
    until(lambda: held(fleet) == 1)
    kill(fleet, DEAD)
    wanted = order(fleet)
    wire = celery_wire.Wire.parse({})
    with resp.connect(fleet.url) as client:
        (orphan,) = celery_reap._Look(client, wire, wanted).seen().held.values()
        assert [celery_reap.give_back(client, wire, wanted, orphan) for _ in range(2)] == [True, False]
    assert waiting(fleet, "reports") == ["a"]


def test_what_waits_for_its_rate_is_left_alone(fleet: Fleet) -> None:
    fleet.start(DEAD)
    fleet.start(ALIVE, queues="default")
    fleet.ready(DEAD, ALIVE)
    send(fleet, "a")
    until(lambda: held(fleet) == 1)
    kill(fleet, DEAD)
    with Celery(broker=fleet.url) as client:
        client.control.rate_limit("celery.accumulate", "1/h", destination=[ALIVE], reply=True)
    done = reaped(order(fleet, ALIVE))
    assert done["returned"] == []
    assert done["left"][0].startswith("a (celery.accumulate): no worker tells of it, but its rate is limited")
    assert held(fleet) == 1


def play(fleet: Fleet, site: Site, folder: Path, *words: str, expect: int = 0, others: int = 0) -> str:
    """Run the playbook for one host that is this machine and some that cannot be reached."""
    group = {"name": "w", "engine": "celery", "app": "app.celery_app", "queues": ["reports"], "drain_seconds": 60}
    variables = {"app_name": "shop", "app_user": ME, "app_group": MY_GROUP, "app_root": site.root, "app_broker_url": fleet.url,
                 "worker_manager": "supervisor", "worker_groups": [group], "worker_run_directory": site.run_directory}
    hosts = {"web1": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False},
             **{f"gone{number}": {"ansible_host": "127.0.0.1", "ansible_port": 1} for number in range(others)}}
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"workers": {"hosts": hosts, "vars": variables}}))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), str(REPOSITORY / "playbooks" / "reap.yml"),
               "-e", "sample_seconds=0.3", *words]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_playbook_foretells_and_returns_and_refuses_while_a_host_was_not_looked_at(fleet: Fleet, site: Site, tmp_path: Path) -> None:
    fleet.start(DEAD)
    fleet.ready(DEAD)
    send(fleet, "a")
    until(lambda: held(fleet) == 1)
    kill(fleet, DEAD)
    assert "A worker may run there, so nothing was returned" in play(fleet, site, tmp_path, expect=2, others=1)
    assert "worker_only: a task may be held by any node" in play(fleet, site, tmp_path, "-e", "worker_only=w", expect=2)
    assert "  reports: a (celery.accumulate) would go back\n" in play(fleet, site, tmp_path, "--check")
    assert (held(fleet), waiting(fleet, "reports")) == (1, [])
    said = play(fleet, site, tmp_path)
    assert "  1 tasks of dead workers went back to their queues; 1 dead nodes forgotten\n" in said
    assert (held(fleet), waiting(fleet, "reports")) == (0, ["a"])
