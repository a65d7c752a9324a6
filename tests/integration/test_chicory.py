"""Nodes of engine ``chicory`` as real processes: readiness, drain, two queues, retries, dead letters, outages, canaries."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.engines import taskqueues
from plugins.module_utils.workfleet.engines.chicory import options as chicory_options
from plugins.module_utils.workfleet.engines.chicory.engine import ENGINE
from plugins.module_utils.workfleet.engines.verbs.figures import Figures, Question
from plugins.module_utils.workfleet.engines.verbs.probe import Proof, Request
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.nodes import consumers
from tests.integration.chicory_fleet import ENVIRONMENT, Fleet
from tests.integration.conftest import RedisServer
from tests.patience import is_within, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: Chicory's command would run a task again that takes longer than this.
SHORT_CLAIM = {"broker_redis_claim_min_idle_ms": 1000}


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer) -> Iterator[Fleet]:
    started = Fleet(tmp_path, redis_server)
    yield started
    started.close()


def canary(fleet: Fleet, *queues: str, host: str = "h", **keys: Any) -> list[Proof]:
    """Probe as ``verify.yml`` of an inventory with this host does."""
    request = {"broker_url": fleet.redis.url(), "result_url": fleet.redis.url(1), "queues": queues, "timeout": 5.0, **keys}
    asked = Request(engine="chicory", **request)
    return list(consumers.judged(taskqueues.named("chicory").probe(asked), asked, consumers.Ours("events", [host])))


def test_a_node_is_ready_when_it_consumes_and_its_heartbeat_tells_pid_places_and_queue(fleet: Fleet) -> None:
    node = fleet.start(queues=["slow"], concurrency=3).ready()
    told = fleet.told()[node.name]
    assert (told.pid, told.concurrency, told.running, told.reserved, told.processed, told.failed) == (node.process.pid, 3, 0, 0, 0, 0)
    assert told.queues == ["slow"]
    assert node.record["pid"] == node.process.pid
    assert fleet.redis.call("XINFO", "GROUPS", "chicory:stream:slow")
    assert node.stop() == 0
    assert "stopping" in node.record
    assert fleet.told() == {}


def test_a_drain_finishes_async_and_sync_tasks_takes_no_more_and_ends_with_the_last(fleet: Fleet) -> None:
    node = fleet.start(queues=["slow"], concurrency=2).ready()
    fleet.send(("deliver", [5, "a"]), ("digest", [4, "s"]), ("deliver", [0, "later"]), queue="slow")
    until(lambda: {"begin a", "begin s"} <= set(fleet.noted()))
    node.process.send_signal(signal.SIGTERM)
    until(lambda: node.record.get("stopping"))
    until(lambda: fleet.told()[node.name].running == 2, 3)  # a draining node still tells what it does
    late = fleet.send(("deliver", [0, "late"]), queue="slow")
    assert node.process.wait(20) == 0
    ended = time.time()
    assert fleet.noted() == {"begin a": 1, "end a": 1, "begin s": 1, "end s": 1}
    assert is_within(ended - fleet.events.stat().st_mtime, 1)
    assert fleet.pending("slow") == 0
    assert fleet.redis.call("XINFO", "CONSUMERS", "chicory:stream:slow", "chicory-workers") == []
    assert json.loads(fleet.redis.call("GET", f"chicory:heartbeat:{node.name}", db=1))["is_running"] is False
    assert ENGINE.waiting(fleet.redis.url(), ["slow"], {}) == {"slow": 2}
    fleet.start("events.slow.1.2@h", queues=["slow"]).ready()
    assert until(lambda: fleet.result(late[0]))["state"] == "SUCCESS"


def test_what_still_runs_after_a_shutdown_timeout_is_cancelled_and_left_for_another_node(fleet: Fleet) -> None:
    node = fleet.start(queues=["slow"], options={"shutdown_timeout": 0.5}).ready()
    fleet.send(("deliver", [30, "x"]), queue="slow")
    until(lambda: "begin x" in fleet.noted())
    assert node.stop(5) == 0
    assert "1 tasks are given up after 0.5 s; other nodes run them again" in node.log
    assert fleet.pending("slow") == 1


def test_an_idle_node_stops_at_once_and_gives_back_what_came_after_it_was_told(fleet: Fleet) -> None:
    node = fleet.start(queues=["slow"]).ready()
    node.process.send_signal(signal.SIGTERM)
    fleet.send(("deliver", [0, "t"]), queue="slow")
    assert node.process.wait(3) == 0
    done = sum(fleet.noted().values()) // 2
    assert ENGINE.waiting(fleet.redis.url(), ["slow"], {})["slow"] + done == 1
    assert fleet.pending("slow") == 0


def test_two_queues_run_each_task_once_even_where_it_takes_longer_than_the_claim_time(fleet: Fleet) -> None:
    for number, queue in enumerate(("default", "default", "slow", "slow")):
        fleet.start(f"events.{queue}.{number}.1@h", name=queue, queues=[queue], concurrency=4, settings=SHORT_CLAIM)
    for node in fleet.nodes:
        node.ready()
    wanted = {}
    for queue in ("default", "slow"):
        calls: list[tuple[str, list[Any]]] = [("deliver", [4, f"{queue} async"]), ("digest", [3, f"{queue} sync"])]
        calls += [("deliver", [0.1, f"{queue} {number}"]) for number in range(20)]
        fleet.send(*calls, queue=queue)
        wanted.update({f"{word} {args[1]}": 1 for _, args in calls for word in ("begin", "end")})
    until(lambda: len(fleet.noted()) == len(wanted))
    time.sleep(3)  # what is not acknowledged, or acknowledged elsewhere, runs again by now
    assert fleet.noted() == wanted
    assert (fleet.pending("default"), fleet.pending("slow")) == (0, 0)


def test_no_more_is_fetched_than_can_run(fleet: Fleet) -> None:
    fleet.start(queues=["slow"], concurrency=2).ready()
    fleet.send(*[("deliver", [30, f"{number}"]) for number in range(6)], queue="slow")
    until(lambda: len(fleet.noted()) == 2)
    time.sleep(0.5)
    assert fleet.pending("slow") == 2
    assert ENGINE.waiting(fleet.redis.url(), ["slow"], {}) == {"slow": 4}


def test_retries_stay_on_their_queue_and_run_once_each_with_several_nodes(fleet: Fleet) -> None:
    for number in (1, 2, 3):
        fleet.start(f"events.slow.{number}.1@h", queues=["slow"])
    for node in fleet.nodes:
        node.ready()
    ids = fleet.send(*[("flaky", [2, f"{number}"]) for number in range(10)], queue="slow")
    until(lambda: all(fleet.result(task_id) for task_id in ids))
    assert {fleet.result(task_id)["state"] for task_id in ids} == {"SUCCESS"}  # type: ignore[index]
    assert fleet.noted() == {f"try {attempt} {number}": 1 for attempt in range(3) for number in range(10)}
    assert fleet.redis.call("KEYS", "chicory:*default*") == []


def test_what_fails_for_good_is_in_the_dead_letter_queue_where_it_is_wanted(fleet: Fleet) -> None:
    fleet.start(queues=["slow"], options={"dlq": True}).ready()
    task_id = fleet.send(("reject", ["bad"]), queue="slow")[0]
    until(lambda: fleet.redis.call("XLEN", "chicory:dlq:slow"))
    ((_, fields),) = fleet.redis.call("XRANGE", "chicory:dlq:slow", "-", "+")
    assert task_id.encode() in fields
    assert until(lambda: fleet.result(task_id))["error"] == "bad is not understood"
    until(lambda: fleet.pending("slow") == 0)
    until(lambda: fleet.told()[fleet.nodes[0].name].failed == 1)


def test_messages_that_cannot_be_read_are_put_away_and_the_node_lives_on(fleet: Fleet) -> None:
    node = fleet.start(queues=["slow"]).ready()
    fleet.redis.call("XADD", "chicory:stream:slow", "*", "data", b"no pickle")
    fleet.redis.call("XADD", "chicory:stream:slow", "*", "something", "else")
    task_id = fleet.send(("deliver", [0]), queue="slow")[0]
    assert until(lambda: fleet.result(task_id))["state"] == "SUCCESS"
    assert fleet.redis.call("XLEN", "chicory:dlq:slow") == 2
    assert fleet.pending("slow") == 0
    assert node.process.poll() is None


def test_an_idle_node_outlives_the_socket_timeout_of_redis_py_8(fleet: Fleet) -> None:
    node = fleet.start().ready()
    time.sleep(6)
    assert node.process.poll() is None
    assert [proof.state for proof in canary(fleet, "default")] == ["ok"]
    assert "Traceback" not in node.log


def test_a_killed_node_s_tasks_run_again_elsewhere_once_its_claim_is_over(fleet: Fleet) -> None:
    first = fleet.start("events.slow.1.1@h", queues=["slow"], settings=SHORT_CLAIM).ready()
    fleet.send(("deliver", [2, "x"]), ("notify", ["once"]), queue="slow")
    until(lambda: {"begin x", "end once"} <= set(fleet.noted()))
    first.process.kill()
    fleet.start("events.slow.2.1@h", queues=["slow"], settings=SHORT_CLAIM).ready()
    until(lambda: "end x" in fleet.noted())
    assert fleet.noted() == {"begin x": 2, "end x": 1, "end once": 1}


def test_a_node_that_died_and_is_started_again_takes_up_its_tasks_at_once(fleet: Fleet) -> None:
    node = fleet.start(queues=["slow"]).ready()  # with Chicory's own claim time of half a minute
    fleet.send(("deliver", [1, "x"]), queue="slow")
    until(lambda: "begin x" in fleet.noted())
    node.process.kill()
    node.process.wait()
    fleet.start(queues=["slow"])
    until(lambda: "end x" in fleet.noted(), 10)


class Broker:
    """A Redis that can be away, and comes back with what it had."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        self.server = RedisServer(port, None, folder)
        self.words = [str(shutil.which("redis-server")), "--port", str(port), "--dir", str(folder), "--appendonly", "yes",
                      "--appendfsync", "no", "--save", ""]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.words, stdout=subprocess.DEVNULL)
        until(self.answers)

    def answers(self) -> bool:
        with contextlib.suppress(WorkfleetError):
            return bool(self.server.call("PING"))
        return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def outage(tmp_path: Path) -> Iterator[tuple[Broker, Fleet]]:
    """Nodes on a broker that a test stops and starts."""
    broker = Broker(tmp_path)
    fleet = Fleet(tmp_path, broker.server)
    try:
        yield broker, fleet
    finally:
        fleet.close()
        broker.stop()


