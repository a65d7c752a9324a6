"""rq's queues as the toolkit sees and changes them, filled and emptied by real clients and workers of rq."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import engines, resp
from plugins.module_utils.workfleet.engines import taskqueues
from plugins.module_utils.workfleet.engines.taskqueue import Source
from plugins.module_utils.workfleet.engines.verbs import probe
from plugins.module_utils.workfleet.engines.verbs.figures import Question
from plugins.module_utils.workfleet.engines.verbs.reaping import Found, Reaping
from plugins.module_utils.workfleet.engines.verbs.stash import Choice
from plugins.module_utils.workfleet.queues import info as queues
from tests.integration.rq_fleet import Fleet, fleet
from tests.integration.test_purge import purge, run
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plugins.module_utils.workfleet.engines.verbs.figures import Figures
    from tests.integration.conftest import RedisServer

QUEUE = taskqueues.named("rq")
NODE = "rq.mails.1.1@h"
MIXED = """
q.enqueue(tasks.record, 'a', 0, job_id='a')
q.enqueue(tasks.send_mail, 'b', job_id='b', retry=Retry(2), meta={'k': 1})
q.enqueue(tasks.record, 'c', 0, job_id='c', depends_on='a')
q.enqueue_in(timedelta(hours=1), tasks.record, 'd', 0, job_id='d')
"""


@pytest.fixture(params=["3.0.0", pytest.param("2.12.0", marks=pytest.mark.full)])
def workers(request: pytest.FixtureRequest, scratch: Path, redis_server: RedisServer) -> Iterator[Fleet]:
    with fleet(scratch, redis_server, request.param) as started:
        yield started


@pytest.fixture
def client(workers: Fleet) -> Iterator[resp.Client]:
    with resp.connect(workers.url) as connected:
        yield connected


def look(workers: Fleet, **more: Any) -> Figures:
    found, = QUEUE.figures(Question(workers.url, "rq", ["default"], **more))
    return found


def everything(client: resp.Client) -> dict[bytes, Any]:
    """What is in the database, but for what rq keeps of connections and workers."""
    said = {"list": ("LRANGE", 0, -1), "zset": ("ZRANGE", 0, -1, "WITHSCORES"), "hash": ("HGETALL",), "set": ("SMEMBERS",)}
    found = {}
    for key in client.call("KEYS", "rq:*"):
        command, *words = said[client.call("TYPE", key).decode()]
        told = client.call(command, key, *words)
        found[key] = dict(zip(told[::2], told[1::2])) if command == "HGETALL" else told
    return found


def test_figures_tell_what_waits_runs_is_due_later_and_has_failed(workers: Fleet) -> None:
    workers.python(MIXED)
    told = look(workers, all_of_it=True)
    assert (told.waiting, told.scheduled, told.unacknowledged, told.dead, told.consumers) == (2, 2, 0, 0, 0)
    assert told.oldest_age_is == "exact"
    assert 0 <= (told.oldest_age_seconds or -1) < 60
    waiting = QUEUE.waiting_tasks(workers.url, ["default"], {})["default"]
    assert dict(waiting.names) == {"app.tasks.record": 1, "app.tasks.send_mail": 1}
    workers.redis.call("DEL", "rq:queue:default")
    workers.start().ready()
    workers.python("q.enqueue(tasks.fail)\nq.enqueue(tasks.record, 'runs', 0, True)")
    until(lambda: workers.told("begin"))
    told = look(workers, all_of_it=True)
    assert (told.waiting, told.unacknowledged, told.running, told.dead, told.consumers) == (0, 1, 1, 1, 1)
    assert queues.look("rq", [Source("rq", workers.url, ["default"])])["problems"] == []


def test_a_purge_and_its_restore_leave_all_as_it_was_and_nothing_in_between(workers: Fleet, client: resp.Client, tmp_path: Path) -> None:
    workers.python(MIXED)
    before = everything(client)
    work = run(client, "rq", app="rq")
    path = purge(work, tmp_path, Choice("default"))
    assert set(everything(client)) == {b"rq:queues"}
    work.restore(path)
    assert everything(client) == before
    workers.start().ready()
    until(lambda: workers.told("end") == ["a", "c"])
    assert workers.status("b") == "finished"


def test_jobs_are_chosen_by_name_and_age_and_what_runs_stays(workers: Fleet, client: resp.Client, tmp_path: Path) -> None:
    workers.start().ready()
    workers.python("q.enqueue(tasks.record, 'runs', 1, True)")
    until(lambda: workers.told("begin"))
    workers.python(MIXED)
    purge(run(client, "rq", app="rq"), tmp_path, Choice("default", task_name="app.tasks.record"))
    assert client.call("LRANGE", "rq:queue:default", 0, -1) == [b"b"]
    assert client.call("ZCARD", "rq:scheduled:default") == 0
    purge(run(client, "rq", app="rq"), tmp_path, Choice("default", older_than=3600))
    assert client.call("LRANGE", "rq:queue:default", 0, -1) == [b"b"]
    assert client.call("ZCARD", "rq:wip:default") == 1


def test_a_job_sent_anew_since_the_purge_is_kept_and_not_doubled(workers: Fleet, client: resp.Client, tmp_path: Path) -> None:
    workers.python(MIXED)
    work = run(client, "rq", app="rq")
    path = purge(work, tmp_path, Choice("default"))
    workers.python("q.enqueue(tasks.record, 'anew', 0, job_id='a')")
    work.restore(path)
    assert client.call("LRANGE", "rq:queue:default", 0, -1) == [b"a", b"b"]


def test_failed_jobs_are_listed_sent_again_and_dropped(workers: Fleet, client: resp.Client, tmp_path: Path) -> None:
    node = workers.start().ready()
    workers.python("q.enqueue(tasks.fail, 'one', job_id='x')\nq.enqueue(tasks.fail, 'two', job_id='y')")
    until(lambda: workers.redis.call("ZCARD", "rq:failed:default") == 2)
    found = list(QUEUE.dead_letters(client, "default", {}).read())
    assert [(letter.id, letter.task_name, letter.reason, letter.tries) for letter in found] == [
        ("x", "app.tasks.fail", "app.tasks.MailError: one", 1), ("y", "app.tasks.fail", "app.tasks.MailError: two", 1)]
    node.mark.touch()
    until(lambda: "quiesced" in node.record)
    assert QUEUE.dead_letters(client, "default", {}).replay(found[:1]) == 1
    assert (workers.status("x"), client.call("TTL", "rq:job:x")) == ("queued", -1)
    purge(run(client, "rq", app="rq"), tmp_path, Choice("default", dead=True, ids=("y",)))
    assert (client.call("EXISTS", "rq:job:y"), client.call("ZCARD", "rq:failed:default")) == (0, 0)
    node.mark.unlink()
    until(lambda: workers.status("x") == "failed")


def test_a_canary_comes_back_from_any_worker_and_leaves_nothing(workers: Fleet) -> None:
    workers.start().ready()
    proof, = QUEUE.probe(probe.Request(workers.url, "rq", queues=["default"], timeout=30))
    assert (proof.ok, proof.state) == (True, "ok"), proof
    assert not workers.redis.call("KEYS", "*workfleet-*")
    assert not workers.redis.call("EXISTS", "rq:finished:default")


@pytest.mark.parametrize(("task", "ok", "said"), [
    ("app.tasks.fail", False, "app.tasks.MailError: no such address"), ("app.nosuch.x", None, "has no task app.nosuch.x")])
def test_a_canary_of_the_apps_own_that_fails_is_told(workers: Fleet, task: str, ok: bool | None, said: str) -> None:
    workers.start().ready()
    proof, = QUEUE.probe(probe.Request(workers.url, "rq", queues=["default"], timeout=30, task=task, args=[]))
    assert proof.ok is ok
    assert said in str(proof.reason)


def test_a_canary_that_nobody_takes_is_taken_back(workers: Fleet) -> None:
    proof, = QUEUE.probe(probe.Request(workers.url, "rq", queues=["default"], timeout=0.3))
    assert (proof.ok, "not taken by a worker" in str(proof.reason)) == (False, True)
    assert not workers.redis.call("KEYS", "rq:*:*")


def reaped(workers: Fleet, processes: dict[str, list[int]], *, check: bool = False, hosts: tuple[str, ...] = ("h",)) -> dict[str, Any]:
    """What a reap does that finds these processes on the hosts."""
    order = Reaping("rq", workers.url, ["default"], hosts=hosts, processes=processes)
    order = Reaping("rq", workers.url, ["default"], hosts=hosts, processes=processes, seen=QUEUE.note(order))
    found = Found()
    QUEUE.reap(order, found, check=check)
    return found.told()


def test_what_a_killed_node_had_begun_fails_or_is_tried_again_and_its_name_is_forgotten(workers: Fleet) -> None:
    nodes = [workers.start(f"rq.mails.{number}.1@h").ready() for number in (1, 2, 3)]
    workers.enqueue(2, 600)
    workers.python("q.enqueue(tasks.record, 'r', 600, job_id='r', retry=Retry(1))")
    until(lambda: len(workers.told("begin")) == 3)
    running = {node.name: [node.process.pid] for node in nodes}
    assert reaped(workers, running)["changed"] is False
    for node in nodes:
        node.process.kill()
        node.process.wait()
    elsewhere = reaped(workers, {}, hosts=("other",))
    assert elsewhere["changed"] is False
    assert all("its heartbeat is in the broker" in said for said in elsewhere["left"])
    foretold = reaped(workers, {}, check=True)
    told = reaped(workers, {})
    assert foretold == told
    assert sorted(job["id"] for job in told["dead"]) == ["j0", "j1"]
    assert told["returned"] == [{"queue": "default", "id": "r", "task": "app.tasks.record"}]
    assert told["forgotten"] == sorted(running)
    assert [workers.status(job) for job in ("j0", "r")] == ["failed", "queued"]
    assert engines.named("rq").everybody(workers.url, {}, 1) == ({}, True)
    assert reaped(workers, {})["changed"] is False


def test_a_node_that_began_anew_under_its_name_has_not_what_it_was_killed_with(workers: Fleet) -> None:
    node = workers.start().ready()
    workers.enqueue(1, 600)
    until(lambda: workers.told("begin"))
    node.process.kill()
    node.process.wait()
    again = workers.start().ready()
    told = reaped(workers, {NODE: [again.process.pid]})
    assert ([job["id"] for job in told["dead"]], told["forgotten"]) == (["j0"], [])


def test_what_was_popped_and_not_begun_is_returned_when_nobody_can_be_about_to_begin_it(workers: Fleet) -> None:
    workers.enqueue(1, 0)
    workers.redis.call("LMOVE", "rq:queue:default", "rq:queue:default:intermediate", "LEFT", "RIGHT")
    told = reaped(workers, {})
    assert told["returned"] == [{"queue": "default", "id": "j0", "task": "app.tasks.record"}]
    assert workers.redis.call("LRANGE", "rq:queue:default", 0, -1) == [b"j0"]


def test_what_somebody_else_wrote_harms_nothing(workers: Fleet, client: resp.Client) -> None:
    client.call("HSET", "rq:job:bad", "data", b"cos\nsystem\n(S'true'\ntR.", "origin", "default", "enqueued_at", "never",
                "retries_left", "many")
    client.call("RPUSH", "rq:queue:default", "bad", "gone")
    client.call("ZADD", "rq:failed:default", 2**40, "bad", 2**40, "gone")
    client.call("ZADD", "rq:wip:default", 2**40, "bad:1")
    told = look(workers, all_of_it=True)
    assert (told.waiting, told.oldest_age_seconds) == (2, None)
    dead = QUEUE.dead_letters(client, "default", {})
    assert [letter.id for letter in dead.read()] == ["bad"]
    assert dead.unread.total == 1
    said = reaped(workers, {})["left"]
    assert said == ["default: bad: a worker without a name has it, which is none of the app's nodes"]
