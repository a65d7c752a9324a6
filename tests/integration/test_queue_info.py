"""What is told of queues: by real engines' own messages and workers, beside what the engines themselves say."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import engines, resp
from plugins.module_utils.workfleet.engines import taskqueues
from plugins.module_utils.workfleet.engines.taskqueue import Source
from plugins.module_utils.workfleet.engines.verbs import figures as engine_queues
from plugins.module_utils.workfleet.engines.verbs.figures import Question
from plugins.module_utils.workfleet.queues import info as queues
from tests.integration import arq_fleet, celery_fleet
from tests.patience import is_within, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer


def seen(engine: str, url: str, *names: str, **options: Any) -> dict[str, dict[str, Any]]:
    """One look at all queues, by name, with the problems under an empty one."""
    sample = options.pop("sample", 0)
    found = queues.look("shop", [Source(engine, url, names, options)], sample)
    return {**{entry["queue"]: entry for entry in found["queues"]}, "": found}


def told(entry: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(entry[name] for name in names)


@pytest.fixture
def celery() -> Iterator[celery_fleet.Fleet]:
    with celery_fleet.fleet() as fleet:
        yield fleet


SEND = "from app import tasks\nfrom app.celery_app import celery_app\n"


def test_celery_tells_what_waits_in_every_priority_as_celery_itself_counts_it(celery: celery_fleet.Fleet) -> None:
    celery.python(SEND + "for p in [0] * 3 + [3] * 2 + [6, 9, 9]: tasks.fetch.apply_async((0,), queue='reports', priority=p)\n"
                         "tasks.fetch.apply_async((0,), queue='bücher \"x\"')")
    found = seen("celery", celery.url, "reports", "default")
    assert told(found["reports"], "waiting", "priorities", "exists", "consumers") == (8, {"0": 3, "3": 2, "6": 1, "9": 2}, True, 0)
    assert told(found["default"], "waiting", "exists", "oldest_age_seconds") == (0, False, None)
    assert told(found['bücher "x"'], "waiting", "declared") == (1, False)
    counted = celery.python(SEND + "with celery_app.connection() as c: print(c.default_channel.queue_declare('reports', passive=True)[1])")
    assert int(counted) == found["reports"]["waiting"]
    assert found[""]["problems"] == ["queue reports: 8 tasks wait and no node consumes it",
                                     "queue bücher \"x\": 1 tasks wait and no node consumes it"]


def test_celery_tells_what_workers_hold_run_and_keep_for_later_by_queue(celery: celery_fleet.Fleet) -> None:
    celery.start("w@h", "--prefetch-multiplier", "4", settings={"task_acks_late": True})
    celery.ready("w@h")
    celery.python(SEND + "for _ in range(3): tasks.fetch.apply_async((30,), queue='reports')\n"
                         "tasks.fetch.apply_async((0,), queue='default', countdown=300)\n"
                         "tasks.fetch.apply_async((0,), queue='default', countdown=300, retries=2)")
    found = until(lambda: [look for look in [seen("celery", celery.url, "reports", "default")]
                           if look["reports"]["running"] and look["default"]["scheduled"] == 2])[0]
    assert told(found["reports"], "waiting", "unacknowledged", "running", "scheduled", "consumers") == (0, 3, 1, 0, 1)
    assert told(found["default"], "waiting", "unacknowledged", "running", "scheduled", "retrying") == (0, 2, 0, 2, 1)


def test_ages_of_celery_tasks_say_how_far_they_hold(celery: celery_fleet.Fleet) -> None:
    begun = time.monotonic()
    celery.python(SEND + "tasks.fetch.apply_async((0,), queue='reports')\n"
                         "import time\ntasks.fetch.apply_async((0,), queue='default', headers={'sent_at': time.time() - 100})")
    first = seen("celery", celery.url, "reports", "default")
    assert told(first["reports"], "oldest_age_seconds", "oldest_age_is") == (None, "unknown")
    assert first["default"]["oldest_age_is"] == "exact"
    assert 100 <= first["default"]["oldest_age_seconds"] < 101 + time.monotonic() - begun
    time.sleep(1.1)
    second = seen("celery", celery.url, "reports")["reports"]
    assert second["oldest_age_is"] == "at_least"
    assert 1 <= second["oldest_age_seconds"] < 1 + time.monotonic() - begun
    celery.client.call("RPOP", "reports")
    celery.python(SEND + "tasks.fetch.apply_async((0,), queue='reports')")
    assert seen("celery", celery.url, "reports")["reports"]["oldest_age_is"] == "unknown", "another task is next now"


def test_what_comes_and_goes_is_told_apart(celery: celery_fleet.Fleet) -> None:
    celery.python(SEND + "for _ in range(400): tasks.fetch.delay(0)")
    waiting = {name: entry["waiting"] for name, entry in seen("celery", celery.url).items() if name}
    queue, = waiting
    source = Source("celery", celery.url, [queue])
    before = taskqueues.named("celery").figures(queues.question_of(source, "shop"))
    for _ in range(150):
        celery.client.call("BRPOP", queue, 1)
    celery.python(SEND + "for _ in range(20): tasks.fetch.delay(0)")
    after, = taskqueues.named("celery").figures(Question(celery.url, "shop", [queue], all_of_it=True, before=before))
    assert (after.came, after.went, after.waiting) == (20, 150, 270)


def test_a_key_of_another_kind_is_a_problem_and_the_others_are_shown(celery: celery_fleet.Fleet) -> None:
    celery.client.call("SET", "reports", "mine")
    celery.python(SEND + "tasks.fetch.apply_async((0,), queue='default')")
    found = seen("celery", celery.url, "reports", "default")
    assert told(found["reports"], "waiting", "exists") == (None, True)
    assert found["default"]["waiting"] == 1
    assert any("the key 'reports' in Redis is no queue of Celery's (a list)" in text for text in found[""]["problems"])


def test_more_held_than_may_be_looked_through_is_not_told_by_queue(celery: celery_fleet.Fleet) -> None:
    for start in range(0, 10_100, 100):
        celery.client.call("HSET", "unacked", *(word for n in range(start, start + 100) for word in (str(n), '[{"x": 1}, "", "reports"]')))
    assert told(seen("celery", celery.url, "reports")["reports"], "unacknowledged", "scheduled", "waiting") == (None, None, 0)
    celery.client.call("HDEL", "unacked", *map(str, range(200)))
    assert seen("celery", celery.url, "reports")["reports"]["unacknowledged"] == 9_900


def test_arq_tells_what_waits_runs_and_is_deferred(tmp_path: Path, redis_server: RedisServer) -> None:
    with arq_fleet.fleet(tmp_path, redis_server) as fleet:
        fleet.start(concurrency=2).ready()
        fleet.python("for n in range(5): await q('run_flow', f'f{n}', 60, 1)\nawait q('run_flow', 'later', 1, 1, _defer_by=600)\n"
                     "await q('run_flow', 'x', 1, 1, _queue_name='nobody')\nawait q('flaky', 9)")
        found = until(lambda: [look for look in [seen("arq", fleet.url, "arq:queue", "none")] if look["arq:queue"]["running"] == 2])[0]
        assert told(found["arq:queue"], "waiting", "running", "scheduled", "consumers", "oldest_age_is") == (4, 2, 1, 1, "exact")
        assert found["arq:queue"]["oldest_age_seconds"] >= 0 and is_within(found["arq:queue"]["oldest_age_seconds"], 30)
        assert told(found["nobody"], "waiting", "declared", "consumers") == (1, False, 0)
        assert told(found["none"], "waiting", "exists", "dead") == (0, False, None)
        redis_server.call("RPUSH", "list", "x")
        assert "no queue of arq's" in seen("arq", fleet.url, "list")[""]["problems"][0]
        fleet.python("for n in range(3): await q('where', _queue_name='second')")
        before = taskqueues.named("arq").figures(queues.question_of(Source("arq", fleet.url, ["second"]), "shop"))
        second = fleet.start("flow.flows.2.1@h", queues=["second"]).ready().name
        until(lambda: seen("arq", fleet.url, "second")["second"]["waiting"] == 0)
        until(lambda: engines.named("arq").inspect(fleet.url, [second], {}, 1.0)[second].processed == 3)  # told once a second
        rest = taskqueues.named("arq").figures(queues.question_of(Source("arq", fleet.url, ["second"]), "shop"))
        fleet.python("for n in range(4): await q('where', _queue_name='second')")
        until(lambda: redis_server.call("ZCARD", "second") == 0)

        def flow() -> Any:
            item = taskqueues.named("arq").figures(Question(fleet.url, "shop", ["second"], all_of_it=True, before=rest))[0]
            return (item.came, item.went) == (4, 4)
        until(flow)
        assert before[0].waiting == 3


def test_a_look_at_some_queues_leaves_what_is_remembered_of_the_others(celery: celery_fleet.Fleet) -> None:
    """``status.yml`` looks at the queues of a host, and every other queue's age began anew."""
    celery.python(SEND + "for q in ('reports', 'default', 'mine'): tasks.fetch.apply_async((0,), queue=q)")
    engine, key = taskqueues.named("celery"), "workfleet:shop:oldest"
    seen("celery", celery.url, "reports")
    assert celery.client.call("HLEN", key) == 3
    celery.client.call("DEL", "reports")
    engine.figures(Question(celery.url, "shop", ["reports"]))
    assert sorted(celery.client.call("HKEYS", key)) == [b"default", b"mine"]
    celery.client.call("DEL", "mine")
    engine.figures(Question(celery.url, "shop", ["reports"]))
    assert celery.client.call("HLEN", key) == 2, "it was not asked for"
    time.sleep(1)
    assert seen("celery", celery.url, "reports")["default"]["oldest_age_seconds"] >= 1
    assert celery.client.call("HKEYS", key) == [b"default"]


