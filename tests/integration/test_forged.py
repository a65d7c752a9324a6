"""Bookkeeping that somebody else wrote into the broker deletes and moves nothing of another app's, and is named."""

from __future__ import annotations

import json
import pickle
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import dump, resp
from plugins.module_utils.workfleet.engines.celery import reap as celery_reap
from plugins.module_utils.workfleet.engines.taskqueue import Source
from plugins.module_utils.workfleet.engines.verbs.reaping import Found, Reaping
from plugins.module_utils.workfleet.engines.verbs.stash import Choice
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.model import Policy
from plugins.module_utils.workfleet.queues import info as queues
from plugins.module_utils.workfleet.queues.purge import Run, restore
from plugins.module_utils.workfleet.scaling import totals as fleet_scale
from plugins.module_utils.workfleet.scaling.totals import Group, Request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer

OWN = {"celery": ["reports"], "arq": ["arq:queue"], "chicory": ["slow"]}
ID = "a" * 32
TASK = {"body": "", "headers": {"task": "t", "id": "i"},
        "properties": {"delivery_tag": "x", "delivery_info": {"routing_key": "reports"}}}


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[resp.Client]:
    with resp.connect(redis_server.url()) as connection:
        yield connection


def run(client: resp.Client, engine: str = "celery") -> Run:
    return Run(client, "shop", engine, {}, "a test", OWN)


def forge(client: resp.Client, engine: str, choice: Any, state: str = "dumped") -> None:
    """Note a purge that nobody made."""
    client.call("HSET", "workfleet:shop:purges", ID, json.dumps({"state": state, "engine": engine, "choice": choice}))


def result(queue: str, *, ok: bool = False) -> bytes:
    return pickle.dumps({"s": ok, "q": queue, "f": "app.t", "r": None, "t": 1, "ft": 1})


def test_a_forged_note_does_not_delete_another_apps_jobs(client: resp.Client) -> None:
    for job, queue in (("theirs", "other:queue"), ("ours", "")):
        client.call("SET", f"arq:job:{job}", "x")
        if queue:
            client.call("ZADD", queue, 1, job)
        client.call("ZADD", f"workfleet:shop:purge:{ID}:jobs", 1, job)
    forge(client, "arq", {"queue": "arq:queue"})
    work = run(client, "arq")
    assert "deleted now" in work.recover()[0]
    assert (client.call("EXISTS", "arq:job:theirs"), client.call("EXISTS", "arq:job:ours")) == (1, 0)
    assert work.problems[0].endswith("(theirs): it is a job of another queue, or was sent anew")


def test_a_forged_note_does_not_delete_another_apps_results(client: resp.Client) -> None:
    client.call("SET", "arq:result:theirs", result("other:queue"))
    client.call("SET", "arq:result:well", result("arq:queue", ok=True))
    client.call("SET", "arq:result:failed", result("arq:queue"))
    client.call("SADD", f"workfleet:shop:purge:{ID}:failed", "theirs", "well", "failed", "none")
    forge(client, "arq", {"queue": "arq:queue", "dead": True})
    work = run(client, "arq")
    work.recover()
    assert sorted(client.call("KEYS", "arq:result:*")) == [b"arq:result:theirs", b"arq:result:well"]
    assert "2 entries that cannot be read were left alone" in work.problems[0]


@pytest.mark.parametrize(("engine", "choice"), [("celery", {"queue": "", "results": True}), ("chicory", {"queue": "", "results": True})])
def test_a_forged_note_deletes_no_results_and_no_other_keys(client: resp.Client, engine: str, choice: dict[str, Any]) -> None:
    names = ["celery-task-meta-x", "chicory:result:x", "theirs"]
    for name in names:
        client.call("SET", name, "x")
    client.call("SADD", f"workfleet:shop:purge:{ID}:results", *names)
    forge(client, engine, choice)
    run(client, engine).recover()
    assert client.call("EXISTS", *names) == 3
    assert client.call("EXISTS", "workfleet:shop:purges") == 0


@pytest.mark.parametrize("name", ["theirs", "workfleet:other:purges"])
def test_what_was_noted_meanwhile_and_is_no_result_is_not_deleted(client: resp.Client, tmp_path: Path, name: str) -> None:
    client.call("SET", name, "x")
    client.call("SET", "celery-task-meta-1", "x")
    work, choice = run(client), Choice("", results=True)
    work.write(ID, choice, str(tmp_path / "x.dump"), {})
    client.call("SADD", f"workfleet:shop:purge:{ID}:results", name)
    work.commit(ID, choice)
    assert (client.call("EXISTS", name), client.call("EXISTS", "celery-task-meta-1")) == (1, 0)
    assert f"({name}): it is no key of a result" in work.problems[-1]


@pytest.mark.parametrize(("engine", "queue"), [("celery", "theirs"), ("arq", "other:queue"), ("chicory", "theirs"), ("nope", "reports")])
def test_a_forged_note_moves_nothing_into_another_apps_queue(client: resp.Client, engine: str, queue: str) -> None:
    client.call("LPUSH", f"workfleet:shop:purge:{ID}:0", "forged")
    forge(client, engine, {"queue": queue}, state="taken")
    before = client.call("DBSIZE")
    work = run(client)
    assert work.recover() == []
    assert (client.call("DBSIZE"), client.call("EXISTS", queue)) == (before, 0)
    assert work.problems[0].startswith("key workfleet:shop:purges: an entry that cannot be read was left alone")
    told = queues.unfinished("shop", [Source("celery", str(client.address), ["reports"])], OWN)
    assert told == work.problems


