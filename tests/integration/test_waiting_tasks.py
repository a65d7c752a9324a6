"""What waits in real queues, by the names that real clients gave, and what real releases say that they register."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import model
from plugins.module_utils.workfleet.engines import named, taskqueues
from plugins.module_utils.workfleet.engines.base import Place
from plugins.module_utils.workfleet.engines.verbs import backlog
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import limits
from plugins.module_utils.workfleet.release import preflight
from plugins.module_utils.workfleet.spec import workers as spec
from tests.integration import arq_fleet, celery_fleet, chicory_fleet
from tests.integration.drained import Drained
from tests.integration.supervised import site
from tests.patience import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import RedisServer
    from tests.integration.supervised import Site

__all__ = ["site"]


def names(engine: str, url: str, *queues: str, **options: Any) -> dict[str, dict[str, int]]:
    told = taskqueues.named(engine).waiting_tasks(url, queues, options)
    return {queue: dict(found.names) for queue, found in told.items()}


def asked(group: model.Group, python: Path | str, folder: Path, url: str) -> dict[str, Any]:
    """Have the Python of a release tell what it registers, as the module does."""
    runners = celery_fleet.ROOT / "runners"
    place = Place(node="n@h", directory=str(folder), environment="/none", runners=str(runners))
    engine = named(group.engine)
    argv = engine.ask(engine.command(group, place), str(runners))
    environment = {**os.environ, "CELERY_BROKER_URL": url, "REDIS_URL": url, "PYTHONPATH": str(runners),
                   "CHICORY_BROKER_REDIS_URL": url, "CHICORY_BACKEND_REDIS_URL": url}
    done = subprocess.run([str(python), *argv[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("workfleet-tasks:")]
    return dict(json.loads(line.partition(":")[2]))


def celery_group(**keys: Any) -> model.Group:
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
                     "for n in range(3): count_primes.apply_async([9], queue='reports').get(timeout=60)\n"
                     "for n in range(3): fetch.apply_async([60], queue='reports')")
        wanted = {"app.tasks.count_primes": 3, "app.tasks.fetch": 3}
        until(lambda: named("celery").ran(fleet.url, ["w1@h", "silent@h"], {}, 1.0) == {"w1@h": wanted})


def test_a_host_tells_what_its_groups_have_run(site: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    fleet = Drained(site, redis_server, tmp_path, "celery")
    group = fleet.group()
    fleet.converge(group)
    fleet.send(("one", 0.1), ("two", 0.1))
    until(lambda: len(fleet.noted("end")) == 2)
    told = preflight.look(site.host_nodes(site.request([group])), release="0123456789ab")
    assert told["groups"]["w"]["ran"] == {"work": 2}
    assert preflight.look(site.host_nodes(site.request([{**group, "nodes": 3}])), release=None)["counts"] == {"w": 3}


def test_an_import_may_take_what_a_node_may_take_and_who_runs_into_that_is_told_what_to_raise(
    site: Site, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """60 and 120 s ended the look at an app for whose nodes 300 s were declared."""
    fleet = Drained(site, redis_server, tmp_path, "celery")
    app = tmp_path / "noted.py"
    app.write_text("import time\ntime.sleep(3)\n" + app.read_text())
    monkeypatch.setattr(limits, "LEAST_IMPORT_SECONDS", 0.5)
    said = r"did not end within 1 s\. It imports the app: give that more time by worker_rollout\.ready_timeout_seconds"

    def looked(seconds: float) -> dict[str, Any]:
        request = site.request([fleet.group()], rollout={"ready_timeout_seconds": seconds})
        values = json.loads(request["groups"][0]["values"])
        values["command"][0] = fleet.interpreter  # as that of a release is told
        request["groups"][0]["values"] = json.dumps(values)
        return dict(preflight.look(site.host_nodes(request), release="0123456789ab")["groups"]["w"])

    assert re.search(said, looked(1)["error"])
    assert "work" in looked(120)["tasks"]
    with pytest.raises(WorkfleetError, match=said):
        site.work([fleet.group()], rollout={"ready_timeout_seconds": 1})
    assert site.present() == {}


def test_a_long_celery_queue_is_read_from_its_head_and_said_to_be_cut(redis_server: RedisServer) -> None:
    new, old = (json.dumps({"headers": {"task": name}, "body": "", "properties": {}}) for name in ("new", "old"))
    redis_server.call("RPUSH", "reports", *[new] * 50, *[old] * backlog.MOST)
    found = taskqueues.named("celery").waiting_tasks(redis_server.url(), ["reports"], {})["reports"]
    assert (dict(found.names), found.is_cut, found.unreadable) == ({"old": backlog.MOST}, True, 0)
    redis_server.call("LTRIM", "reports", 0, 51)
    redis_server.call("LPUSH", "reports", "no message")
    found = taskqueues.named("celery").waiting_tasks(redis_server.url(), ["reports"], {})["reports"]
    assert (dict(found.names), found.is_cut, found.unreadable) == ({"new": 50, "old": 2}, False, 1)


def test_a_celery_message_of_the_first_protocol_has_its_name_in_its_body(redis_server: RedisServer) -> None:
    url = redis_server.url()
    code = (f"from celery import Celery\napp = Celery(broker={url!r})\napp.conf.task_protocol = 1\n"
            "app.conf.broker_transport_options = {'global_keyprefix': 'my-'}\napp.send_task('app.first', queue='reports')")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=180, capture_output=True)
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


LIMITED = """
from celery import Celery
app = Celery("limited")
app.conf.update({settings})

