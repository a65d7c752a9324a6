"""The inventory ``flow`` on real hosts: arq under systemd and under supervisor. The tests build on each other, in this order."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from fleet import load_json, wait
from systems import System

if TYPE_CHECKING:
    from pathlib import Path

HEALTH = "arq:health-check:"
#: A queue of its own, so that nothing that runs is replaced for it.
BRIEF = {"name": "brief", "engine": "arq", "app": "app.worker.WorkerSettings", "queues": ["brief"], "concurrency": 4, "drain_seconds": 5,
         "options": {"job_timeout": 2, "max_tries": 3}}
CLIENT = """
import asyncio, json, sys
from arq import create_pool
from arq.jobs import Job
from app.worker import REDIS

async def ended(job):
    try:
        return await job.result(timeout=30, poll_delay=0.1)
    except Exception as error:
        return type(error).__name__ + ": " + str(error)

async def main(calls, queue, defer, await_results):
    redis = await create_pool(REDIS)
    jobs = [await redis.enqueue_job(name, *args, _queue_name=queue, _defer_by=defer) for name, args in calls]
    if await_results:
        print(json.dumps([await ended(Job(job.job_id, redis, queue)) for job in jobs]))
"""

#: With a driver in /tmp/pg, for the example app needs none.
LOGIN = """
import os, sys
from urllib.parse import unquote, urlsplit
sys.path.append("/tmp/pg")
import pg8000.native
url = urlsplit(os.environ["DATABASE_URL"])
login = {"password": unquote(url.password), "host": url.hostname, "port": url.port, "database": url.path[1:]}
print(pg8000.native.Connection(url.username, **login).run("SELECT current_user")[0][0])
"""


@pytest.fixture(scope="session")
def fleet() -> System:
    """The scenario's hosts."""
    return System("flow")


def send(fleet: System, *calls: tuple[str, list[Any]], queue: str = "arq:queue", defer: float = 0, results: bool = False) -> list[Any]:
    """Send jobs as the app's own code does; return their results if wanted."""
    words = json.dumps([calls, queue, defer, results])
    return list(json.loads(fleet.in_app(f"{CLIENT}\nasyncio.run(main(*json.loads({words!r})))") or "[]"))


def flows(name: str, count: int, seconds: float) -> list[tuple[str, list[Any]]]:
    return [("run_flow", [f"{name}-{number}", seconds, 1]) for number in range(count)]


def noted(fleet: System, what: str, name: str) -> list[str]:
    """Return the flows of that name that began or are done, as often as they did."""
    return sorted(line for line in fleet.ask("LRANGE", f"flow:{what}", 0, -1) if line.startswith(f"{name}-"))


def names(name: str, count: int) -> list[str]:
    return sorted(f"{name}-{number}" for number in range(count))


def healthy(fleet: System) -> dict[str, int]:
    """Return node → pid of the health-check keys."""
    keys = fleet.ask("KEYS", f"{HEALTH}*")
    told = {key[len(HEALTH):]: fleet.ask("GET", key) for key in keys}
    return {node: int(words.split(" pid=")[1].split()[0]) for node, words in told.items()}


def open_files(fleet: System, host: str, pid: int) -> int:
    """Return how many files a process may have open at most."""
    limits = fleet.run(host, "cat", f"/proc/{pid}/limits").splitlines()
    return next(int(line.split()[4]) for line in limits if line.startswith("Max open files"))


def test_the_hosts_are_those_of_the_inventory(fleet: System) -> None:
    fleet.check_hosts()


def test_every_declared_node_is_one_process_and_tells_its_health_in_a_key_of_its_own(fleet: System) -> None:
    fleet.check_nodes()
    assert healthy(fleet) == fleet.processes()
    for host in fleet.workers:
        for pid in fleet.main_processes(host).values():
            assert open_files(fleet, host, pid) == min(65536, open_files(fleet, host, 1)), "a host may allow less to all that runs there"


