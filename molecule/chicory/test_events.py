"""The inventory ``chicory`` on real hosts: under systemd and redis-py 7, under supervisor and redis-py 8.

The tests build on each other, in this order.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from fleet import load_json, wait
from systems import System

if TYPE_CHECKING:
    from pathlib import Path

HEARTBEAT = "chicory:heartbeat:"
URGENT = "high-priority"
OTHER: dict[str, Any] = {"name": "other", "engine": "chicory", "app": "app.tasks:app", "queues": ["taken"], "drain_seconds": 5}
CLIENT = """
import asyncio, json
from app import send, tasks
async def main(calls, queue):
    await tasks.app.connect()
    for name, args in calls:
        await send.send(getattr(tasks, name), args, queue)
    await tasks.app.disconnect()
"""


@pytest.fixture(scope="session")
def fleet() -> System:
    """The scenario's hosts."""
    return System("chicory")


def send(fleet: System, queue: str, *calls: tuple[str, list[Any]]) -> None:
    """Send tasks as the app's own code does."""
    fleet.in_app(f"{CLIENT}\nasyncio.run(main(*json.loads({json.dumps([calls, queue])!r})))")


def noted(fleet: System, event: str) -> Counter[str]:
    """Return what tasks with that event noted on all hosts, and how often."""
    lines = [line for host in fleet.workers for line in fleet.run(host, "sh", "-c", "cat /tmp/events.log 2>/dev/null; true").splitlines()]
    return Counter(line.rpartition(" ")[0] for line in lines if line.endswith(f" {event}"))


def pending(fleet: System, queue: str) -> int:
    """Return how many messages are taken and not acknowledged."""
    return int(fleet.ask("XPENDING", f"chicory:stream:{queue}", "chicory-workers")[0])


def dead_letters(fleet: System, task: str) -> list[dict[str, str]]:
    """Return the fields of the second queue's dead letters of a task."""
    entries = [dict(zip(fields[::2], fields[1::2])) for _, fields in fleet.ask("XRANGE", f"chicory:dlq:{URGENT}", "-", "+")]
    return [entry for entry in entries if entry["task_name"].endswith(task)]


def test_the_hosts_are_those_of_the_inventory(fleet: System) -> None:
    fleet.check_hosts()


def test_every_declared_node_is_one_process_and_tells_of_itself_under_its_own_name(fleet: System) -> None:
    fleet.check_nodes()
    keys = fleet.ask("KEYS", f"{HEARTBEAT}*")
    beats = {key[len(HEARTBEAT):]: json.loads(fleet.ask("GET", key)) for key in keys}
    assert {node: beat["pid"] for node, beat in beats.items()} == fleet.processes()
    assert {(beat["queue"], beat["concurrency"]) for beat in beats.values()} == {(URGENT, 32), ("default", 8)}
    assert all(0 < fleet.ask("TTL", key) <= 30 for key in keys)
    for host, version in zip(fleet.workers, ("7.4.1", "8.1.0")):
        assert fleet.run(host, "/opt/events/bin/run", "python", "-c", "import redis; print(redis.__version__)").strip() == version


def test_tasks_of_every_kind_end_as_they_should_on_both_queues_and_canaries_come_back(fleet: System) -> None:
    for queue in (URGENT, "default"):
        said = fleet.run(fleet.worker, "/opt/events/bin/run", "python", "-m", "app.send", "--queue", queue)
        assert "5 of 5 ended as they should" in said
    fleet.play("verify")
    assert fleet.play("health").out.count("events: all declared nodes consume (6 of 6)") == 2


def test_tasks_on_the_second_queue_run_once_though_they_take_longer_than_a_claim(fleet: System) -> None:
    send(fleet, URGENT, *[("deliver", [5, "long"])] * 40)
    wait(lambda: noted(fleet, "long")["end"] == 40, 30)
    time.sleep(5)  # after the claim time they would be taken again
    assert noted(fleet, "long") == {"begin": 40, "end": 40}
    assert pending(fleet, URGENT) == 0


