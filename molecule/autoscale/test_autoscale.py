"""The timer on the control host scales real Celery workers on two hosts, and obeys people."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from common import test_no_unit_is_exposed_more_than_its_sandbox_promises  # noqa: F401 - pytest collects it here
from fleet import Fleet, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "revrx-autoscaler"
#: So many that two nodes would need minutes, and an evaluation on a busy machine still finds most of them.
TASKS = 40


@pytest.fixture
def paused(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet without its timer, which is on again at the end."""
    fleet.run(fleet.worker, "systemctl", "stop", f"{NAME}.timer")
    wait(lambda: "inactive" in fleet.run(fleet.worker, "systemctl", "is-active", f"{NAME}.service", check=False), 60)
    yield fleet
    fleet.run(fleet.worker, "systemctl", "start", f"{NAME}.timer")


def reports(fleet: Fleet) -> list[int]:
    """Return how many nodes each host runs."""
    return [len(fleet.main_processes(host)) for host in fleet.workers]


def sleepers(fleet: Fleet) -> list[int]:
    return [len(fleet.run(host, "pgrep", "-fx", "/bin/sleep 4001", check=False).split()) for host in fleet.workers]


def journal(fleet: Fleet, since: float = 0) -> str:
    return fleet.run(fleet.worker, "journalctl", "-t", NAME, "-o", "cat", "--no-pager", "--since", f"@{since:.0f}")


def flood(fleet: Fleet, count: int, seconds: float) -> None:
    """Send tasks, each of which leaves a mark each time it is run."""
    fleet.in_app(f"from app import tasks; [tasks.fetch.apply_async(({seconds},), queue='reports') for _ in range({count})]")


def done(fleet: Fleet) -> int:
    """Return how many tasks have a result."""
    return int(fleet.run(fleet.worker, "sh", "-c", "redis-cli -a geheim -n 1 --scan --pattern 'celery-task-meta-*' 2>/dev/null | wc -l"))


def test_the_timer_scales_up_and_down_and_no_task_is_interrupted(fleet: Fleet) -> None:
    wait(lambda: reports(fleet) == [1, 1], 120)
    before, begun = done(fleet), time.time()
    flood(fleet, TASKS, 5)
    wait(lambda: reports(fleet) == [3, 2], 120)
    wait(lambda: done(fleet) == before + TASKS, 240)
    wait(lambda: reports(fleet) == [1, 1], 120)
    said = journal(fleet)
    assert "reports: 2 → 5 nodes: " in said
    assert re.search(r"reports: \d → 2 nodes: 0 tasks, 2 a node", said)
    assert "geheim" not in said
    states = fleet.in_app("from app.celery_app import celery_app as a; r = a.backend.client; import json; "
                          "print({json.loads(r.get(k))['status'] for k in r.scan_iter('celery-task-meta-*')})")
    assert states == "{'SUCCESS'}"
    taken = [int(fleet.run(host, "sh", "-c", f"journalctl -o cat --no-pager --since @{begun:.0f} | grep -c 'fetch.*received'", check=False))
             for host in fleet.workers]
    assert sum(taken) == TASKS, taken


def test_it_runs_as_its_own_user_and_one_at_a_time(fleet: Fleet) -> None:
    assert fleet.run(fleet.worker, "systemctl", "show", "-p", "User", f"{NAME}.service").strip() == f"User={NAME}"
    modes = fleet.run(fleet.worker, "sh", "-c", f"stat -c '%a %U:%G %n' /opt/{NAME}/inventory /opt/{NAME}/private/*").splitlines()
    assert {line.split()[0] for line in modes} == {"750", "640"}
    assert {line.split()[1] for line in modes} == {f"root:{NAME}"}, "what it runs with is not its own to change"
    # Asked while the lock is held: the timer starts it again a moment later.
    start = f"systemctl start {NAME}.service; systemctl show -p ExecMainStatus {NAME}.service"
    assert "ExecMainStatus=75" in fleet.run(fleet.worker, "flock", f"/opt/{NAME}/home/lock", "sh", "-c", start)


