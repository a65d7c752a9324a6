"""Tasks out of queues and back, on a real Redis: nothing lost, doubled or out of order, whatever they hold, wherever a run is killed."""

from __future__ import annotations

import itertools
import json
import pickle
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet import dump, resp
from plugins.module_utils.workfleet.engines.celery import stash as celery_stash
from plugins.module_utils.workfleet.engines.celery.wire import task_message
from plugins.module_utils.workfleet.engines.taskqueue import Source
from plugins.module_utils.workfleet.engines.verbs.stash import Choice
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.queues import info as queues
from plugins.module_utils.workfleet.queues import purge as steps
from plugins.module_utils.workfleet.queues.purge import Run
from tests.integration.owned import ANY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer

REUSED = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBERS = itertools.count()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[resp.Client]:
    with resp.connect(redis_server.url(2)) as connection:
        yield connection


def run(client: resp.Client, engine: str = "celery", app: str = "shop", **options: Any) -> Run:
    return Run(client, app, engine, options, "a test", ANY)


def purge(work: Run, folder: Path, choice: Choice) -> str:
    """Purge as the action plugin does; return the dump's path."""
    identity, path = uuid.uuid4().hex, str(folder / f"{next(NUMBERS)}.dump")
    work.write(identity, choice, path, {})
    work.commit(identity, choice)
    return path


def everything(client: resp.Client) -> dict[bytes, Any]:
    """All keys but those that say what was done, with what is in them."""
    read = {b"list": ("LRANGE", 0, -1), b"zset": ("ZRANGE", 0, -1, "WITHSCORES"), b"string": ("GET",), b"hash": ("HGETALL",),
            b"set": ("SMEMBERS",), b"stream": ("XRANGE", "-", "+")}
    found = {}
    for key in client.call("KEYS", "*"):
        word, *rest = read[client.call("TYPE", key)]
        found[key] = client.call(word, key, *rest)
    return {key: value for key, value in found.items() if key not in (b"workfleet:shop:restored", b"workfleet:shop:purging")}


PAYLOADS = st.lists(st.one_of(st.binary(max_size=200), st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))), max_size=60)
QUEUES = st.sampled_from(["reports", "bücher", "a b", "x:y", "*"])


@REUSED
@given(st.dictionaries(st.sampled_from([0, 3, 6, 9]), PAYLOADS, max_size=4), QUEUES)
def test_celery_dump_purge_restore_is_identity(client: resp.Client, tmp_path: Path, lists: dict[int, list[bytes]], queue: str) -> None:
    client.call("FLUSHDB")
    for step, messages in lists.items():
        for message in messages:
            client.call("LPUSH", f"{queue}\x06\x16{step}" if step else queue, message)
    client.call("LPUSH", "foreign", "stays")
    client.call("HSET", "unacked", "tag", "held")
    before = everything(client)
    path = purge(run(client), tmp_path, Choice(queue))
    assert everything(client) == {b"foreign": [b"stays"], b"unacked": [b"tag", b"held"]}
    run(client).restore(path)
    assert everything(client) == before
    assert run(client).restore(path)[1] == 0
    assert everything(client) == before, "a second restore does nothing"


@REUSED
@given(PAYLOADS, PAYLOADS)
def test_what_was_sent_since_stays_in_front_of_nothing_that_is_restored(
    client: resp.Client, tmp_path: Path, old: list[bytes], new: list[bytes]
) -> None:
    client.call("FLUSHDB")
    for message in old:
        client.call("LPUSH", "q", message)
    path = purge(run(client), tmp_path, Choice("q"))
    for message in new:
        client.call("LPUSH", "q", message)
    run(client).restore(path)
    assert client.call("LRANGE", "q", 0, -1)[::-1] == old + new


