"""Dead letters of real engines: listed with their reason, sent again so that a worker runs them, dropped with a way back."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import letters, resp
from plugins.module_utils.workfleet.engines.celery_wire import task_message
from plugins.module_utils.workfleet.engines.stash import Choice
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.purge import Run
from tests.integration import arq_fleet, chicory_fleet
from tests.integration.celery_fleet import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[resp.Client]:
    with resp.connect(redis_server.url()) as connection:
        yield connection


def do(client: resp.Client, engine: str, queue: str, *, replay: bool = False, name: str | None = None, one: str | None = None,
       check: bool = False, **options: Any) -> dict[str, Any]:
    return letters.work(letters.LETTERS[engine](client, queue, options), name, one, replay=replay, check=check)


def drop_and_restore(client: resp.Client, engine: str, choice: Choice, folder: Path, **options: Any) -> None:
    run, identity, path = Run(client, "shop", engine, options, "a test"), uuid.uuid4().hex, str(folder / f"{engine}.dump")
    run.write(identity, choice, path, {})
    run.commit(identity, choice)
    queue = "q" if engine == "celery" else choice.queue
    left = do(client, engine, queue, **options)["letters"]
    assert not {letter["id"] for letter in left} & set(choice.ids)
    run.restore(path)
    assert len(do(client, engine, queue, **options)["letters"]) == len(left) + len(choice.ids)


def test_chicory(client: resp.Client, redis_server: RedisServer, tmp_path: Path) -> None:
    fleet = chicory_fleet.Fleet(tmp_path, redis_server)
    try:
        fleet.start(queues=["slow"], options={"dlq": True}).ready()
        fleet.send(("reject", ["a"]), ("reject", ["b"]), ("flaky", [9, "c"]), queue="slow")
        until(lambda: len(do(client, "chicory", "slow")["letters"]) == 3)
        found = do(client, "chicory", "slow")["letters"]
        assert sorted(letter["task_name"] for letter in found) == ["app.tasks.flaky", "app.tasks.reject", "app.tasks.reject"]
        assert sorted(letter["reason"] for letter in found) == ["a is not understood", "attempt 4 failed", "b is not understood"]
        assert all(0 <= letter["age_seconds"] < 60 for letter in found)
        flaky = next(letter for letter in found if letter["task_name"] == "app.tasks.flaky")
        assert flaky["tries"] == 3
        assert do(client, "chicory", "slow", replay=True, check=True)["changed"]
        assert fleet.noted()["try 0 c"] == 1, "a check sends nothing"
        assert do(client, "chicory", "slow", replay=True, one=flaky["id"])["replayed"] == 1
        until(lambda: fleet.noted()["try 0 c"] == 2 and fleet.noted()["try 3 c"] == 2)  # it has all its attempts again
        assert do(client, "chicory", "slow", replay=True, name="app.tasks.reject")["replayed"] == 2
        until(lambda: fleet.noted()["end a"] == 2 and len(do(client, "chicory", "slow")["letters"]) == 3)
        ids = tuple(letter["id"] for letter in do(client, "chicory", "slow")["letters"][:2])
        drop_and_restore(client, "chicory", Choice("slow", dead=True, ids=ids), tmp_path)
        with pytest.raises(WorkfleetError, match="there is no dead letter 1-1"):
            do(client, "chicory", "slow", one="1-1")
    finally:
        fleet.close()


def test_arq(client: resp.Client, redis_server: RedisServer, tmp_path: Path) -> None:
    with arq_fleet.fleet(tmp_path, redis_server) as fleet:
        fleet.start().ready()
        fleet.python("for n in range(2): await q('fail', f'no {n}')\nawait q('flaky', 9)\nawait q('where')")
        until(lambda: len(do(client, "arq", "arq:queue")["letters"]) == 3)
        found = do(client, "arq", "arq:queue")["letters"]
        assert sorted(letter["reason"] for letter in found if letter["task_name"] == "fail") == ["FlowError: no 0", "FlowError: no 1"]
        flaky = next(letter for letter in found if letter["task_name"] == "flaky")
        assert flaky["tries"] > 1
        assert do(client, "arq", "other")["letters"] == []
        assert do(client, "arq", "arq:queue", replay=True)["replayed"] == 3
        again = until(lambda: [now for now in [do(client, "arq", "arq:queue")["letters"]] if len(now) == 3])[0]
        assert {letter["id"] for letter in again} == {letter["id"] for letter in found}
        assert min(letter["failed_at"] for letter in again) > max(letter["failed_at"] for letter in found if letter["task_name"] == "fail")
        assert next(letter for letter in again if letter["task_name"] == "flaky")["tries"] == flaky["tries"], "it had all its tries again"
        drop_and_restore(client, "arq", Choice("arq:queue", dead=True, ids=(flaky["id"],)), tmp_path)


def test_celery_where_the_app_has_a_queue_for_them(client: resp.Client, tmp_path: Path) -> None:
    with pytest.raises(WorkfleetError, match="deadletter_queue: NAME"):
        do(client, "celery", "q")
    messages = [task_message("app.a", "q", [1]), task_message("app.b", "dead", [2]), task_message("app.c", "other", [3])]
    for message in messages:
        client.call("LPUSH", "dead", message.text)
    dead: dict[str, Any] = {"deadletter_queue": "dead"}
    assert [letter["task_name"] for letter in do(client, "celery", "q", **dead)["letters"]] == ["app.a", "app.b"]
    drop_and_restore(client, "celery", Choice("dead", ids=(messages[1].id,)), tmp_path, **dead)
    assert do(client, "celery", "q", replay=True, one=messages[1].id, **dead)["replayed"] == 1
    sent, = client.call("LRANGE", "q", 0, -1)
    assert b'"routing_key": "q"' in sent and messages[1].id.encode() in sent
    assert do(client, "celery", "q", replay=True, **dead)["replayed"] == 1
    assert client.call("LRANGE", "dead", 0, -1) == [messages[2].text.encode()]
