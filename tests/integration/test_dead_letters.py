"""Dead letters of real engines: listed with their reason, sent again so that a worker runs them, dropped with a way back."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines import taskqueues
from plugins.module_utils.workfleet.engines.celery.wire import task_message
from plugins.module_utils.workfleet.engines.verbs.stash import Choice
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.queues import letters
from plugins.module_utils.workfleet.queues.purge import Run
from tests import warm
from tests.integration import arq_fleet, celery_fleet, chicory_fleet
from tests.integration.owned import ANY
from tests.integration.supervised import ME, MY_GROUP
from tests.patience import is_within, until

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
    return letters.work(taskqueues.named(engine).dead_letters(client, queue, options), name, one, replay=replay, check=check)


def drop_and_restore(client: resp.Client, engine: str, choice: Choice, folder: Path, **options: Any) -> None:
    run, identity, path = Run(client, "shop", engine, options, "a test", ANY), uuid.uuid4().hex, str(folder / f"{engine}.dump")
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
        assert all(letter["age_seconds"] >= 0 and is_within(letter["age_seconds"], 60) for letter in found)
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


MESSAGES = """
import base64, datetime, sys
from chicory.types import TaskMessage
KWARGS = [{}, {"retries": 9}, {"retries": 1, "kwargs": {"retries": 2}}, {"name": "retries", "other": ["retries", 7]}, {"": 8}]
MADE = [TaskMessage(id=f"i{n}", name=name, args=args, kwargs=kwargs, retries=retries, last_error=error, eta=eta)
        for n, kwargs in enumerate(KWARGS) for name in ("retries", "app.tasks.run") for args in ([], ["retries", 3, {"retries": 300}])
        for retries in (3, 300, 70000) for error in (None, "retries") for eta in (None, datetime.datetime(2026, 1, 1))]
if len(sys.argv) > 1:
    lines = [TaskMessage.loads(base64.b64decode(line)) for line in open(sys.argv[1])]
    assert len(lines) == len(MADE) and lines == [made.model_copy(update={"retries": 0}) for made in MADE]
else:
    print(*(base64.b64encode(TaskMessage.dumps(made)).decode() for made in MADE), sep="\\n")
"""


def test_messages_of_chicory_are_sent_again_as_they_were_but_for_their_retries(client: resp.Client, tmp_path: Path) -> None:
    """An argument ``retries`` was set to 0, and the message's own count stayed; a count above 255 stayed too."""
    words = [str(chicory_fleet.environment() / "bin" / "python"), "-c", MESSAGES]
    made = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    for line in made:
        client.call("XADD", "chicory:dlq:q", "*", "data", base64.b64decode(line), "task_id", "x", "task_name", "y", "retry_count", "3")
    assert do(client, "chicory", "q", replay=True)["replayed"] == len(made) == 240
    again = tmp_path / "again"
    again.write_text("".join(f"{base64.b64encode(dict(zip(told[::2], told[1::2]))[b'data']).decode()}\n"
                             for _, told in client.call("XRANGE", "chicory:stream:q", "-", "+")))
    subprocess.run([*words, str(again)], check=True)


def test_one_that_cannot_be_changed_for_certain_is_not_sent_and_neither_are_the_others(client: resp.Client) -> None:
    for data in (pickle.dumps({"name": "a", "retries": 2}), pickle.dumps({"name": "b", "retries": None}), b"no pickle"):
        client.call("XADD", "chicory:dlq:q", "*", "data", data)
    ids = [letter["id"] for letter in do(client, "chicory", "q")["letters"]]
    for check in (True, False):
        with pytest.raises(WorkfleetError, match=f"the dead letter {ids[1]} cannot be sent again as never tried: it has no number"):
            do(client, "chicory", "q", replay=True, check=check)
    with pytest.raises(WorkfleetError, match=f"{ids[2]} cannot be sent again .*: it is no pickle"):
        do(client, "chicory", "q", replay=True, one=ids[2])
    assert (client.call("XLEN", "chicory:dlq:q"), client.call("EXISTS", "chicory:stream:q")) == (3, 0)
    assert do(client, "chicory", "q", replay=True, one=ids[0])["replayed"] == 1


