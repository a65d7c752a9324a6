"""Gnosari as its inventory has it, under both managers at once; a scheduler that keeps its memory and its lock."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from common import test_no_unit_is_exposed_more_than_its_sandbox_promises  # noqa: F401 - pytest collects it here
from fleet import ANSIBLE, INVENTORY, PROJECT, Fleet, wait
from systems import asked_for, open_to

SYSTEMD, SUPERVISOR = "gnosari-1", "gnosari-2"
#: Sends tasks by Gnosari's own routes and prints what became of them, and where.
SEND = """
import collections, json
from gnosari.queue import consumers as tools
sent = [tools.run_tool.delay('tool', 0.3) for _ in range(40)] + [tools.flaky_tool.delay('flaky', 2)]
broken = tools.break_tool.delay('tool')
found = collections.Counter(task.get(timeout=30) for task in sent)
print(json.dumps({**found, 'broken': repr(broken.get(timeout=30, propagate=False)), 'state': broken.state}))
"""
#: How often the scheduler has sent, by its own memory; read from a copy, for the scheduler has the file open.
TICKS = """
import glob, shelve, shutil, tempfile
with tempfile.TemporaryDirectory() as folder:
    for path in glob.glob('/opt/gnosari/schedule/schedule*'):
        shutil.copy(path, folder)
    print(shelve.open(folder + '/schedule', 'r')['entries']['tick'].total_run_count)
"""


def redis(fleet: Fleet, *words: str) -> list[str]:
    """Ask Redis, on its own host; an empty list is an empty line there."""
    password = fleet.vars["vault_redis_password"]
    return [line for line in fleet.run(fleet.redis, "env", f"REDISCLI_AUTH={password}", "redis-cli", *words).splitlines() if line]


def senders(fleet: Fleet) -> Counter[str]:
    """Return which hosts' schedulers sent the waiting ticks, and how many."""
    heads = [json.loads(message)["headers"] for message in redis(fleet, "LRANGE", "ticks", "0", "-1")]
    return Counter(head["origin"].partition("@")[2] for head in heads)


def holder(fleet: Fleet) -> str:
    """Return the node that holds the scheduler's lock."""
    found = "".join(redis(fleet, "GET", "workfleet:gnosari:scheduler"))
    return str(json.loads(found)["node"]) if found else ""


def has_ticked(fleet: Fleet, before: int) -> bool:
    """Whether the scheduler has sent more often than before, by its own memory."""
    return int(fleet.in_app(TICKS)) > before


def site(inventory: Path, *options: str, expect: int = 0, **extra: Any) -> str:
    """Run ``site.yml`` with another inventory than the scenario's."""
    words = [ANSIBLE, "-i", str(inventory), "playbooks/site.yml", "-e", json.dumps(extra), *options]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_each_group_is_ready_under_both_managers_and_so_are_scheduler_and_dashboard(fleet: Fleet) -> None:
    status = fleet.status()
    assert {host: told["manager"] for host, told in status["hosts"].items()} == {SYSTEMD: "systemd", SUPERVISOR: "supervisor"}
    for told in status["hosts"].values():
        assert {node["state"] for node in told["nodes"]} == {"ready"}
        found = Counter((node["group"], *node["queues"]) for node in told["nodes"])
        assert found == {("tools", "gnosari_queue"): 3, ("critical", "critical"): 1, ("background", "background"): 1}
    assert [status["hosts"][SYSTEMD][name]["state"] for name in ("scheduler", "dashboard")] == ["ready", "ready"]
    assert status["problems"] == []


def test_a_canary_comes_back_from_every_queue(fleet: Fleet) -> None:
    fleet.play("verify")


def test_tasks_are_done_on_both_hosts_fail_and_are_retried(fleet: Fleet) -> None:
    told = json.loads(fleet.in_app(SEND))
    assert told["tool on gnosari-1"] + told["tool on gnosari-2"] == 40
    assert min(told["tool on gnosari-1"], told["tool on gnosari-2"]) > 0
    assert told["flaky at attempt 3"] == 1
    assert (told["state"], "tool is broken" in told["broken"]) == ("FAILURE", True)
    assert redis(fleet, "LLEN", "gnosari_queue") == ["0"]


def test_flower_lets_in_whoever_has_the_password(fleet: Fleet) -> None:
    requests = [("/workers", ""), ("/workers", "ann:wrong"), ("/workers", "ann:s3cret"), ("/api/workers", "")]
    assert asked_for(fleet, SYSTEMD, requests) == [401, 401, 200, 401]
    assert open_to(fleet, SYSTEMD, 5555) == ["127.0.0.1:5555"]