@REUSED
@given(st.lists(st.sampled_from(["app.a", "app.b"]), max_size=40))
def test_of_a_part_of_a_celery_queue_the_others_keep_their_order(client: resp.Client, tmp_path: Path, tasks: list[str]) -> None:
    client.call("FLUSHDB")
    messages = [task_message(task, "q", [number]).text.encode() for number, task in enumerate(tasks)]
    for message in messages:
        client.call("LPUSH", "q", message)
    choice = Choice("q", task_name="app.a")
    path = purge(run(client), tmp_path, choice)
    assert client.call("LRANGE", "q", 0, -1)[::-1] == [message for message, task in zip(messages, tasks) if task == "app.b"]
    assert b"".join(record for _, records in dump.blocks(path) for record in records) == b"".join(
        message for message, task in zip(messages, tasks) if task == "app.a")


def test_one_priority_is_purged_and_the_others_stay(client: resp.Client, tmp_path: Path) -> None:
    client.call("LPUSH", "q", "urgent")
    client.call("LPUSH", "q\x06\x169", "idle")
    purge(run(client), tmp_path, Choice("q", priority=9))
    assert everything(client) == {b"q": [b"urgent"]}
    with pytest.raises(WorkfleetError, match="there are lists for 0, 3, 6, 9"):
        run(client).stash("x", Choice("q", priority=5)).check()


def arq_job(client: resp.Client, queue: str, job: bytes, due: int, payload: bytes, tries: bool = False) -> None:
    client.call("PSETEX", b"arq:job:" + job, 10**8, payload)
    client.call("ZADD", queue, due, job)
    if tries:
        client.call("SET", b"arq:retry:" + job, "2", "EX", 88400)


@REUSED
@given(st.dictionaries(st.binary(min_size=1, max_size=20), st.tuples(st.integers(1, 2**41), st.binary(max_size=100), st.booleans(),
                                                                       st.booleans()), max_size=40))
def test_arq_dump_purge_restore_is_identity_and_leaves_what_runs(
    client: resp.Client, tmp_path: Path, jobs: dict[bytes, tuple[int, bytes, bool, bool]]
) -> None:
    client.call("FLUSHDB")
    for job, (due, payload, tries, runs) in jobs.items():
        arq_job(client, "arq:queue", job, due, payload or b"x", tries)
        if runs:
            client.call("PSETEX", b"arq:in-progress:" + job, 10**6, "1")
    before = everything(client)
    path = purge(run(client, "arq"), tmp_path, Choice("arq:queue"))
    running = {job for job, (_, _, _, runs) in jobs.items() if runs}
    assert set(client.call("ZRANGE", "arq:queue", 0, -1)) == running
    assert {key for key in everything(client) if key.startswith(b"arq:job:")} == {b"arq:job:" + job for job in running}
    run(client, "arq").restore(path)
    assert everything(client) == before
    run(client, "arq").restore(path)
    assert everything(client) == before


def test_a_restored_job_that_has_run_does_not_come_back_and_one_sent_anew_is_kept(client: resp.Client, tmp_path: Path) -> None:
    for job in (b"a", b"b"):
        arq_job(client, "q", job, 1, b"old")
    path = purge(run(client, "arq"), tmp_path, Choice("q"))
    arq_job(client, "q", b"b", 5, b"new")
    run(client, "arq").restore(path)
    assert client.call("GET", "arq:job:b") == b"new"
    assert client.call("ZSCORE", "q", "b") == b"5"
    client.call("ZREM", "q", "a")
    client.call("DEL", "arq:job:a")
    run(client, "arq").restore(path)
    assert client.call("EXISTS", "arq:job:a") == 0


