"""All of an app out of Redis and nothing else: what is foretold is what goes, wherever it is killed, and the dumps hold every task."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import pickle
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import dump, managers, resp
from plugins.module_utils.workfleet.engines.celery.wire import task_message
from plugins.module_utils.workfleet.engines.chicory.taskqueue import Stream
from plugins.module_utils.workfleet.engines.taskqueue import Source
from plugins.module_utils.workfleet.engines.verbs.stash import Choice
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.queues import reset
from plugins.module_utils.workfleet.queues.purge import Run
from tests import warm
from tests.integration import celery_fleet
from tests.integration.drained import NAMES, Drained
from tests.integration.owned import ANY
from tests.integration.supervised import ME, MY_GROUP, Site, site
from tests.integration.test_purge import Dying, KilledError, arq_job, everything
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import RedisServer

__all__ = ["site"]
ENGINES = ("celery", "arq", "chicory")
QUEUE = {"celery": "reports", "arq": "arq:queue", "chicory": "slow"}
NUMBERS = itertools.count()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[resp.Client]:
    with resp.connect(redis_server.url(2)) as connection:
        yield connection


def order(redis: RedisServer, engine: str, **more: Any) -> reset.Order:
    options, results = more.pop("options", {}), more.pop("results", redis.url(2))
    source = Source(engine, redis.url(2), [QUEUE[engine]], options, results)
    return reset.Order("shop", source, ["web1"], holder="a test", **more)


def unacked(client: resp.Client, queue: str, number: int, exchange: str = "", routing_key: str = "", **properties: Any) -> str:
    """Have a worker hold a message, as kombu notes it."""
    message = task_message("app.held", queue, [number])
    content = json.loads(message.text)
    content["properties"].update(properties)
    client.call("HSET", "unacked", message.tag, json.dumps([content, exchange, routing_key or queue]))
    client.call("ZADD", "unacked_index", 1000 + number, message.tag)
    return message.id


def fill(client: resp.Client, engine: str) -> set[str]:
    """The app's tasks: waiting, held by workers that are dead, for later, dead; with what else there is of it. Return their ids."""
    queue, names = QUEUE[engine], set()
    if engine == "celery":
        for step in (0, 0, 9):
            message = task_message("app.wait", queue, [step])
            client.call("LPUSH", f"{queue}\x06\x16{step}" if step else queue, message.text)
            names.add(message.id)
        names |= {unacked(client, queue, 1), unacked(client, queue, 2, priority=6), unacked(client, queue, 3, "own", "reports.#")}
        client.call("SADD", f"_kombu.binding.{queue}", f"{queue}\x06\x16\x06\x16{queue}")
        client.call("SADD", f"_kombu.binding_permanent.{queue}", f"{queue}\x06\x16\x06\x16{queue}")
        client.call("SADD", "_kombu.binding.own", f"reports.#\x06\x16^reports\x06\x16{queue}")
        client.call("SADD", "_kombu.binding.celery.pidbox", "\x06\x16\x06\x16shop.w.1.1@web1.celery.pidbox")
        client.call("SET", "celery-task-meta-1", "{}", "EX", 900)
    elif engine == "arq":
        for number in range(4):
            arq_job(client, queue, b"j%d" % number, number * 10**12 + 1, pickle.dumps({"f": "work"}), tries=number == 1)
            names.add(f"j{number}")
        client.call("SET", "arq:in-progress:j1", "1", "EX", 900)
        client.call("ZADD", "arq:abort", 5, "j1")
        client.call("SET", "arq:health-check:shop.w.1.1@web1", f"j_complete=0 queue={queue}")
        client.call("SET", f"{queue}:health-check", "j_complete=0")
        client.call("SET", "arq:result:done", pickle.dumps({"q": queue, "s": True}), "EX", 900)
    else:
        stream = f"chicory:stream:{queue}"
        client.call("XGROUP", "CREATE", stream, "chicory-workers", "0", "MKSTREAM")
        for number in range(6):
            client.call("XADD", stream, "*", "data", f"c{number}")
        (_, read), = client.call("XREADGROUP", "GROUP", "chicory-workers", "worker-1", "COUNT", 3, "STREAMS", stream, ">")
        client.call("XACK", stream, "chicory-workers", read[0][0])
        client.call("ZADD", f"chicory:delayed:{queue}", 10**10, "later")
        client.call("XADD", f"chicory:dlq:{queue}", "*", "data", "dead", "task_name", "t")
        client.call("SET", "chicory:heartbeat:shop.w.1.1@web1", json.dumps(
            {"is_running": True, "concurrency": 1, "active_tasks": 0, "tasks_failed": 0, "tasks_processed": 0, "pid": 1, "queue": queue}))
        client.call("SET", "chicory:result:1", "{}", "EX", 900)
        names |= {f"c{number}" for number in range(1, 6)} | {"later", "dead"}  # the first is done with
    return names