def test_one_forged_note_does_not_keep_the_others_from_their_end(client: resp.Client, tmp_path: Path) -> None:
    client.call("LPUSH", "reports", "a", "b")
    run(client).write("b" * 32, Choice("reports"), str(tmp_path / "x.dump"), {})
    forge(client, "celery", 5)
    client.call("HSET", "workfleet:shop:purges", "x" * 100, "garbage", "deep", "[" * 100_000)
    work = run(client)
    assert len(work.recover()) == 1
    assert client.call("LRANGE", "reports", 0, -1) == [b"b", b"a"]
    assert "3 entries" in work.problems[0]


def dumped(path: Path, engine: str, choice: Choice, place: str, records: list[bytes]) -> str:
    """A dump that somebody else wrote."""
    with path.open("wb") as file:
        writer = dump.Writer(file, {"id": uuid.uuid4().hex, "app": "shop", "engine": engine, "queue": choice.queue, "dead": choice.dead,
                                    "results": choice.results})
        writer.write(place, records)
        writer.close()
    return str(path)


def test_a_forged_dump_writes_no_other_keys(client: resp.Client, tmp_path: Path) -> None:
    client.call("SET", "celery-task-meta-1", "x")
    value = client.call("DUMP", "celery-task-meta-1")
    records = [dump.fields(b"theirs", b"-1", value), dump.fields(b"celery-task-meta-2", b"-1", value), b"\xff\xff"]
    path = dumped(tmp_path / "a.dump", "celery", Choice("", results=True), "results", records)
    told = restore(run(client), path, "", force=False)
    assert (client.call("EXISTS", "theirs"), client.call("EXISTS", "celery-task-meta-2")) == (0, 1)
    assert "2 entries that cannot be read" in told["problems"][0]
    records = [dump.fields(b"x", b"-1", result("other:queue")), dump.fields(b"y", b"-1", result("arq:queue"))]
    path = dumped(tmp_path / "b.dump", "arq", Choice("arq:queue", dead=True), "failed", records)
    restore(run(client, "arq"), path, "", force=False)
    assert client.call("KEYS", "arq:result:*") == [b"arq:result:y"]
    with pytest.raises(WorkfleetError, match="the app declares no queue theirs"):
        restore(run(client), dumped(tmp_path / "c.dump", "celery", Choice("theirs"), "0", [b"x"]), "", force=False)
    assert client.call("EXISTS", "theirs") == 0


def test_a_progress_that_is_none_is_named_before_anything_is_written(client: resp.Client, tmp_path: Path) -> None:
    path = dumped(tmp_path / "a.dump", "celery", Choice("reports"), "0", [b"x"])
    identity = dump.read_header(path)["id"]
    client.call("HSET", "workfleet:shop:restored", identity, "[" * 100)
    with pytest.raises(WorkfleetError, match="it is not known how far the dump was restored"):
        restore(run(client), path, "", force=False)
    assert client.call("EXISTS", "reports") == 0


@pytest.mark.parametrize("nodes", [10**6, 99_999, 51])
def test_no_number_in_the_broker_gives_a_host_more_than_max(redis_server: RedisServer, nodes: int) -> None:
    group = Group("a", "celery", ["q"], Policy(max=5, backlog_per_node=1), {"h1": 1, "h2": 1})
    total = 0
    for host in ("h1", "h2"):
        kept = {"state": {"nodes": nodes, "high": [[0, nodes]], "low": [[0, nodes]]}, "declared": {"h1": 1, "h2": 1}, "run": "r"}
        redis_server.call("SET", "workfleet:shop:scale:a", json.dumps(kept))
        request = Request("shop", host, redis_server.url(), {}, [group], "r", "by")
        total += fleet_scale.work(request, check=False)[0].here or 0
    assert total <= 5


def test_a_flood_in_the_broker_hides_no_queue(redis_server: RedisServer) -> None:
    """Bindings by the million, and held messages that are none, were read whole."""
    with resp.connect(redis_server.url()) as client:
        client.call("LPUSH", "reports", json.dumps(TASK))
        for start in range(0, 20_000, 5000):
            names = [f"{number}" + "x" * 50 for number in range(start, start + 5000)]
            client.call("SADD", "_kombu.binding.flood", *names)
            client.call("HSET", "workfleet:shop:oldest", *(word for name in names for word in (name, "y" * 50)))
        client.call("HSET", "unacked", "a", json.dumps([TASK, "", "reports"]), "b", "[" * 100_000,
                    "c", json.dumps([TASK, "flood", "reports"]))
    told = queues.look("shop", [Source("celery", redis_server.url(), ["reports"])])
    figures = {queue["queue"]: queue for queue in told["queues"]}
    assert (figures["reports"]["waiting"], figures["reports"]["unacknowledged"]) == (1, 2)
    assert any("20000 queues are bound, more than 10000" in text for text in told["problems"])
    assert any(text.startswith("key unacked: an entry that cannot be read") for text in told["problems"])
    json.dumps(told, allow_nan=False)
    assert redis_server.call("HLEN", "workfleet:shop:oldest") < 10_000


def test_a_held_message_that_is_none_keeps_no_other_from_its_return(redis_server: RedisServer) -> None:
    redis_server.call("HSET", "unacked", "good", json.dumps([TASK, "", "reports"]), "deep", "[" * 100_000, "list", "[[],[],[]]")
    found = Found()
    celery_reap.reap(Reaping("shop", redis_server.url(), ["reports"], seconds=0.1, timeout=0.2), found, check=False)
    assert [task["id"] for task in found.returned] == ["i"]
    assert [text.startswith("key unacked: 2 entries that cannot be read were left alone") for text in found.left] == [True]