def test_a_worker_finds_the_database_and_nobody_else_is_let_in(fleet: System) -> None:
    for host in fleet.workers:
        fleet.run(host, "python3", "-m", "venv", "/tmp/pg-venv")
        fleet.run(host, "/tmp/pg-venv/bin/pip", "install", "--quiet", "--target", "/tmp/pg", "pg8000==1.31.6", "scramp==1.5.0")
        assert fleet.run(host, "/opt/flow/bin/run", "python", "-c", LOGIN).strip() == "flow"
    rules = "SELECT DISTINCT address FROM pg_hba_file_rules WHERE 'flow' = ANY (user_name) AND address <> '127.0.0.1'"
    allowed = fleet.run("flow-data", "runuser", "-u", "postgres", "--", "psql", "-Atc", rules).split()
    assert sorted(allowed) == sorted(fleet.hostvars[host]["ansible_host"] for host in fleet.workers)


def test_jobs_of_every_kind_end_as_they_should_and_canaries_come_back(fleet: System) -> None:
    mix = ["--flow", "40", "--flaky", "2", "--fail", "2", "--where", "4"]
    said = fleet.run(fleet.worker, "/opt/flow/bin/run", "python", "-m", "app.send", *mix)
    assert "48 jobs sent" in said
    assert "BAD" not in said
    fleet.play("verify")
    assert fleet.play("health").out.count("flow: all declared nodes consume (3 of 3)") == 2


@pytest.mark.full
def test_retries_and_a_job_timeout_are_those_of_the_options(fleet: System) -> None:
    groups = [*fleet.vars["worker_groups"], BRIEF]
    fleet.play("site", "--limit", fleet.worker, worker_groups=groups)
    ended = send(fleet, ("flaky", [2]), ("flaky", [5]), *flows("late", 1, 9), queue="brief", results=True)
    assert ended[0] == "done at try 3"
    assert ended[1] == "JobExecutionFailed: max 3 retries exceeded"
    assert ended[2].startswith("TimeoutError")
    assert noted(fleet, "begun", "late") == ["late-0"], "a job that takes too long has failed; arq does not try it again"
    brief = fleet.nodes("brief", "--limit", fleet.worker, worker_groups=groups)
    assert {(node["processed"], node["failed"], node["running"]) for node in brief} == {(3, 2, 0)}
    assert fleet.play("site").touched == {"workfleet.flow.brief.1.1"}


@pytest.mark.full
def test_failed_jobs_are_sent_again_and_a_queue_is_shown_emptied_and_filled_again(fleet: System, tmp_path: Path) -> None:
    """The queue of before, of which no node is left."""
    said = fleet.play("dead_letters", queue="brief").out
    assert "brief: 2 dead letters" in said
    assert "max 3 retries exceeded" in said
    job = next(line.split()[0] for line in said.splitlines() if "  run_flow  " in line)
    assert "TimeoutError" in fleet.play("dead_letters", queue="brief", letters=f"show {job}").out
    assert "1 dead letter, 1 sent again" in fleet.play("dead_letters", queue="brief", letters=f"replay {job}").out

    fleet.play("queues", sample_seconds=0, queues_json=str(tmp_path / "queues.json"))
    told = {queue["queue"]: queue for queue in load_json(str(tmp_path / "queues.json"))["queues"]}
    assert {name: (queue["waiting"], queue["consumers"], queue["declared"]) for name, queue in told.items()} == {
        "arq:queue": (0, 6, True), "brief": (1, 0, False)}
    fleet.play("purge", queue="brief", dump_dir=str(tmp_path), confirm="purge flow brief")
    assert fleet.ask("EXISTS", "brief", f"arq:job:{job}") == 0
    fleet.play("restore", dump=str(next(tmp_path.glob("flow-brief-*.dump"))))
    assert fleet.ask("ZRANGE", "brief", 0, -1) == [job]
    fleet.ask("DEL", "brief", f"arq:job:{job}")


def test_what_cannot_work_is_refused_and_nothing_is_touched(fleet: System) -> None:
    wrong = fleet.groups(flows={"app": "app.worker.Nosuch"})
    fleet.check_refused("app.worker.Nosuch: the module app.worker has no Nosuch", wrong)
    fleet.ask("LPUSH", "brief", "a message of something else")
    fleet.check_refused("queue brief: the key of that name in Redis is no queue of arq's", [*fleet.vars["worker_groups"], BRIEF])
    fleet.ask("DEL", "brief")