def fill_foreign(client: resp.Client) -> dict[bytes, Any]:
    """Another app in the same database, of every engine, whose names begin with ours."""
    client.call("LPUSH", "reports-2", task_message("other.t", "reports-2").text)
    unacked(client, "reports-2", 9)
    client.call("SADD", "_kombu.binding.reports-2", "reports-2\x06\x16\x06\x16reports-2")
    client.call("SADD", "_kombu.binding.celery.pidbox", "\x06\x16\x06\x16shop-2.w.1.1@web1.celery.pidbox")
    arq_job(client, "arq:queue-2", b"theirs", 1, b"x")
    client.call("SET", "arq:in-progress:theirs", "1")
    client.call("ZADD", "arq:abort", 5, "theirs")
    client.call("SET", "arq:health-check:shop-2.w.1.1@web1", "j_complete=0 queue=arq:queue-2")
    client.call("SET", "arq:result:other", pickle.dumps({"q": "arq:queue-2", "s": True}))
    client.call("XADD", "chicory:stream:slow-2", "*", "data", "x")
    client.call("SET", "chicory:heartbeat:shop-2.w.1.1@web1", "{}")
    client.call("SADD", "mine", "a set of somebody's")
    return everything(client)


def work(told: reset.Order, folder: Path, client: resp.Client, results: bool = False) -> list[str]:
    """Reset as the action plugin does; return the dumps."""
    reset.alone(told)
    paths = []
    choices = [Choice(queue, whole=True) for queue in told.source.queues]
    if results:
        choices.append(Choice(told.source.queues[0] if told.source.engine == "arq" else "", results=True))
    for choice in choices:
        run = Run(client, "shop", told.source.engine, told.source.options, "a test", ANY)
        run.recover()
        identity, path = uuid.uuid4().hex, str(folder / f"{next(NUMBERS)}.dump")
        if run.write(identity, choice, path, {}).records:
            run.commit(identity, choice)
            paths.append(path)
        else:
            run.put_back(identity, choice)
    reset.sweep(told)
    return paths