def test_who_does_not_answer_is_not_taken_for_nobody(celery: celery_fleet.Fleet) -> None:
    """The queue of a busy solo node was told to be consumed by no node."""
    celery.start("solo@h", pool="solo", queues="alone")
    celery.start("w@h", queues="reports")
    celery.ready("solo@h", "w@h")
    found = seen("celery", celery.url, "alone", "reports")
    assert (told(found["alone"], "consumers", "running"), told(found["reports"], "consumers", "running")) == ((1, 0), (1, 0))
    assert found[""]["problems"] == []
    celery.python(SEND + "for _ in range(2): tasks.fetch.apply_async((8,), queue='alone')")
    until(lambda: celery.client.call("LLEN", "alone") == 1)
    found = seen("celery", celery.url, "alone", "reports", sample=0.1)
    for queue in ("alone", "reports"):
        assert told(found[queue], "consumers", "running") == (None, None)
    assert found["alone"]["waiting"] == 1
    problem, = found[""]["problems"]
    assert problem.startswith("2 Celery workers listen on the broker, and 1 answered within 1 s (solo@h did not): ")


FOREIGN = ["[" * 100_000, '{"headers": ' + "[" * 100_000, '{"headers": {"task": "t", "sent_at": ' + "9" * 400 + '}, "properties": {}}',
           '{"headers": {"task": "t", "timestamp": 1e999}, "properties": {}}', '{"headers": {"task": "t"}, "properties": []}', "7", '"x"',
           '{"headers": {"task": "t", "sent_at": "0001-01-01T00:00:00+14:00"}, "properties": {}}', "\x00\xff"]