@pytest.mark.full
def test_a_task_that_fails_has_all_its_retries_on_its_own_queue_and_is_kept_as_dead(fleet: System) -> None:
    send(fleet, URGENT, ("flaky", [9, "doomed"]))
    wait(lambda: noted(fleet, "doomed").keys() >= {f"try {number}" for number in range(4)}, 20)
    wait(lambda: bool(dead_letters(fleet, "flaky")), 20)
    dead, = dead_letters(fleet, "flaky")
    assert dead["task_name"] == "app.tasks.flaky"
    assert dead["retry_count"] == "3"
    assert "attempt 4 failed" in dead["error"]
    assert noted(fleet, "doomed") == {f"try {number}": 1 for number in range(4)}
    assert pending(fleet, URGENT) == 0
    assert fleet.ask("EXISTS", "chicory:dlq:default") == 1, "the rejected event of before, on the queue that it was on"


def test_figures_are_told_and_a_stop_ends_running_tasks_of_both_kinds_once(fleet: System) -> None:
    before = fleet.processes()
    long = fleet.long()
    send(fleet, URGENT, *[("deliver", [long, "async"])] * 4, ("digest", [long, "sync"]))
    wait(lambda: noted(fleet, "async") == {"begin": 4} and noted(fleet, "sync") == {"begin": 1}, long)
    status = fleet.status()
    assert fleet.waiting(status) == {"default": 0, URGENT: 0}
    nodes = [node for host in status["hosts"].values() for node in host["nodes"]]
    assert sum(node["running"] for node in nodes if node["group"] == "urgent") == 5
    assert {node["node"]: node["pid"] for node in nodes} == before
    assert {(node["state"], node["restarts"]) for node in nodes} == {("ready", 0)}, "idle nodes live on, with redis-py 8 too"
    assert min(node["uptime_seconds"] for node in nodes) > 6
    fleet.play("stop", worker_only="urgent")
    assert noted(fleet, "async") == {"begin": 4, "end": 4}
    assert noted(fleet, "sync") == {"begin": 1, "end": 1}
    assert pending(fleet, URGENT) == 0
    after = fleet.processes()
    assert after == {node: pid for node, pid in before.items() if ".default." in node}
    send(fleet, URGENT, ("notify", ["later"]))
    assert fleet.waiting(fleet.status()) == {"default": 0, URGENT: 1}
    fleet.play("start")
    wait(lambda: noted(fleet, "later") == {"end": 1}, 10)


def test_a_task_of_a_killed_node_is_run_by_another(fleet: System) -> None:
    before = fleet.processes()
    long = fleet.long()
    send(fleet, "default", ("deliver", [long, "orphan"]))
    wait(lambda: noted(fleet, "orphan") == {"begin": 1}, 10)
    owner = next(node["node"] for node in fleet.nodes("default") if node["running"])
    host = owner.rpartition("@")[2]
    fleet.run(host, "kill", "-KILL", str(before[owner]))
    wait(lambda: noted(fleet, "orphan") == {"begin": 2, "end": 1}, 3 * long)
    wait(lambda: fleet.processes().get(owner, before[owner]) != before[owner], 20)
    assert len(set(fleet.processes().items()) - set(before.items())) == 1


@pytest.mark.full
def test_what_dead_nodes_held_is_returned_where_no_node_is_left_to_claim_it(fleet: System) -> None:
    first, second = fleet.workers
    fleet.play("stop", "--limit", second, worker_only="default")
    long = fleet.long()
    send(fleet, "default", ("deliver", [long, "reaped"]))
    wait(lambda: noted(fleet, "reaped") == {"begin": 1}, 10)
    # Killed while they stop, so that systemd does not start them again.
    for word in (["stop", "--no-block"], ["kill", "--signal=KILL"]):
        fleet.run(first, "systemctl", *word, "workfleet.events.default.*")
    wait(lambda: all(".default." not in node for node in fleet.processes()), 20)
    said = fleet.play("reap").out
    assert "(app.tasks.deliver) went back" in said
    assert "1 tasks of dead workers went back to their queues" in said
    assert pending(fleet, "default") == 0
    fleet.play("start")
    wait(lambda: noted(fleet, "reaped") == {"begin": 2, "end": 1}, 3 * long)