def ids(client: resp.Client, engine: str) -> list[str]:
    """The tasks that are in the app's queue, wherever in it."""
    queue = QUEUE[engine]
    if engine == "celery":
        waiting = [message for step in ("", "\x06\x163", "\x06\x166", "\x06\x169")
                   for message in client.call("LRANGE", queue + step, 0, -1)]
        held = [json.loads(text) for text in client.call("HVALS", "unacked")]
        mine = [message for message, _, routing_key in held if routing_key in (queue, "reports.#")]
        return sorted(message["headers"]["id"] for message in [*map(json.loads, waiting), *mine])
    if engine == "arq":
        return sorted(job.decode() for job in client.call("ZRANGE", queue, 0, -1) if client.call("EXISTS", b"arq:job:" + job))
    stream = f"chicory:stream:{queue}"
    done = [b"c0"]
    found = [told[1] for _, told in client.call("XRANGE", stream, "-", "+") if told[1] not in done]
    found += client.call("ZRANGE", f"chicory:delayed:{queue}", 0, -1)
    found += [told[1] for _, told in client.call("XRANGE", f"chicory:dlq:{queue}", "-", "+")]
    return sorted(text.decode() for text in found)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_foretold_goes_nothing_else_does_and_all_tasks_come_back(
    client: resp.Client, redis_server: RedisServer, tmp_path: Path, engine: str
) -> None:
    foreign = fill_foreign(client)
    names = fill(client, engine)
    before = everything(client)
    told = order(redis_server, engine)
    foretold = reset.look(told, check=True)
    assert contents(client) == before, "a look touches nothing"
    paths = work(told, tmp_path, client)
    assert [sum(dump.verify(path).records for path in paths)] == [queue["tasks"] for queue in foretold["queues"]] == [len(names)]
    after = contents(client)
    # Decision 32: results stay; and a binding by an exchange of the app's own, or what is sent through it meanwhile were lost.
    stays = {"celery": {b"_kombu.binding.own", b"celery-task-meta-1"}, "arq": {b"arq:result:done"}, "chicory": {b"chicory:result:1"}}
    assert after == {**foreign, **{key: before[key] for key in stays[engine]}}
    # Every key that went as a whole was told of, but those that hold the tasks.
    traces = {trace["key"].encode() for trace in foretold["traces"]}
    gone = set(before) - set(after)
    assert {key for key in gone if not holds_tasks(key)} == traces & gone
    assert reset.look(told, check=True)["traces"] == []
    for path in paths:
        for _ in range(2):
            Run(client, "shop", engine, {}, "a test", ANY).restore(path)
            assert ids(client, engine) == sorted(names)
    assert {key: value for key, value in everything(client).items() if key in foreign} == foreign
    assert work(told, tmp_path, client) != [], "what was restored can be reset again"


def contents(client: resp.Client) -> dict[bytes, Any]:
    """All there is but for how long tasks were seen to wait, which is the toolkit's own note of a look, for a day."""
    return {key: value for key, value in everything(client).items() if key != b"workfleet:shop:oldest"}


def holds_tasks(key: bytes) -> bool:
    return key.startswith((b"reports", b"arq:job:", b"arq:retry:", b"arq:in-progress:", b"chicory:d")) or key == b"arq:queue"


def test_what_celery_workers_held_is_restored_as_the_first_to_be_read_of_its_priority(
    client: resp.Client, redis_server: RedisServer, tmp_path: Path
) -> None:
    first = task_message("app.wait", "reports").text
    client.call("LPUSH", "reports", first)
    held, urgent = unacked(client, "reports", 1), unacked(client, "reports", 2, priority=7)
    path, = work(order(redis_server, "celery"), tmp_path, client)
    Run(client, "shop", "celery", {}, "a test", ANY).restore(path)
    waiting = [json.loads(message) for message in client.call("LRANGE", "reports", 0, -1)]
    assert [message["headers"]["id"] for message in waiting] == [json.loads(first)["headers"]["id"], held]
    assert waiting[1]["headers"]["redelivered"] is True, "as when the worker itself had given it back"
    assert [json.loads(message)["headers"]["id"] for message in client.call("LRANGE", "reports\x06\x166", 0, -1)] == [urgent]