def test_a_celery_worker_runs_what_was_sent_again_though_it_had_expired_and_was_tried_to_its_end() -> None:
    with celery_fleet.fleet() as fleet:
        message = task_message("app.tasks.fetch", "reports", [0], expires=-3600)
        told = json.loads(message.text)
        told["headers"].update(retries=3, eta="2100-01-01T00:00:00+00:00", redelivered=True, reason="no", failed_at=1e9, mine="stays")
        told["properties"]["delivery_info"].update(exchange="dlx", redelivered=True, priority=3)
        fleet.client.call("LPUSH", "dead\x06\x163", json.dumps(told))
        assert do(fleet.client, "celery", "reports", replay=True, deadletter_queue="dead")["replayed"] == 1
        sent = json.loads(fleet.client.call("LINDEX", "reports\x06\x163", 0))
        assert sent["properties"]["delivery_info"] == {"exchange": "", "routing_key": "reports", "priority": 3}
        assert {**told["headers"], "retries": 0, "eta": None, "expires": None} == {
            **sent["headers"], "redelivered": True, "reason": "no", "failed_at": 1e9}
        fleet.start("w@h")
        until(lambda: fleet.client.call("EXISTS", f"celery-task-meta-{message.id}"))
        assert json.loads(fleet.client.call("GET", f"celery-task-meta-{message.id}"))["status"] == "SUCCESS"