@pytest.mark.full
def test_queues_and_dead_letters_are_shown_emptied_and_filled_again_and_every_host_is_well(fleet: System, tmp_path: Path) -> None:
    send(fleet, "nobody", *[("deliver", [0, "left"])] * 3)
    fleet.play("queues", sample_seconds=0, queues_json=str(tmp_path / "queues.json"))
    told = {queue["queue"]: queue for queue in load_json(str(tmp_path / "queues.json"))["queues"]}
    assert {name: (queue["waiting"], queue["consumers"], queue["declared"]) for name, queue in told.items()} == {
        "default": (0, 4, True), URGENT: (0, 8, True), "nobody": (3, 0, False)}
    assert told["default"]["dead"] == 1

    fleet.play("purge", queue="nobody", dump_dir=str(tmp_path), confirm="purge events nobody")
    assert fleet.ask("XLEN", "chicory:stream:nobody") == 0
    fleet.play("restore", dump=str(next(tmp_path.glob("events-nobody-*.dump"))))
    assert fleet.ask("XLEN", "chicory:stream:nobody") == 3
    fleet.ask("DEL", "chicory:stream:nobody")

    (letter, _), = fleet.ask("XRANGE", "chicory:dlq:default", "-", "+")
    assert f"{letter} " in fleet.play("dead_letters", queue="default").out
    assert "is not understood" in fleet.play("dead_letters", queue="default", letters=f"show {letter}").out
    assert "1 dead letter, 1 sent again" in fleet.play("dead_letters", queue="default", letters=f"replay {letter}").out
    # It is rejected again, and a letter of its own.
    wait(lambda: [tag for tag, _ in fleet.ask("XRANGE", "chicory:dlq:default", "-", "+")] not in ([], [letter]), 20)
    dropped = fleet.play("dead_letters", queue="default", letters="drop all", dump_dir=str(tmp_path), confirm="drop events default").out
    assert "1 dead letter, dumped and gone" in dropped
    assert fleet.ask("XLEN", "chicory:dlq:default") == 0
    fleet.play("restore", dump=str(next(tmp_path.glob("events-default-*.dump"))))
    assert fleet.ask("XLEN", "chicory:dlq:default") == 1

    assert fleet.play("health").out.count("events: all declared nodes consume (6 of 6)") == 2


def test_a_killed_redis_is_waited_for_and_costs_no_task(fleet: System) -> None:
    before = fleet.processes()
    send(fleet, URGENT, *[("deliver", [4, "kept"])] * 6)
    time.sleep(1.5)  # the append-only file is synced every second
    fleet.kill_redis()
    time.sleep(5)
    fleet.start_redis()
    fleet.wait_until_ready()
    wait(lambda: noted(fleet, "kept")["end"] == 6 and not pending(fleet, URGENT), 30)
    assert noted(fleet, "kept") == {"begin": 6, "end": 6}
    assert fleet.processes() == before


def test_what_cannot_work_is_refused_and_nothing_is_touched(fleet: System) -> None:
    groups = fleet.vars["worker_groups"]
    fleet.check_refused("No module named 'app.nosuch'", [*groups, {**OTHER, "app": "app.nosuch:app"}])
    fleet.ask("SET", "chicory:stream:taken", "something else")
    fleet.check_refused("queue taken: the key chicory:stream:taken in Redis is not of Chicory's kind", [*groups, OTHER])
    fleet.ask("DEL", "chicory:stream:taken")
    assert fleet.play("site").steps == []
    fleet.play("verify")
