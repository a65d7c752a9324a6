"""What waits in real queues, by the names that real clients gave, and what real releases say that they register."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import preflight, spec
from plugins.module_utils.workfleet.engines import backlog, named
from plugins.module_utils.workfleet.engines.base import Place
from tests.integration import arq_fleet, celery_fleet, chicory_fleet
from tests.integration.celery_fleet import until
from tests.integration.drained import Drained
from tests.integration.supervised import site

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import RedisServer
    from tests.integration.supervised import Site

__all__ = ["site"]


def names(engine: str, url: str, *queues: str, **options: Any) -> dict[str, dict[str, int]]:
    told = named(engine).waiting_tasks(url, queues, options)
    return {queue: dict(found.names) for queue, found in told.items()}


def asked(group: spec.Group, python: Path | str, folder: Path, url: str) -> dict[str, Any]:
    """Have the Python of a release tell what it registers, as the module does."""
    runners = celery_fleet.ROOT / "runners"
    place = Place(node="n@h", directory=str(folder), environment="/none", runners=str(runners))
    engine = named(group.engine)
    argv = engine.ask(engine.command(group, place), str(runners))
    environment = {**os.environ, "CELERY_BROKER_URL": url, "REDIS_URL": url, "PYTHONPATH": str(runners),
                   "CHICORY_BROKER_REDIS_URL": url, "CHICORY_BACKEND_REDIS_URL": url}
    done = subprocess.run([str(python), *argv[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("workfleet-tasks:")]
    return dict(json.loads(line.partition(":")[2]))


def celery_group(**keys: Any) -> spec.Group:
    entry = {"name": "reports", "app": "app.celery_app", "queues": ["reports"], **keys}
    return spec.parse({"app": {"name": "shop"}, "groups": [entry]}).groups[0]


def test_celery_tasks_of_all_priorities_and_those_that_a_worker_holds_are_counted_by_name() -> None:
    with celery_fleet.fleet() as fleet:
        fleet.start("w1@h", "--prefetch-multiplier", "4", queues="reports")
        fleet.ready("w1@h")
        fleet.python("from app.tasks import fetch\nfor n in range(4): fetch.apply_async([60], queue='reports')")
        until(lambda: fleet.client.call("HLEN", "unacked") >= 3)
        fleet.python("from app import tasks\n"
                     "for p in (0, 3, 9, 9): tasks.count_primes.apply_async([9], queue='reports', priority=p)\n"
                     "for n in range(8): tasks.fail.apply_async(queue='other')\n"
                     "tasks.fail.apply_async(queue='default', countdown=99)")
        told = names("celery", fleet.url, "reports", "default")
        assert told["reports"].pop("app.tasks.fetch") in (3, 4)  # the one that runs is acknowledged
        assert told == {"reports": {"app.tasks.count_primes": 4}, "default": {"app.tasks.fail": 1}}


def test_celery_nodes_tell_what_they_have_run_and_hold_by_name() -> None:
    with celery_fleet.fleet() as fleet:
        fleet.start("w1@h", "--prefetch-multiplier", "4", queues="reports")
        fleet.ready("w1@h")
        fleet.python("from app.tasks import count_primes, fetch\n"
                     "for n in range(3): count_primes.apply_async([9], queue='reports').get(timeout=20)\n"
                     "for n in range(3): fetch.apply_async([60], queue='reports')")
        wanted = {"app.tasks.count_primes": 3, "app.tasks.fetch": 3}
        until(lambda: named("celery").ran(fleet.url, ["w1@h", "silent@h"], {}, 1.0) == {"w1@h": wanted})


def test_a_host_tells_what_its_groups_have_run(site: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    fleet = Drained(site, redis_server, tmp_path, "celery")
    group = fleet.group()
    fleet.converge(group)
    fleet.send(("one", 0.1), ("two", 0.1))
    until(lambda: len(fleet.noted("end")) == 2)
    told = preflight.look(site.reconciler(site.request([group]), check=True), release="0123456789ab")
    assert told["groups"]["w"]["ran"] == {"work": 2}
    assert preflight.look(site.reconciler(site.request([{**group, "nodes": 3}]), check=True), release=None)["counts"] == {"w": 3}


def test_a_long_celery_queue_is_read_from_its_head_and_said_to_be_cut(redis_server: RedisServer) -> None:
    new, old = (json.dumps({"headers": {"task": name}, "body": "", "properties": {}}) for name in ("new", "old"))
    redis_server.call("RPUSH", "reports", *[new] * 50, *[old] * backlog.MOST)
    found = named("celery").waiting_tasks(redis_server.url(), ["reports"], {})["reports"]
    assert (dict(found.names), found.is_cut, found.unreadable) == ({"old": backlog.MOST}, True, 0)
    redis_server.call("LTRIM", "reports", 0, 51)
    redis_server.call("LPUSH", "reports", "no message")
    found = named("celery").waiting_tasks(redis_server.url(), ["reports"], {})["reports"]
    assert (dict(found.names), found.is_cut, found.unreadable) == ({"new": 50, "old": 2}, False, 1)


def test_a_celery_message_of_the_first_protocol_has_its_name_in_its_body(redis_server: RedisServer) -> None:
    url = redis_server.url()
    code = (f"from celery import Celery\napp = Celery(broker={url!r})\napp.conf.task_protocol = 1\n"
            "app.conf.broker_transport_options = {'global_keyprefix': 'my-'}\napp.send_task('app.first', queue='reports')")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
    assert names("celery", url, "reports", global_keyprefix="my-") == {"reports": {"app.first": 1}}


def test_arq_jobs_are_counted_by_function_and_those_that_run_are_not(redis_server: RedisServer, scratch: Path) -> None:
    with arq_fleet.fleet(scratch, redis_server) as fleet:
        fleet.start(options={"max_jobs": 1}).ready()
        fleet.enqueue(1, 60.0)
        until(lambda: fleet.flows("flow:begun"))
        fleet.enqueue(3, 60.0)
        fleet.python("await q('gone', _defer_by=500)")
        assert names("arq", fleet.url, "arq:queue") == {"arq:queue": {"run_flow": 3, "gone": 1}}


def test_chicory_tasks_are_counted_by_name_delayed_ones_too(redis_server: RedisServer, scratch: Path) -> None:
    fleet = chicory_fleet.Fleet(scratch, redis_server)
    fleet.send(("deliver", [1]), ("deliver", [2]), ("digest", [0.1]), queue="slow")
    redis_server.call("ZADD", "chicory:delayed:slow", 99, redis_server.call("XRANGE", "chicory:stream:slow", "-", "+")[0][1][1])
    found = names("chicory", redis_server.url(), "slow")["slow"]
    assert {name.rpartition(".")[2]: number for name, number in found.items()} == {"deliver": 3, "digest": 1}


def test_a_celery_release_tells_its_tasks_its_queues_and_its_limits(redis_server: RedisServer) -> None:
    group = celery_group(settings={"broker_transport_options": {"visibility_timeout": 77}})
    told = asked(group, sys.executable, celery_fleet.APP, redis_server.url())
    assert {"app.tasks.fetch", "app.celery_app.health_check", "celery.accumulate"} <= set(told["tasks"])
    assert set(told["queues_sent_to"]) == {"reports", "default"}
    assert "app.tasks.count_primes" in told["queues_sent_to"]["reports"]
    assert (told["visibility_timeout"], told["time_limit"]) == (77, 300)


def test_what_an_arq_release_registers_is_told_without_a_broker() -> None:
    arq_fleet.environment()
    told = asked(arq_fleet.group(), arq_fleet.ENVIRONMENT / "bin/python", arq_fleet.APP, "redis://127.0.0.1:1/0")
    assert {"run_flow", "flaky", "workfleet.probe"} <= set(told["tasks"])


def test_what_a_chicory_release_registers_is_told_without_a_broker() -> None:
    chicory_fleet.environment()
    told = asked(chicory_fleet.group(), chicory_fleet.ENVIRONMENT / "bin/python", chicory_fleet.APP, "redis://127.0.0.1:1/0")
    assert "workfleet.probe" in told["tasks"]
    assert len(told["tasks"]) > 2


@pytest.mark.parametrize("words", [["/bin/worker"], ["python", "start.py"]])
def test_a_command_of_the_users_own_is_not_asked(words: list[str]) -> None:
    assert named("celery").ask(words, "/r") == named("arq").ask(words, "/r") == named("chicory").ask(words, "/r") == []