def test_a_full_fleet_is_told_and_a_stop_of_one_host_loses_no_job_and_hides_no_other_node(fleet: System) -> None:
    first, second = fleet.workers
    before = fleet.processes()
    long = fleet.long()
    send(fleet, *flows("full", 64, long))
    wait(lambda: len(noted(fleet, "begun", "full")) == 60, long)
    status = fleet.status()
    assert fleet.waiting(status) == {"arq:queue": 4}
    nodes = [node for host in status["hosts"].values() for node in host["nodes"]]
    assert [(node["state"], node["concurrency"], node["running"]) for node in nodes] == [("ready", 10, 10)] * 6
    assert {node["node"]: node["pid"] for node in nodes} == before
    fleet.play("stop", "--limit", first)
    assert set(healthy(fleet)) == set(fleet.main_processes(second)) == {node for node in before if node.endswith(f"@{second}")}
    wait(lambda: noted(fleet, "done", "full") == names("full", 64), 3 * long)
    assert noted(fleet, "begun", "full") == names("full", 64), "a job was cut short and run again"
    fleet.play("start", "--limit", first)
    assert set(healthy(fleet)) == set(before)


def test_a_killed_node_comes_back_under_its_name_and_disturbs_no_other(fleet: System) -> None:
    before = fleet.processes()
    for host in fleet.workers:
        node, pid = min(fleet.main_processes(host).items())
        fleet.run(host, "kill", "-KILL", str(pid))
        wait(lambda node=node, pid=pid: healthy(fleet).get(node) not in (None, pid), 30)
    assert healthy(fleet) == fleet.processes()
    after = fleet.processes()
    assert len(set(before.items()) - set(after.items())) == 2
    assert set(before) == set(after)


@pytest.mark.full
def test_the_job_of_a_killed_node_is_freed_and_every_host_judges_itself_well(fleet: System) -> None:
    long = fleet.long()
    send(fleet, *flows("orphan", 1, long))
    wait(lambda: noted(fleet, "begun", "orphan") == ["orphan-0"], long)

    def busy() -> list[str]:
        return [node for node in healthy(fleet) if "j_ongoing=1" in fleet.ask("GET", f"{HEALTH}{node}")]

    wait(lambda: bool(busy()), 5)
    owner, = busy()
    pid, host = fleet.processes()[owner], owner.rpartition("@")[2]
    fleet.run(host, "kill", "-KILL", str(pid))
    wait(lambda: healthy(fleet).get(owner) not in (None, pid), 30)
    # It is there again, and holds nothing: the job waits for the mark of the process that is dead.
    assert "1 tasks of dead workers went back to their queues" in fleet.play("reap").out
    wait(lambda: noted(fleet, "done", "orphan") == ["orphan-0"], 3 * long)
    assert noted(fleet, "begun", "orphan") == ["orphan-0"] * 2
    assert fleet.play("health").out.count("flow: all declared nodes consume (3 of 3)") == 2


def others(fleet: System, before: dict[str, int]) -> dict[str, int]:
    """Wait until every node is another process than before; return these."""
    wait(lambda: len(fleet.processes()) == len(before) and not set(fleet.processes().items()) & set(before.items()), 60)
    return fleet.processes()


def test_a_killed_redis_costs_no_job_and_the_workers_are_started_again_for_as_long_as_it_takes(fleet: System) -> None:
    send(fleet, *flows("kept", 20, 0.1), defer=20)
    time.sleep(1.5)  # the append-only file is synced every second
    before = fleet.processes()
    fleet.kill_redis()
    for _ in range(2):  # each of them ends, is started again, finds no broker, and ends again
        before = others(fleet, before)
    limits = fleet.run(fleet.worker, "systemctl", "show", "--property=StartLimitIntervalUSec", "workfleet.flow.*")
    assert set(limits.split()) == {"StartLimitIntervalUSec=0"}
    fleet.start_redis()
    fleet.wait_until_ready()
    wait(lambda: noted(fleet, "done", "kept") == names("kept", 20), 40)
    assert noted(fleet, "begun", "kept") == names("kept", 20)
    assert fleet.play("site").steps == []
    fleet.play("verify")