def test_what_may_be_of_several_queues_is_left_in_the_workers_hands(client: resp.Client, redis_server: RedisServer, tmp_path: Path) -> None:
    for queue in ("reports", "theirs"):
        client.call("SADD", "_kombu.binding.both", f"key\x06\x16\x06\x16{queue}")
    unacked(client, "reports", 1, "both", "key")
    client.call("HSET", "unacked", "odd", "no message")
    work(order(redis_server, "celery"), tmp_path, client)
    assert client.call("HLEN", "unacked") == 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_reset_killed_anywhere_loses_nothing_and_the_next_finishes(
    client: resp.Client, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, after: bool
) -> None:
    told = order(redis_server, engine)
    for calls in range(200):
        client.call("FLUSHDB")
        foreign = fill_foreign(client)
        names = fill(client, engine)
        folder = tmp_path / f"{calls}-{after}"
        folder.mkdir()
        ended = True
        mortal = Dying(client, calls, after=after)
        with monkeypatch.context() as patch:
            patch.setattr(resp, "connect", functools.partial(lambda connection, _url, **_: contextlib.nullcontext(connection), mortal))
            try:
                work(told, folder, mortal)
            except KilledError:
                ended = False
        work(told, folder, client)
        assert {key: value for key, value in everything(client).items() if key in foreign} == foreign
        assert ids(client, engine) == []
        assert reset.look(told, check=True)["traces"] == []
        # A dump that was written and whose tasks came back into their queue since is of no use: only what counts is restored.
        for path in sorted(folder.glob("*.dump"), key=lambda path: int(path.stem)):
            with contextlib.suppress(WorkfleetError):  # cut by the kill
                dump.verify(str(path))
                Run(client, "shop", engine, {}, "a test", ANY).restore(str(path))
        assert ids(client, engine) == sorted(names), calls
        if ended:
            return
    raise AssertionError("it never ends")


def test_a_task_that_is_sent_meanwhile_stays_for_the_workers(client: resp.Client, redis_server: RedisServer, tmp_path: Path) -> None:
    fill(client, "chicory")
    told = order(redis_server, "chicory")
    work(told, tmp_path, client)
    fill(client, "chicory")
    with resp.connect(redis_server.url(2)) as other:
        assert not Stream("chicory:stream:slow", group="chicory-workers").delete(other), "there is a task in it"
    assert client.call("EXISTS", "chicory:stream:slow") == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_results_go_only_by_wish_and_come_back(client: resp.Client, redis_server: RedisServer, tmp_path: Path, engine: str) -> None:
    fill(client, engine)
    if engine == "celery":
        client.call("DEL", "_kombu.binding.own", "unacked", "unacked_index")
        client.call("RPUSH", "celery-task-meta-1.j", "a part of a chord")
    result = {"celery": "celery-task-meta-1", "arq": "arq:result:done", "chicory": "chicory:result:1"}[engine]
    before = {key: value for key, value in everything(client).items() if key.startswith(result.encode())}
    told = order(redis_server, engine, include_results=True)
    assert reset.look(told, check=True)["result_count"] == len(before)
    paths = work(told, tmp_path, client, results=True)
    assert contents(client) == {}
    for _ in range(2):
        Run(client, "shop", engine, {}, "a test", ANY).restore(paths[-1])
        assert contents(client) == before
        assert 0 < client.call("PTTL", result) <= 900_000


@pytest.mark.parametrize("engine", ["celery", "chicory"])
def test_results_are_refused_where_others_share_their_database(client: resp.Client, redis_server: RedisServer, engine: str) -> None:
    fill_foreign(client)
    fill(client, engine)
    with pytest.raises(WorkfleetError, match=r"queues that no worker group consumes \(.*-2\), and results do not say whose they are"):
        reset.look(order(redis_server, engine, include_results=True), check=True)
    with pytest.raises(WorkfleetError, match="app_result_url names no Redis"):
        reset.look(order(redis_server, engine, include_results=True, results="db+postgresql://h/d"), check=True)


def test_a_key_of_another_kind_stops_it_before_anything_is_touched(client: resp.Client, redis_server: RedisServer) -> None:
    for engine, key in (("celery", "reports"), ("arq", "arq:queue"), ("chicory", "chicory:dlq:slow")):
        client.call("SET", key, "mine")
        with pytest.raises(WorkfleetError, match="in Redis is"):
            reset.look(order(redis_server, engine), check=False)