def test_arq_jobs_are_chosen_by_name_and_age(client: resp.Client, tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    for number, (name, age) in enumerate([("old", 100), ("old", 1), ("other", 100)]):
        job = pickle.dumps({"t": None, "f": name, "a": ("f", "x"), "k": {"f": "old"}, "et": 1})
        arq_job(client, "q", b"%d" % number, now - age * 1000, job)
    purge(run(client, "arq"), tmp_path, Choice("q", task_name="old", older_than=50))
    assert client.call("ZRANGE", "q", 0, -1) == [b"2", b"1"]


def test_a_job_that_a_worker_is_about_to_begin_is_left_by_it(client: resp.Client, redis_server: RedisServer, tmp_path: Path) -> None:
    """The worker has looked at its place in the queue already, as arq does before it takes a job."""
    arq_job(client, "q", b"a", 1, b"x")
    with resp.connect(redis_server.url(2)) as worker:
        worker.call("WATCH", "arq:in-progress:a")
        assert worker.call("ZSCORE", "q", "a") == b"1"
        purge(run(client, "arq"), tmp_path, Choice("q"))
        assert worker.pipeline([("MULTI",), ("PSETEX", "arq:in-progress:a", "1000", "1"), ("EXEC",)])[-1] is None, "it does not begin"


FIELDS = st.dictionaries(st.sampled_from([b"data", b"task_id", b"\xff"]), st.binary(max_size=60), min_size=1)


@REUSED
@given(st.lists(FIELDS, max_size=40), st.integers(0, 40),
       st.dictionaries(st.binary(min_size=1, max_size=40), st.integers(1, 2**40), max_size=10))
def test_chicory_dump_purge_restore_keeps_messages_and_order_and_leaves_what_workers_have(
    client: resp.Client, tmp_path: Path, messages: list[dict[bytes, bytes]], taken: int, delayed: dict[bytes, int]
) -> None:
    client.call("FLUSHDB")
    client.call("XGROUP", "CREATE", "chicory:stream:q", "chicory-workers", "0", "MKSTREAM")
    for message in messages:
        client.call("XADD", "chicory:stream:q", "*", *(word for pair in message.items() for word in pair))
    for data, due in delayed.items():
        client.call("ZADD", "chicory:delayed:q", due, data)
    if taken:
        client.call("XREADGROUP", "GROUP", "chicory-workers", "w", "COUNT", taken, "STREAMS", "chicory:stream:q", ">")

    def contents() -> tuple[Any, ...]:
        return ([entry for _, entry in client.call("XRANGE", "chicory:stream:q", "-", "+")],
                client.call("ZRANGE", "chicory:delayed:q", 0, -1, "WITHSCORES"),
                client.call("XPENDING", "chicory:stream:q", "chicory-workers")[0])

    before = contents()
    path = purge(run(client, "chicory"), tmp_path, Choice("q"))
    assert contents() == (before[0][:taken], [], before[2])
    group, = client.call("XINFO", "GROUPS", "chicory:stream:q")
    assert dict(zip(group[::2], group[1::2]))[b"lag"] == 0
    for _ in range(2):
        run(client, "chicory").restore(path)
        assert contents() == before
    rest = client.call("XREADGROUP", "GROUP", "chicory-workers", "w", "STREAMS", "chicory:stream:q", ">")
    assert [entry for _, entry in (rest[0][1] if rest else [])] == before[0][taken:]


def test_chicory_tasks_are_chosen_by_name_and_age(client: resp.Client, tmp_path: Path) -> None:
    def data(name: str) -> bytes:
        return pickle.dumps({"id": "x", "name": name, "args": ["name", "old"], "kwargs": {}}, protocol=4)

    hour_ago = int(time.time() * 1000) - 3_600_000
    for number, name in enumerate(["old", "other", "old"]):
        client.call("XADD", "chicory:stream:q", f"{hour_ago + number}-0", "data", data(name))
    client.call("XADD", "chicory:stream:q", "*", "data", data("old"))
    client.call("ZADD", "chicory:delayed:q", 5, data("old"))
    purge(run(client, "chicory"), tmp_path, Choice("q", task_name="old", older_than=1800))
    assert [dict(zip(told[::2], told[1::2]))[b"data"] for _, told in client.call("XRANGE", "chicory:stream:q", "-", "+")] == [
        data("other"), data("old")]
    assert client.call("ZCARD", "chicory:delayed:q") == 1
    purge(run(client, "chicory"), tmp_path, Choice("q", task_name="old"))
    assert (client.call("XLEN", "chicory:stream:q"), client.call("ZCARD", "chicory:delayed:q")) == (1, 0)


def stamped(number: int, age: float | None, task: str = "app.a") -> bytes:
    told = json.loads(task_message(task, "q", [number]).text)
    if age is not None:
        told["headers"]["sent_at"] = time.time() - age
    return json.dumps(told).encode()


def test_old_celery_messages_are_those_that_say_so_and_none_grows_old_before_the_deletion(client: resp.Client, tmp_path: Path) -> None:
    messages = [stamped(0, 100), stamped(1, 2.2), stamped(2, None), stamped(3, 101), stamped(4, 0)]
    for message in messages:
        client.call("LPUSH", "q", message)
    work, choice, path = run(client), Choice("q", older_than=3), str(tmp_path / "old.dump")
    work.write("x", choice, path, {})
    time.sleep(1.5)  # the second one is older than 3 s by now, and in no dump
    work.commit("x", choice)
    assert client.call("LRANGE", "q", 0, -1)[::-1] == [messages[1], messages[2], messages[4]]
    assert [record for _, records in dump.blocks(path) for record in records] == [messages[0], messages[3]]
    assert work.restore(path)[1] == 2
    assert set(everything(client)) == {b"q"}


def test_an_age_is_refused_where_no_message_tells_its_own(client: resp.Client, tmp_path: Path) -> None:
    for number in range(3):
        client.call("LPUSH", "q", stamped(number, None))
    client.call("LPUSH", "q", stamped(9, 100, "app.b"))
    before = everything(client)
    choice = Choice("q", task_name="app.a", older_than=1)
    with pytest.raises(WorkfleetError, match="no message that is meant says when it was sent"):
        purge(run(client), tmp_path, choice)
    assert everything(client) == before
    with pytest.raises(WorkfleetError, match="no message that is meant says when it was sent"):
        run(client).stash("x", choice).count()
    assert run(client).stash("x", Choice("q", older_than=1)).count() == 1


def letters_of(client: resp.Client) -> None:
    for number in range(3):
        client.call("XADD", "chicory:dlq:q", f"{number + 1}-0", "data", "x")
        client.call("SET", f"arq:result:{number}", pickle.dumps({"s": False, "q": "q", "f": "app.t", "r": None, "t": 1, "ft": 1}))


CHOICES = {
    "celery": [Choice("q"), Choice("q", priority=3), Choice("q", task_name="app.t0"), Choice("q", older_than=50), Choice("dead")],
    "arq": [Choice("q"), Choice("q", task_name="app.t0"), Choice("q", older_than=50), Choice("q", dead=True, ids=("0", "2", "7"))],
    "chicory": [Choice("q"), Choice("q", task_name="app.t0"), Choice("q", older_than=50), Choice("q", dead=True, ids=("1-0", "9-0"))],
}


@pytest.mark.parametrize(("engine", "choice"), [(engine, choice) for engine, choices in CHOICES.items() for choice in choices], ids=str)
def test_a_check_foretells_the_records_of_a_purge_and_of_its_restore(
    client: resp.Client, tmp_path: Path, engine: str, choice: Choice
) -> None:
    """It told what waits in the whole queue, deferred tasks left out, and nothing of a dead-letter queue."""
    now = time.time()
    for number in range(12):
        age, name = number * 10, f"app.t{number % 2}"
        for queue in ("q", "q\x06\x163", "dead") if engine == "celery" else ():
            client.call("LPUSH", queue, stamped(number, age, name))
        if engine == "arq":
            due = int((now - age + 30) * 1000)  # some are not due yet
            arq_job(client, "q", b"%d" % number, due, pickle.dumps({"f": name}))
            if number % 5 == 0:
                client.call("SET", f"arq:in-progress:{number}", "1")
        if engine == "chicory":
            client.call("XADD", "chicory:stream:q", f"{int((now - 200 + 10 * number) * 1000)}-0", "data", pickle.dumps({"name": name}))
            client.call("ZADD", "chicory:delayed:q", number, pickle.dumps({"name": name, "id": number}))
    if engine == "chicory":
        client.call("XGROUP", "CREATE", "chicory:stream:q", "chicory-workers", "0")
        client.call("XREADGROUP", "GROUP", "chicory-workers", "w", "COUNT", 3, "STREAMS", "chicory:stream:q", ">")
    letters_of(client)
    work, before = run(client, engine), everything(client)
    given = {"id": "x", "step": "write", "path": str(tmp_path / "x.dump"), "force": False, "header": {}}
    foretold = steps.step(work, given, choice, check=True)
    assert everything(client) == before
    done = steps.step(work, given, choice, check=False)
    assert foretold["records"] == done["records"] > 0
    steps.step(work, {**given, "step": "commit"}, choice, check=False)
    path, header = given["path"], dump.verify(str(given["path"])).header

    def foreseen() -> int:
        return dump.records_after(str(path), steps.foresee(work, header)["done"])

    assert foreseen() == done["records"]
    restored = steps.restore(work, str(path), "", force=False)
    assert (restored["restored"], restored["changed"], foreseen()) == (done["records"], True, 0)
    again = steps.restore(work, str(path), "", force=False)
    assert (again["restored"], again["changed"]) == (0, False)


def test_a_list_of_another_kind_is_refused_before_anything_is_touched(client: resp.Client, tmp_path: Path) -> None:
    """A check said that None tasks wait, and a restore joined some priorities and then died."""
    for step in ("", "\x06\x166"):
        client.call("LPUSH", f"q{step}", "a", "b")
    path = purge(run(client), tmp_path, Choice("q"))
    client.call("SET", "q\x06\x166", "mine")
    before = everything(client)
    given = {"id": "x", "step": "write", "path": str(tmp_path / "x.dump"), "force": False, "header": {}}
    for call in (lambda: steps.step(run(client), given, Choice("q"), check=True), lambda: run(client).restore(path),
                 lambda: steps.foresee(run(client), dump.verify(path).header)):
        with pytest.raises(WorkfleetError, match=r"the key 'q\\x06\\x166' in Redis is no queue of Celery's .*; nothing was touched"):
            call()
    assert everything(client) == before
    stash = run(client).stash("y", Choice("q"))
    stash.add("6", [b"c"], stash.progress(1))
    stash.add("0", [b"c"], stash.progress(2))
    with pytest.raises(WorkfleetError, match="nothing was touched"):  # it came between the look and the step
        stash.added(stash.progress(b"done"))
    client.call("DEL", "q\x06\x166")
    stash.added(stash.progress(b"done"))
    assert everything(client) == {b"q": [b"c"], b"q\x06\x166": [b"c"]}


@pytest.mark.parametrize("engine", ["celery", "arq", "chicory"])
def test_what_was_interrupted_is_told_and_ended_without_a_dump(
    client: resp.Client, redis_server: RedisServer, tmp_path: Path, engine: str
) -> None:
    def told() -> list[str]:
        found = queues.look("shop", [Source(engine, redis_server.url(2), ["q"])] * 2)
        return [text for text in found["problems"] if "was not ended" in text]

    fill(client, engine)
    whole, count = values(client), 12 if engine == "chicory" else 6
    assert told() == []
    run(client, engine).write("0123456789", Choice("q"), str(tmp_path / "a.dump"), {})
    problem, = told()
    assert problem.startswith(f"queue q: the purge 01234567 was not ended: {count} tasks are out of the queue and in no dump; "
                              "playbooks/restore.yml without a dump")
    assert steps.foresee(run(client, engine), None)["recovered"] == [problem]
    with run(client, engine).alone(force=False):
        assert told()[0].endswith("(unless a test is still at work: else -e force=true)")
    assert steps.restore(run(client, engine), "", "", force=False)["changed"]
    assert (values(client), told()) == (whole, [])
    assert not steps.restore(run(client, engine), "", "", force=False)["changed"]
    path = purge(run(client, engine), tmp_path, Choice("q"))
    with pytest.raises(KilledError):
        run(Dying(client, 4 if engine == "chicory" else 2, after=True), engine).restore(path, "/home/ann/a.dump")
    problem, = told()
    assert problem.startswith(f"queue q: a restore of {count} tasks was not ended; playbooks/restore.yml -e dump=/home/ann/a.dump goes on")
    run(client, engine).restore(path)
    assert (values(client), told()) == (whole, [])


class KilledError(Exception):
    """Instead of a kill -9: nothing that comes later runs."""


class Dying(resp.Client):
    """A connection whose process is killed before or after one of its calls."""

    def __init__(self, client: resp.Client, calls: int, *, after: bool) -> None:
        self.inner, self.left, self.after, self.address = client, calls, after, client.address

    def close(self) -> None:
        """Nothing: the real one goes on."""

    def call(self, *args: resp.Argument, timeout: float | None = None) -> resp.Reply:
        return self.pipeline([args], timeout=timeout)[0]

    def pipeline(self, commands: Any, **keys: Any) -> list[resp.Reply]:
        self.left -= 1
        if self.left < 0 and not self.after:
            raise KilledError
        replies = self.inner.pipeline(commands, **keys)
        if self.left < 0:
            raise KilledError
        return replies


def fill(client: resp.Client, engine: str) -> None:
    for number in range(6):
        payload = stamped(number, 100 * (number % 3), f"app.t{number % 2}").decode()
        if engine == "celery":
            client.call("LPUSH", "q", payload)
        elif engine == "arq":
            arq_job(client, "q", b"%d" % number, number + 1, payload.encode())
        else:
            client.call("XADD", "chicory:stream:q", "*", "data", payload)
            client.call("ZADD", "chicory:delayed:q", number + 1, payload)


def values(client: resp.Client) -> dict[bytes, Any]:
    """All contents; messages of a stream have new numbers where they were put back."""
    return {key: [told for _, told in value] if b":stream:" in key else value for key, value in everything(client).items()}


def test_tasks_were_deleted_and_not_dumped_where_the_noted_time_was_rounded_up(
    client: resp.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client, "celery")
    whole = values(client)
    monkeypatch.setattr(celery_stash.CeleryStash, "_now", lambda _: int(time.time()) + 0.0006)
    identity, path, choice = uuid.uuid4().hex, str(tmp_path / "old.dump"), Choice("q", older_than=50.0)
    mortal = run(client, "celery")
    assert mortal.write(identity, choice, path, {}).records == 4
    mortal.commit(identity, choice)
    assert len(values(client)[b"q"]) == 2
    run(client, "celery").restore(path)
    assert sorted(values(client)[b"q"]) == sorted(whole[b"q"])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("engine", "part"), [("celery", {}), ("celery", {"task_name": "app.t0"}), ("celery", {"older_than": 50.0}),
                                              ("arq", {}), ("chicory", {})])