@pytest.mark.parametrize("message", FOREIGN, ids=range(len(FOREIGN)))
def test_what_others_keep_in_the_database_harms_nothing(celery: celery_fleet.Fleet, message: str) -> None:
    celery.client.call("LPUSH", "reports", message)
    celery.client.call("LPUSH", "theirs", message)
    celery.client.call("HSET", "unacked", "a", '[{"x": 1}, "topic", "key"]', "b", message, "c", '[{}, "other", "reports"]',
                       "d", '[{"eta": "x", "headers": {"eta": "9999-12-31T23:59:59-14:00"}}, {"deep": []}, 7]')
    celery.client.call("SADD", "_kombu.binding.topic", "no separator", "key\x06\x16", "key\x06\x16\x06\x16reports", "key:x:y")
    celery.client.call("SET", "_kombu.binding.other", "a text")
    found = seen("celery", celery.url, "reports")
    assert told(found["reports"], "waiting", "unacknowledged") == (1, 2)
    json.dumps(found[""], allow_nan=False)


@pytest.mark.parametrize("engine", ["celery", "arq", "chicory"])
def test_a_database_with_more_keys_than_are_looked_through_is_said_to_be_one(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(engine_queues, "MOST_KEYS", 4000)
    with resp.connect(redis_server.url()) as client:
        client.pipeline([("SET", f"key {number}", "") for number in range(9000)])
    assert any(text.startswith("the database has more than") for text in seen(engine, redis_server.url(), "q")[""]["problems"])
    monkeypatch.setattr(engine_queues, "MOST_KEYS", 40_000)
    assert seen(engine, redis_server.url(), "q")[""]["problems"] == []


def test_heartbeats_that_are_none_are_left_out(redis_server: RedisServer) -> None:
    for number, text in enumerate(["[" * 100_000, '{"is_running": 1, "concurrency": 1e999}', "7", "{}"]):
        redis_server.call("SET", f"chicory:heartbeat:{number}", text)
        redis_server.call("SET", f"arq:health-check:{number}", "j_ongoing=" + "9" * 5000)
    redis_server.call("ZADD", "arq", "inf", "a")
    redis_server.call("ZADD", "arq", "-inf", "b")
    assert seen("chicory", redis_server.url(), "q")["q"]["consumers"] == 0
    assert told(seen("arq", redis_server.url(), "arq")["arq"], "consumers", "waiting", "oldest_age_seconds") == (0, 1, None)
