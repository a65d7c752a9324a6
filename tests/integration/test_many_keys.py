"""Databases with more keys than are held at once: what is taken can be deleted, and what cannot is not taken."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines.arq import stash as arq_stash
from plugins.module_utils.workfleet.engines.taskqueue import Source
from plugins.module_utils.workfleet.engines.verbs import figures as queues
from plugins.module_utils.workfleet.engines.verbs.stash import Choice
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.queues import reset
from plugins.module_utils.workfleet.queues.purge import Run
from plugins.module_utils.workfleet.queues.reset import Order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer

ID = "a" * 32
OWN = {"arq": ["arq:queue"], "celery": ["reports"], "chicory": ["slow"]}
QUEUE = Choice("arq:queue")


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[resp.Client]:
    with resp.connect(redis_server.url()) as connection:
        yield connection


def run(client: resp.Client, engine: str = "arq") -> Run:
    return Run(client, "shop", engine, {}, "a test", OWN)


def fill(client: resp.Client, queue: str, number: int = 1) -> None:
    for job in (f"{queue}-{place}" for place in range(number)):
        client.call("SET", f"arq:job:{job}", "x")
        client.call("ZADD", queue, 1, job)


def test_sorted_sets_that_are_no_queues_keep_no_job_from_its_deletion(
    client: resp.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arq_stash, "_MOST_QUEUES", 2)
    monkeypatch.setattr(queues, "MOST_NAMES", 10)
    fill(client, "arq:queue")
    for number in range(50):
        client.call("ZADD", f"scores:{number}", 1, "a player")
    run(client).write(ID, QUEUE, str(tmp_path / "x.dump"), {})
    run(client).commit(ID, QUEUE)
    assert client.call("KEYS", "arq:*") == client.call("KEYS", "workfleet:shop:purge*:*") == []


def test_nothing_is_taken_where_queues_are_too_many_to_look_at(
    client: resp.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arq_stash, "_MOST_QUEUES", 2)
    for queue in ("arq:queue", "b", "c"):
        fill(client, queue)
    with pytest.raises(WorkfleetError, match="more than 2 queues of arq's"):
        run(client).write(ID, QUEUE, str(tmp_path / "x.dump"), {})
    assert client.call("ZCARD", "arq:queue") == 1
    assert client.call("HLEN", "workfleet:shop:purges") == 0
    with pytest.raises(WorkfleetError, match="more than 2 queues of arq's"):
        run(client).stash(ID, QUEUE).count()


def test_a_purge_that_cannot_be_ended_keeps_no_other_from_its_end(
    client: resp.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client, "arq:queue")
    run(client).write(ID, QUEUE, str(tmp_path / "x.dump"), {})
    monkeypatch.setattr(arq_stash, "_MOST_QUEUES", 2)
    for queue in ("b", "c", "d"):
        fill(client, queue)
    with pytest.raises(WorkfleetError, match="more than 2 queues of arq's"):
        run(client).commit(ID, QUEUE)
    work = run(client)
    assert work.recover() == []
    assert [text.startswith(f"the purge {ID} of queue arq:queue was not ended: its tasks were dumped, and stay in Redis: ")
            for text in work.problems] == [True]
    client.call("DEL", "b", "c")
    assert "deleted now" in run(client).recover()[0]
    assert client.call("KEYS", "workfleet:shop:purge*:*") == []


@pytest.mark.parametrize(("engine", "queue", "key"), [
    ("celery", "", "celery-task-meta-{}"), ("chicory", "", "chicory:result:{}"), ("arq", "arq:queue", "arq:result:{}")])
def test_results_go_however_many_they_are(
    client: resp.Client, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, queue: str, key: str
) -> None:
    monkeypatch.setattr(queues, "MOST_NAMES", 10)
    for number in range(30):
        client.call("SET", key.format(number), pickle.dumps({"s": False, "q": queue, "f": "app.t", "r": None, "t": 1, "ft": 1}))
    order = Order("shop", Source(engine, redis_server.url(), OWN[engine], {}, redis_server.url()), include_results=True)
    assert reset.look(order, check=True)["result_count"] == 30
    choice = Choice(queue, results=True)
    assert run(client, engine).write(ID, choice, str(tmp_path / "x.dump"), {}).records == 30
    run(client, engine).commit(ID, choice)
    assert client.call("KEYS", "*") == [b"workfleet:shop:purging"], "the lock has a time to live"