def test_flower_that_is_open_to_the_world_is_refused_and_so_are_two_schedulers(fleet: Fleet) -> None:
    dashboard = {"app": "gnosari.queue.app.celery_app", "address": "0.0.0.0"}
    with tempfile.TemporaryDirectory() as folder:
        more = Path(folder) / "more.yml"
        more.write_text(f"scheduler: {{hosts: {{{SUPERVISOR}: }}}}\n")
        run = fleet.play("site", "-i", str(more), expect=2, worker_dashboard=dashboard)
    said = " ".join(run.out.split())
    assert "no host was touched" in said
    assert "worker_dashboard: address = '0.0.0.0'" in said
    assert "the app gnosari would have 2 schedulers, on gnosari-1, gnosari-2" in said
    assert run.steps == []


def test_the_schedule_survives_a_deploy_and_a_kill(fleet: Fleet) -> None:
    source = {**fleet.vars["app_source"], "exclude": ["README.md"]}
    release = fleet.run(SYSTEMD, "readlink", "/opt/gnosari/current")
    for end in ("deploy", "kill"):
        seen = int(fleet.in_app(TICKS))
        assert seen > 5
        if end == "deploy":
            fleet.play("site", "--limit", SYSTEMD, worker_only="scheduler", app_source=source)
        else:
            fleet.run(SYSTEMD, "systemctl", "kill", "--signal=KILL", "workfleet.gnosari.scheduler.1.2.service")
        assert int(fleet.in_app(TICKS)) >= seen, f"after a {end} it began anew"
        wait(functools.partial(has_ticked, fleet, int(fleet.in_app(TICKS))), 30)
        assert int(fleet.in_app(TICKS)) > seen
    assert fleet.run(SYSTEMD, "readlink", "/opt/gnosari/current") != release
    assert holder(fleet) == f"gnosari.scheduler.1.2@{SYSTEMD}"


def test_a_second_scheduler_of_another_inventory_waits_until_the_first_is_gone(fleet: Fleet) -> None:
    """Validation cannot see it: there the other host is the scheduler, and this one is not known."""
    node = {host: {name: value for name, value in fleet.hostvars[host].items() if name.startswith("ansible_")} for host in fleet.hostvars}
    groups = {"redis": fleet.redis, **dict.fromkeys(("workers", "supervised", "scheduler"), SUPERVISOR)}
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder)
        (other / "group_vars").symlink_to((INVENTORY / "group_vars").resolve())
        (other / "hosts.yml").write_text(json.dumps({group: {"hosts": {host: node[host]}} for group, host in groups.items()}))
        said = site(other, "--tags", "worker", expect=2, worker_only="scheduler", worker_rollout={"ready_timeout_seconds": 6})
    assert f"workfleet:gnosari:scheduler is held by gnosari.scheduler.1.2@{SYSTEMD}" in said
    redis(fleet, "DEL", "ticks")
    wait(lambda: senders(fleet)[SYSTEMD] > 3, 20)
    assert set(senders(fleet)) == {SYSTEMD}, "both sent"
    fleet.play("stop", "--limit", SYSTEMD, worker_only="scheduler")
    redis(fleet, "DEL", "ticks")
    wait(lambda: senders(fleet)[SUPERVISOR] > 1, 15)
    assert set(senders(fleet)) == {SUPERVISOR}
    fleet.play("site")
    assert holder(fleet).endswith(f"@{SYSTEMD}")
    assert fleet.is_well()


def test_gnosaris_own_command_is_found_out_as_a_wrapper(fleet: Fleet) -> None:
    own = {"name": "own", "app": "gnosari.queue.app.celery_app", "queues": ["gnosari_queue"], "drain_seconds": 10,
           "command": ["gnosari", "worker", "start", "-q", "gnosari_queue"]}
    groups = [*fleet.vars["worker_groups"], own]
    before = fleet.main_processes()
    run = fleet.play("site", "--limit", SYSTEMD, "--tags", "worker", expect=2, worker_groups=groups)
    assert "workfleet.gnosari.own.1.1 is no good: wrapper: the worker is process" in " ".join(run.out.split())
    assert before.items() <= fleet.main_processes().items()
    fleet.play("site", "--limit", SYSTEMD, "--tags", "worker")
    assert fleet.main_processes() == before