def test_a_broker_that_is_away_for_a_while_costs_no_task(outage: tuple[Broker, Fleet]) -> None:
    broker, fleet = outage
    node = fleet.start(queues=["slow"]).ready()
    task_id = fleet.send(("deliver", [1.5, "x"]), queue="slow")[0]
    until(lambda: "begin x" in fleet.noted())
    broker.stop()
    until(lambda: "the broker is away" in node.log and "end x" in fleet.noted())
    time.sleep(1)  # the task has ended, and nobody can be told
    broker.start()
    until(lambda: node.process.poll() is None and told(fleet, task_id))
    until(lambda: fleet.pending("slow") == 0)
    assert fleet.noted() == {"begin x": 1, "end x": 1}
    assert node.stop() == 0


def test_tasks_that_run_through_an_outage_longer_than_their_claim_are_not_taken_from_living_nodes(outage: tuple[Broker, Fleet]) -> None:
    broker, fleet = outage
    keys: dict[str, Any] = {"queues": ["slow"], "concurrency": 3, "settings": {"broker_redis_claim_min_idle_ms": 6000}}
    fleet.start("events.slow.1.1@h", **keys).ready()
    fleet.send(*[("deliver", [16, f"{number}"]) for number in range(3)], queue="slow")
    until(lambda: len(fleet.noted()) == 3)
    for number in (2, 3):  # idle, and quicker to look what nobody holds than the first to say again that it does
        fleet.start(f"events.slow.{number}.1@h", **keys).ready()
    broker.stop()
    time.sleep(7)
    broker.start()
    until(lambda: sum(fleet.noted().values()) >= 6)
    until(lambda: fleet.pending("slow") == 0)
    assert fleet.noted() == {f"{word} {number}": 1 for word in ("begin", "end") for number in range(3)}