def test_a_purge_killed_anywhere_loses_nothing(client: resp.Client, tmp_path: Path, engine: str, part: dict[str, Any], after: bool) -> None:
    """And what is in a dump that counts is not in the queue, and the other way round."""
    choice = Choice("q", **part)
    for calls in range(200):
        client.call("FLUSHDB")
        fill(client, engine)
        whole = values(client)
        identity, path = uuid.uuid4().hex, str(tmp_path / f"{next(NUMBERS)}.dump")
        mortal = run(Dying(client, calls, after=after), engine)
        ended = committed = False
        try:
            mortal.write(identity, choice, path, {})
            committed = True
            mortal.commit(identity, choice)
            ended = True
        except KilledError:
            pass
        said = run(client, engine).recover()
        left = values(client)
        assert not any(b"workfleet:" in key for key in left), left
        if left == whole:
            assert not ended
            if committed:  # a dump is there, and its tasks are in the queue again: it must not double them
                assert run(client, engine).restore(path)[1] == 0
        else:
            assert committed and (not said or "are deleted now" in said[0])
            run(client, engine).restore(path)
            if not part:
                assert values(client) == whole
            else:
                assert sorted(values(client)[b"q"]) == sorted(whole[b"q"])
        if ended:
            return
    raise AssertionError("it never ends")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("engine", ["celery", "arq", "chicory"])