@app.task
def plain(): ...

@app.task(time_limit=900, soft_time_limit=800)
def own(): ...

@app.task(soft_time_limit=700)
def soft(): ...
"""


@pytest.mark.parametrize(("settings", "options", "longest", "said"), [
    ("", {}, 900, "limited.own = 900, limited.soft = 700"),
    ("task_time_limit=3600", {"time_limit": 10}, 3600, "task_time_limit = 3600, limited.own = 900"),
    ("task_soft_time_limit=3600", {}, 3600, "task_soft_time_limit = 3600, limited.own = 900, limited.soft = 700"),
    ("", {"time_limit": 650.5}, 900, "limited.own = 900, --time-limit = 650.5"),
    ("", {"soft_time_limit": 650}, 900, "limited.own = 900, limited.soft = 700, --soft-time-limit = 650"),
])
def test_a_celery_release_tells_which_of_its_limits_a_stop_does_not_wait_for(
    tmp_path: Path, settings: str, options: dict[str, float], longest: float, said: str,
) -> None:
    (tmp_path / "limited.py").write_text(LIMITED.format(settings=settings))
    place = Place(node="n@h", directory=str(tmp_path), environment=sys.prefix, runners=str(celery_fleet.ROOT / "runners"))
    group = celery_group(app="limited", options=options)
    lines = {}
    for drain in (600, 3600):
        argv = named("celery").trial(named("celery").command(group, place), place.runners, drain)
        done = subprocess.run(argv, cwd=tmp_path, env={"PYTHONPATH": place.runners}, capture_output=True, text=True, check=True,
                              timeout=180)
        lines[drain] = done.stdout.splitlines()
    assert json.loads(lines[600][0].partition(":")[2])["time_limit"] == longest
    assert [line.partition(": a stop may kill a task")[0] for line in lines[600][1:]] == [
        f"workfleet-warning: drain_seconds = 600 is below time limits of the app's tasks ({said})"]
    assert lines[3600][1:] == []


def test_a_limit_of_the_apps_settings_comes_before_that_of_the_command_line_in_a_real_worker() -> None:
    with celery_fleet.fleet() as fleet:
        limits = {"task_time_limit": 30, "task_soft_time_limit": 20}
        fleet.start("w1@h", "--time-limit=1", pool="prefork", queues="reports", settings=limits)
        fleet.ready("w1@h")
        said = fleet.python("from app.tasks import fetch; print(fetch.apply_async([2], queue='reports').get(timeout=60))")
        assert said.startswith("answered after 2")


def test_a_drain_below_the_apps_own_time_limit_is_warned_of_before_a_node_starts(
    site: Site, redis_server: RedisServer, tmp_path: Path,
) -> None:
    fleet = Drained(site, redis_server, tmp_path, "celery")
    with (tmp_path / "noted.py").open("a") as file:
        file.write("app.conf.task_time_limit = 3600\n")
    assert site.work([fleet.group(drain_seconds=3600)]).warned == []
    said, = site.work([fleet.group(concurrency=3)]).warned
    assert said.startswith("w: drain_seconds = 60 is below time limits of the app's tasks (task_time_limit = 3600): a stop may kill")


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