def test_more_dead_letters_than_are_told_in_one_go_are_said_to_be_there(client: resp.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are not meant do not count; the first ones were all that were looked at."""
    monkeypatch.setattr(letters, "MOST", 3)
    for number in range(8):
        client.call("XADD", "chicory:dlq:q", "*", "data", b"", "task_name", "rare" if number > 4 else "usual")
    found = do(client, "chicory", "q")
    assert (len(found["letters"]), found["cut"]) == (3, True)
    found = do(client, "chicory", "q", name="rare")
    assert (len(found["letters"]), found["cut"]) == (3, False)


@pytest.mark.parametrize("said", ["9" * 400, "[" * 50_000, '"0001-01-01"', "1e999", "NaN", "true", '{"a": 1}', '"9999-12-31T23:59:59"'])
def test_what_apps_write_as_a_time_harms_nothing(client: resp.Client, said: str) -> None:
    text = task_message("app.a", "q").text
    client.call("LPUSH", "dead", text.replace('"lang": "py"', f'"failed_at": {said}, "retries": {said}'))
    found = do(client, "celery", "q", deadletter_queue="dead")["letters"]
    json.dumps(found, allow_nan=False)
    assert len(found) == (0 if said.startswith("[") else 1)


def test_times_that_are_none_in_chicorys_letters_are_left_out(client: resp.Client) -> None:
    for said in ("9" * 400, "0001-01-01", "x", "", "9" * 5000):
        client.call("XADD", "chicory:dlq:q", "*", "data", b"", "failed_at", said, "retry_count", said)
    assert [letter["failed_at"] for letter in do(client, "chicory", "q")["letters"][2:4]] == [None, None]


# The playbook


class Playbook:
    """``dead_letters.yml`` for an app of one queue whose host is this machine."""

    def __init__(self, url: str, engine: str, app: str, queue: str, folder: Path) -> None:
        group = {"name": "w", "engine": engine, "app": app, "queues": [queue], "drain_seconds": 60}
        variables = {
            "app_name": "shop", "app_user": ME, "app_group": MY_GROUP, "app_root": str(folder / "app"), "app_broker_url": url,
            "worker_manager": "supervisor", "worker_groups": [group], "worker_run_directory": str(folder / "run"),
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
        self.queue, self.dumps, self.inventory = queue, folder / "dumps", folder / "inventory.json"
        self.inventory.write_text(json.dumps({"workers": {"hosts": {"web1": variables}}}))

    def run(self, name: str, *words: str, expect: int = 0, **extra: str) -> str:
        """Return what it said."""
        done = warm.play(["-i", str(self.inventory), f"playbooks/{name}.yml",
                          "-e", json.dumps({"queue": self.queue, "dump_dir": str(self.dumps), **extra}), *words])
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def letters(self, what: str, *words: str, expect: int = 0, **extra: str) -> str:
        """Return what it said to ``-e letters=``."""
        return self.run("dead_letters", *words, expect=expect, letters=what, **extra)

    def drop(self, client: resp.Client, engine: str, one: str, count: int) -> None:
        """Drop one: foretold, refused without the typed line, done with it, and undone."""
        assert f"{self.queue}: 1 dead letter\n" in self.letters(f"drop {one}", "--check")
        assert f"-e \"confirm='drop shop {self.queue}'\"" in self.letters(f"drop {one}", expect=2)
        said = self.letters(f"drop {one}", expect=2, confirm="drop shop other")
        assert "is to be typed, and confirm was received as drop shop other" in said
        assert len(do(client, engine, self.queue)["letters"]) == count
        assert not self.dumps.exists()
        said = self.letters(f"drop {one}", confirm=f"drop shop {self.queue}")
        assert f"{self.queue}: 1 dead letter, dumped and gone: {self.dumps}/shop-" in said
        assert len(do(client, engine, self.queue)["letters"]) == count - 1
        (dump,) = self.dumps.iterdir()
        assert "1 of 1 tasks put back" in self.run("restore", dump=str(dump))
        assert len(do(client, engine, self.queue)["letters"]) == count


def test_the_playbook_with_chicory(client: resp.Client, redis_server: RedisServer, tmp_path: Path) -> None:
    fleet = chicory_fleet.Fleet(tmp_path, redis_server)
    try:
        fleet.start(queues=["slow"], options={"dlq": True}).ready()
        fleet.send(("reject", ["a"]), ("reject", ["b"]), queue="slow")
        until(lambda: len(do(client, "chicory", "slow")["letters"]) == 2)
        playbook = Playbook(redis_server.url(), "chicory", "app.tasks:app", "slow", tmp_path)
        first, second = do(client, "chicory", "slow")["letters"]
        said = playbook.letters("list")
        assert all(f"  {letter['id']}  " in said and letter["reason"] in said for letter in (first, second))
        assert "slow: 2 dead letters\n" in said
        said = playbook.letters(f"show {first['id']}")
        assert first["reason"] in said and second["id"] not in said
        event = first["reason"].partition(" ")[0]
        assert "slow: 1 dead letter\n" in playbook.letters(f"replay {first['id']}", "--check")
        assert fleet.noted()[f"end {event}"] == 1
        assert "slow: 1 dead letter, 1 sent again\n" in playbook.letters(f"replay {first['id']}")
        until(lambda: fleet.noted()[f"end {event}"] == 2 and len(do(client, "chicory", "slow")["letters"]) == 2)
        playbook.drop(client, "chicory", second["id"], 2)
        assert "there is no dead letter 1-1" in playbook.letters("show 1-1", expect=2)
        assert "letters = 'show': must be one of list, show ID" in playbook.letters("show", expect=2)
    finally:
        fleet.close()


@pytest.mark.full
def test_the_playbook_with_arq(client: resp.Client, redis_server: RedisServer, tmp_path: Path) -> None:
    with arq_fleet.fleet(tmp_path, redis_server) as fleet:
        fleet.start().ready()
        fleet.python("for n in range(2): await q('fail', f'no {n}')")
        until(lambda: len(do(client, "arq", "arq:queue")["letters"]) == 2)
        playbook = Playbook(redis_server.url(), "arq", "app.worker.WorkerSettings", "arq:queue", tmp_path)
        first, second = do(client, "arq", "arq:queue")["letters"]
        said = playbook.letters("list")
        assert "FlowError: no 0" in said and "FlowError: no 1" in said and "arq:queue: 2 dead letters\n" in said
        assert first["reason"] in playbook.letters(f"show {first['id']}")
        assert "arq:queue: 1 dead letter, 1 sent again\n" in playbook.letters(f"replay {first['id']}")
        again = until(lambda: [letter for letter in do(client, "arq", "arq:queue")["letters"]
                               if letter["id"] == first["id"] and letter["failed_at"] > first["failed_at"]])
        assert len(again) == 1
        playbook.drop(client, "arq", second["id"], 2)