def told(fleet: Fleet, task_id: str) -> bool:
    """Whether the result is there, in a Redis that may still be on its way."""
    with contextlib.suppress(WorkfleetError):
        return (fleet.result(task_id) or {}).get("state") == "SUCCESS"
    return False


def test_a_node_waits_for_its_broker_and_stops_meanwhile_when_told(fleet: Fleet) -> None:
    node = fleet.start(variables={"CHICORY_BROKER_REDIS_URL": "redis://127.0.0.1:1/0"})
    until(lambda: "cannot be reached" in node.log)
    assert "ready" not in node.record
    assert node.stop(3) == 0


def test_canaries_come_back_and_leave_nothing(fleet: Fleet) -> None:
    fleet.start("events.a.1.1@h", queues=["slow"]).ready()
    fleet.start("events.b.1.1@h").ready()
    slow, default, nobody = canary(fleet, "slow", "default", "nobody")
    assert (slow.ok, default.ok, nobody.ok) == (True, True, False)
    assert nobody.reason is not None and "no worker has ever consumed it" in nobody.reason
    assert fleet.redis.call("KEYS", "*", db=1) and not fleet.redis.call("KEYS", "chicory:[rs]*:*-*", db=1)
    assert fleet.redis.call("EXISTS", "chicory:stream:nobody") == 0
    assert canary(fleet, "slow", result_url="")[0].state == "not proved"
    (alien,) = canary(fleet, "slow", host="elsewhere")
    assert not alien.ok and "no node of this inventory consumes the queue: the answer is of events." in str(alien.reason)
    assert canary(fleet, "slow", task="app.tasks.reject")[0].reason == "the task app.tasks.reject failed: event is not understood"
    assert canary(fleet, "slow", task="no.such")[0].state == "not proved"