def test_a_count_set_by_hand_is_foretold_kept_by_site_and_left_alone_while_paused(paused: Fleet) -> None:
    fleet = paused
    wish = {"group": "reports", "nodes": 4, "control": "pause"}
    predicted = fleet.play("scale", "--check", **wish)
    assert reports(fleet) == [1, 1]
    assert fleet.play("scale", **wish).steps == predicted.steps
    assert reports(fleet) == [2, 2]
    kept = fleet.play("site", "--tags", "worker")
    assert [step for step in kept.steps if step["action"] != "remove"] == []
    assert reports(fleet) == [2, 2]
    assert "reports: 4 nodes: held: it is paused" in fleet.play("autoscale").out
    assert fleet.status()["hosts"][fleet.worker]["scaled"]["reports"]["nodes"] == 2
    assert "reports: 4 nodes: resumed" in fleet.play("scale", group="reports", control="resume").out
    fleet.play("scale", group="reports", nodes=2)


def test_a_group_without_a_policy_is_scaled_on_each_host(paused: Fleet) -> None:
    fleet = paused
    fleet.play("scale", group="steady", nodes=2)
    assert sleepers(fleet) == [2, 2]
    fleet.play("site", "--tags", "worker")
    assert sleepers(fleet) == [2, 2]
    fleet.play("site", "--tags", "worker", nodes="inventory", worker_only="steady")
    assert sleepers(fleet) == [1, 1]


@pytest.mark.parametrize(("wish", "said"), [
    ({"group": "reports", "nodes": 6}, "autoscale of the group reports has bounds, 2 to 5 over all hosts"),
    ({"group": "nobody", "nodes": 1}, "group = 'nobody': no such worker group; known are reports, steady"),
    ({"group": "steady", "nodes": "many"}, "nodes = 'many': must be a whole number"),
])
def test_a_wrong_wish_is_named_and_nothing_is_touched(fleet: Fleet, wish: dict[str, object], said: str) -> None:
    before = sleepers(fleet)
    assert said in fleet.play("scale", expect=2, **wish).out
    assert sleepers(fleet) == before


def test_what_is_stopped_stays_stopped_and_a_lost_broker_holds(paused: Fleet) -> None:
    fleet = paused
    fleet.play("stop", worker_only="reports")
    flood(fleet, 9, 0)
    run = fleet.play("autoscale")
    assert "9 tasks, 2 a node" in run.out
    assert reports(fleet) == [0, 0]
    fleet.play("start", worker_only="reports")
    fleet.run(fleet.redis, "systemctl", "stop", "redis-server")
    before = reports(fleet)
    run = fleet.play("autoscale")
    assert "reports: held: " in run.out and "cannot connect" in run.out
    assert reports(fleet) == before
    fleet.run(fleet.redis, "systemctl", "start", "redis-server")


def test_a_dry_run_only_tells_and_absent_leaves_neither_units_nor_secrets(fleet: Fleet) -> None:
    fleet.run(fleet.worker, "systemctl", "stop", f"{NAME}.timer", f"{NAME}.service")
    fleet.play("scale", group="reports", nodes=5)
    assert reports(fleet) == [3, 2]
    begun = time.time()
    predicted = fleet.play("site", "--check", "--tags", "autoscaler", autoscaler_dry_run=True)
    assert fleet.play("site", "--tags", "autoscaler", autoscaler_dry_run=True).steps == predicted.steps != []
    wait(lambda: journal(fleet, begun).count("reports: 5 nodes: 0 tasks, 2 a node: 2 nodes, when") >= 2, 120)
    assert reports(fleet) == [3, 2]
    assert fleet.play("site", "--tags", "autoscaler", autoscaler_dry_run=True).steps == []
    predicted = fleet.play("site", "--check", "--tags", "autoscaler", autoscaler_state="absent")
    assert fleet.play("site", "--tags", "autoscaler", autoscaler_state="absent").steps == predicted.steps
    assert fleet.run(fleet.worker, "sh", "-c", f"ls /etc/systemd/system/{NAME}.* /opt/{NAME}/private/* 2>/dev/null", check=False) == ""