def test_nothing_is_deleted_while_somebody_consumes_a_queue_of_the_app(client: resp.Client, redis_server: RedisServer) -> None:
    client.call("SET", "arq:health-check:shop.w.1.1@web1", "j_complete=0 queue=arq:queue")
    reset.alone(order(redis_server, "arq"))  # the mark of a node that was stopped on its host
    client.call("SET", "arq:health-check:shop.w.1.1@elsewhere", "j_complete=0 queue=arq:queue")
    with pytest.raises(WorkfleetError, match=r"shop\.w\.1\.1@elsewhere consumes arq:queue, and is no node that was stopped"):
        reset.alone(order(redis_server, "arq"))


def test_a_live_celery_worker_of_a_queue_is_refused_whatever_its_name() -> None:
    with celery_fleet.fleet() as fleet:
        fleet.start("shop.w.1.1@web1")
        fleet.ready("shop.w.1.1@web1")
        told = reset.Order("shop", Source("celery", fleet.url, ["reports"]), ["web1"])
        with pytest.raises(WorkfleetError, match=r"shop\.w\.1\.1@web1 consumes reports"):
            reset.alone(told)
        reset.alone(reset.Order("shop", Source("celery", fleet.url, ["other"]), ["web1"]))


# -- the playbook


#: A task that is long ends when it is told to.
REST = """
def rest(seconds):
    end = time.time() + seconds
    while time.time() < end and not os.path.exists(os.environ["EVENTS_LOG"] + ".end"):
        time.sleep(0.05)
"""


class Played:
    """An app of one engine on this machine, as an inventory declares it."""

    def __init__(self, site: Site, redis: RedisServer, folder: Path, engine: str) -> None:
        self.drained, self.site, self.redis, self.folder = Drained(site, redis, folder, engine), site, redis, folder
        (folder / "dumps").mkdir()
        text = (folder / "noted.py").read_text()
        text = text.replace("await asyncio.sleep(", "await asyncio.to_thread(rest, ").replace("time.sleep(", "rest(")
        (folder / "noted.py").write_text(text + REST)
        group = {"name": "w", "engine": engine, "app": NAMES[engine], "queues": ["work"], "concurrency": 1, "drain_seconds": 60}
        if engine == "celery":
            group["options"] = {"pool": "threads"}
        app = {"app_name": "shop", "app_user": ME, "app_group": MY_GROUP, "app_root": site.root, "app_env": self.drained.variables,
               "app_broker_url": redis.url(3), "worker_manager": "supervisor", "worker_groups": [group],
               "worker_run_directory": site.run_directory, "worker_rollout": {"monitor_seconds": 0}}
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
        self.inventory = folder / "inventory.json"
        self.inventory.write_text(json.dumps({"workers": {"hosts": {"web1": {**app, **local}}}}))

    def play(self, playbook: str, *words: str, expect: int = 0, **extra: Any) -> str:
        """Run a playbook."""
        steps = self.folder / "steps.json"
        extra = {"dump_dir": str(self.folder / "dumps"), "steps_json": str(steps), "verify_seconds": 20, **extra}
        done = warm.play(["-i", str(self.inventory), f"playbooks/{playbook}.yml", "-e", json.dumps(extra), *words])
        assert done.returncode == expect, done.stdout + done.stderr
        self.steps = [(step["action"], step["unit"]) for step in json.loads(steps.read_text())] if steps.exists() else []
        return done.stdout + done.stderr

    def end_when_stopping(self) -> threading.Thread:
        """Let the long task end once its worker takes no more; before that it would begin the next one, as it may."""
        def work() -> None:
            manager = managers.named("supervisor", "shop", self.site.root, self.site.run_directory)
            until(lambda: any(node.record is not None and node.record.stopping for node in manager.present()), 200)
            time.sleep(2)  # the pool is closed after that, and nobody tells when
            Path(f"{self.drained.events}.end").touch()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def keys(self) -> dict[bytes, Any]:
        """All that is in the database."""
        with resp.connect(self.redis.url(3)) as client:
            return everything(client)

    def dumps(self) -> list[Path]:
        """The dumps that were written."""
        return sorted((self.folder / "dumps").glob("*.dump"))