def test_a_restore_killed_anywhere_is_finished_by_the_next_without_doubling(
    client: resp.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, after: bool
) -> None:
    monkeypatch.setattr("plugins.module_utils.workfleet.engines.verbs.stash.MOST_RECORDS", 2)  # several blocks
    for calls in range(100):
        client.call("FLUSHDB")
        fill(client, engine)
        whole = values(client)
        path = purge(run(client, engine), tmp_path, Choice("q"))
        assert values(client) != whole
        try:
            run(Dying(client, calls, after=after), engine).restore(path)
            ended = True
        except KilledError:
            ended = False
        run(client, engine).restore(path)
        assert values(client) == whole
        if ended:
            return
    raise AssertionError("it never ends")


def test_nothing_is_both_dumped_and_taken_by_a_consumer(client: resp.Client, redis_server: RedisServer, tmp_path: Path) -> None:
    for start in range(0, 20_000, 1000):
        client.call("LPUSH", "q", *(f"{number}" for number in range(start, start + 1000)))
    eaten: list[bytes] = []
    stop = threading.Event()

    def eat() -> None:
        with resp.connect(redis_server.url(2)) as consumer:
            while not stop.is_set():
                message = consumer.call("RPOP", "q")
                if message is not None:
                    eaten.append(message)

    eaters = [threading.Thread(target=eat) for _ in range(3)]
    for eater in eaters:
        eater.start()
    time.sleep(0.1)
    path = purge(run(client), tmp_path, Choice("q"))
    stop.set()
    for eater in eaters:
        eater.join()
    dumped = [record for _, records in dump.blocks(path) for record in records]
    assert eaten and dumped, "both had some"
    assert sorted(map(int, eaten + dumped)) == list(range(20_000))