def test_a_canary_that_nobody_takes_is_taken_back(fleet: Fleet) -> None:
    node = fleet.start(queues=["slow"], concurrency=1).ready()
    fleet.send(("deliver", [30]), ("deliver", [30]), queue="slow")
    until(lambda: fleet.pending("slow") == 1)
    (proof,) = canary(fleet, "slow", timeout=0.3)
    assert proof.ok is False
    assert proof.reason is not None and "not taken by a worker within 0.3 s; 1 other tasks wait" in proof.reason
    assert ENGINE.waiting(fleet.redis.url(), ["slow"], {}) == {"slow": 1}, "counted, for the server no longer knows"
    until(lambda: fleet.told(node)[node.name].running == 1)


def test_all_figures_of_a_queue_are_told_apart(fleet: Fleet) -> None:
    def look(*names: str, before: Sequence[Figures] = ()) -> list[Figures]:
        return taskqueues.named("chicory").figures(Question(fleet.redis.url(), "events", names, all_of_it=True, before=before))

    before = look("slow")
    fleet.start(queues=["slow"], concurrency=1, options={"dlq": True}).ready()
    fleet.send(("reject", []), ("flaky", [9]), ("deliver", [30]), ("deliver", [0]), queue="slow")
    fleet.redis.call("ZADD", "chicory:delayed:slow", str(time.time() + 60), "later")
    slow, empty = until(lambda: [found for found in [look("slow", "empty", before=before)] if found[0].running and found[0].dead])[0]
    assert (slow.waiting, slow.unacknowledged, slow.dead, slow.running, slow.consumers, slow.exists) == (1, 1, 1, 1, 1, True)
    assert (slow.came, slow.went) == (4, 3)
    assert slow.scheduled is not None and slow.scheduled >= 1
    assert slow.oldest_age_is == "exact" and slow.oldest_age_seconds is not None and slow.oldest_age_seconds >= 0
    assert is_within(slow.oldest_age_seconds, 20)
    assert (empty.waiting, empty.unacknowledged, empty.scheduled, empty.dead, empty.oldest_age_seconds, empty.exists) == (
        0, 0, 0, 0, None, False)
    fleet.redis.call("LPUSH", "chicory:stream:list", "x")
    wrong, slow = look("list")
    assert wrong.problem is not None and "not of Chicory's kind" in wrong.problem
    assert (slow.queue, slow.declared, slow.waiting) == ("slow", False, 1)



def test_a_worker_of_chicory_s_own_is_found_by_its_process(fleet: Fleet) -> None:
    code = "import asyncio; from chicory import Worker; from app.tasks import app; asyncio.run(Worker(app).run())"
    node = fleet.start("events.own.1.1@h", command=[str(ENVIRONMENT / "bin" / "python"), "-c", code], name="own",
                       variables={"CHICORY_BACKEND_REDIS_URL": fleet.redis.url(), "CHICORY_BROKER_REDIS_BLOCK_MS": "1000"})
    assert until(lambda: ENGINE.strangers(fleet.redis.url(), [node.name], {}, 1.0).get(node.name)).pid == node.process.pid


def test_a_queue_of_another_kind_ends_the_node_with_one_clear_line(fleet: Fleet) -> None:
    fleet.redis.call("LPUSH", "chicory:stream:slow", "x")
    node = fleet.start(queues=["slow"])
    assert node.process.wait(20) == 1
    assert "queue slow (chicory:stream:slow) cannot be consumed: WRONGTYPE" in node.log
    assert "ready" not in node.record


def test_an_app_that_cannot_be_imported_is_named(fleet: Fleet) -> None:
    node = fleet.start(app="app.nothing:app")
    assert node.process.wait(20) == 1
    assert node.log.splitlines()[-1] == "app.nothing:app cannot be imported: ModuleNotFoundError: No module named 'app.nothing'"


def test_the_tables_name_all_that_chicory_has(fleet: Fleet) -> None:
    code = ("import json; from chicory.config import *\n"
            "skip = ('broker', 'backend', 'worker')\n"
            "names = [n for n in ChicoryConfig.model_fields if n not in skip]\n"
            "for kind, whole in (('broker', BrokerConfig), ('backend', BackendConfig)):\n"
            "    for part, field in whole.model_fields.items():\n"
            "        names += [f'{kind}_{part}_{n}' for n in field.annotation.model_fields]\n"
            "print(json.dumps([names, list(WorkerConfig.model_fields)]))")
    done = subprocess.run([ENVIRONMENT / "bin" / "python", "-c", code], check=True, capture_output=True, text=True)
    settings, options = json.loads(done.stdout)
    assert {name for name in settings if not name.startswith("broker_rabbitmq_")} == set(chicory_options.SETTINGS)
    assert {*options, "workers", "dlq"} == set(chicory_options.OPTIONS)