CONFIRM = "reset shop web1"
#: What a reset does to each engine is proved above; a full run plays all of them.
PLAYED = [pytest.param(engine, marks=[] if engine == "celery" else pytest.mark.full) for engine in ENGINES]


@pytest.mark.parametrize("engine", PLAYED)
def test_the_playbook_asks_foretells_resets_and_the_tasks_run_when_they_are_restored(
    site: Site, redis_server: RedisServer, tmp_path: Path, engine: str
) -> None:
    app = Played(site, redis_server, tmp_path, engine)
    app.play("start")
    pid, = app.site.pids().values()
    redis_server.call("SET", "somebody's", "key", db=3)
    assert f"-e \"confirm='{CONFIRM}'\"" in app.play("reset", expect=2)
    assert "  work: 0 tasks" in app.play("reset", "--check")
    foretold = app.steps
    assert app.site.pids().popitem()[1] == pid, "nothing was touched so far"
    assert app.dumps() == []

    app.drained.send(("runs", 300))
    app.drained.begun(1)  # arq has no order within a millisecond
    app.drained.send(*[(f"waits{number}", 0) for number in range(3)])
    ender = app.end_when_stopping()
    said = app.play("reset", confirm=CONFIRM)
    ender.join()
    assert "  work: 4 tasks (" in said or "  work: 3 tasks (" in said, "of Celery only what is not acknowledged"
    assert app.steps == foretold
    assert app.site.pids().popitem()[1] != pid
    path, = app.dumps()
    assert path.stat().st_mode & 0o777 == 0o600
    assert set(app.drained.noted("begin")) == set(app.drained.noted("end")) == {"runs"}, "what ran was let to its end"
    assert dump.verify(str(path)).records == 3
    assert f"  work: 3 are dumped and gone: {path}\n" in said
    assert "work: ok: there and back" in said or "work: not proved" in said
    assert app.keys()[b"somebody's"] == b"key"

    app.play("restore", dump=str(path))
    until(lambda: len(app.drained.noted("end")) == 4)
    assert all(len(times) == 1 for times in app.drained.noted("end").values()), "each once"


@pytest.mark.parametrize("engine", PLAYED)
def test_without_waiting_what_runs_is_cut_short_and_what_is_not_acknowledged_is_dumped(
    site: Site, redis_server: RedisServer, tmp_path: Path, engine: str
) -> None:
    app = Played(site, redis_server, tmp_path, engine)
    app.play("start")
    task = "late" if engine == "celery" else "work"
    app.drained.send(("long", 300), task=task)
    app.drained.begun(1)
    app.drained.send(("next", 0), task=task)
    said = app.play("reset", confirm=CONFIRM, wait_for_drain=False)
    path, = app.dumps()
    assert dump.verify(str(path)).records == 2, said
    assert "  work: 2 tasks (" in said
    if engine != "arq":  # whose nodes tell only how many jobs they run
        assert "is killed while it runs" in said
    assert app.drained.noted("end") == {}
    state = app.drained.noted("begin")
    assert len(state["long"]) == 1
    assert "work: ok: there and back" in said or "work: not proved" in said


def test_a_host_that_was_not_looked_at_or_a_single_group_is_refused(site: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    app = Played(site, redis_server, tmp_path, "celery")
    inventory = json.loads(app.inventory.read_text())
    inventory["workers"]["hosts"]["web2"] = {**inventory["workers"]["hosts"]["web1"]}
    app.inventory.write_text(json.dumps(inventory))
    said = app.play("reset", "--limit", "web1", confirm="reset shop web1,web2", expect=2)
    assert "web2: it was not looked at: leave --limit out. A worker may run there, so nothing was touched" in said
    assert "worker_only: a reset is of the whole app" in app.play("reset", worker_only="w", confirm="reset shop web1,web2", expect=2)
    assert "-e \"confirm='reset shop web1,web2'\"" in app.play("reset", confirm="reset shop web1", expect=2)