def test_a_cut_or_altered_dump_is_refused_before_the_first_write(client: resp.Client, tmp_path: Path) -> None:
    client.call("LPUSH", "q", *(f"message {number}" for number in range(3000)))
    path = purge(run(client), tmp_path, Choice("q"))
    whole = (tmp_path / path).read_bytes()
    assert dump.verify(path).records == 3000
    bad = tmp_path / "bad.dump"
    for size in (0, 5, len(dump.MAGIC), 40, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:size])
        with pytest.raises(WorkfleetError):
            run(client).restore(str(bad))
    for place in (3, len(dump.MAGIC) + 3, len(whole) // 2, len(whole) - 70, len(whole) - 2):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
        with pytest.raises(WorkfleetError):
            run(client).restore(str(bad))
    bad.write_bytes(whole + b"x")
    with pytest.raises(WorkfleetError):
        run(client).restore(str(bad))
    assert everything(client) == {}
    assert client.call("EXISTS", "workfleet:shop:restored") == 0
    with pytest.raises(WorkfleetError, match="is a dump of the app shop"):
        run(client, app="other").restore(path)


def test_a_queue_of_another_kind_is_left_alone(client: resp.Client, tmp_path: Path) -> None:
    client.call("SET", "q", "mine")
    with pytest.raises(WorkfleetError, match="no queue of Celery's"):
        purge(run(client), tmp_path, Choice("q"))
    with pytest.raises(WorkfleetError, match="no queue of arq's"):
        run(client, "arq").stash("x", Choice("q")).check()
    assert everything(client) == {b"q": b"mine"}
    assert run(client).recover() == []


def test_two_runs_do_not_mix_and_a_dead_one_can_be_passed(client: resp.Client) -> None:
    other = Run(client, "shop", "celery", {}, "somebody else", ANY)
    with run(client).alone(force=False):
        with pytest.raises(WorkfleetError, match="another purge or restore of shop is at work"), other.alone(force=False):
            pass
        with other.alone(force=True):
            assert client.call("GET", other.lock) == b"somebody else"
            with pytest.raises(WorkfleetError, match="has passed this one by force, and ended what it had begun: somebody else"):
                run(client).sign()
            run(client).release()
            assert client.call("GET", other.lock) == b"somebody else", "it is not ours any more"


def test_a_dump_is_readable_by_its_owner_only(client: resp.Client, tmp_path: Path) -> None:
    client.call("LPUSH", "q", "x")
    path = tmp_path / purge(run(client), tmp_path, Choice("q"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_bytes().splitlines()[1])["queue"] == "q"
