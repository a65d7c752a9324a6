"""Tasks of a worker that was killed go back once; those of a worker that may be alive never do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from plugins.module_utils.workfleet import payload, resp
from plugins.module_utils.workfleet.engines.celery import reap as celery_reap
from plugins.module_utils.workfleet.engines.celery import wire as celery_wire
from plugins.module_utils.workfleet.engines.chicory.letters import ChicoryLetters
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.nodes import info
from plugins.module_utils.workfleet.queues import reap
from tests import warm
from tests.integration import celery_fleet
from tests.integration.drained import Drained
from tests.integration.supervised import ME, MY_GROUP, Site, site
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.celery_fleet import Fleet
    from tests.integration.conftest import RedisServer

__all__ = ["site"]
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")
DEAD, ALIVE = "shop.w.1.1@h1", "shop.w.2.1@h1"
LATER = 600
NOTHING: dict[str, Any] = {"changed": False, "returned": [], "dead": [], "forgotten": [], "unbound": [], "left": []}


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with celery_fleet.fleet() as started:
        yield started


def order(fleet: Fleet, *running: str, **more: Any) -> reap.Reaping:
    given = {"app": "shop", "url": fleet.url, "queues": ["reports"], "running": running, "hosts": ["h1"], "seconds": 0.3, "timeout": 3.0}
    return reap.Reaping(**{**given, **more})


def reaped(wanted: reap.Reaping, *, check: bool = False) -> dict[str, Any]:
    return reap.reap("celery", wanted, check=check)


def send(fleet: Fleet, *ids: str, queue: str = "reports", **options: Any) -> None:
    """Tasks for later: a worker takes them at once and holds them."""
    with Celery(broker=fleet.url) as client:
        for identity in ids:
            client.send_task("celery.accumulate", [identity], queue=queue, task_id=identity, countdown=LATER, **options)


def held(fleet: Fleet) -> int:
    return int(fleet.client.call("HLEN", "unacked"))


def bind(connection: Any, exchange: str, queue: str, key: str, kind: str = "direct") -> None:
    """As an app does that declares its queues behind an exchange."""
    channel = connection.default_channel
    channel.exchange_declare(exchange=exchange, type=kind)
    channel.queue_declare(queue=queue)
    channel.queue_bind(queue=queue, exchange=exchange, routing_key=key)


def waiting(fleet: Fleet, *lists: str) -> list[str]:
    return [json.loads(message)["headers"]["id"] for name in lists for message in fleet.client.call("LRANGE", name, 0, -1)]


def kill(fleet: Fleet, node: str) -> None:
    fleet.workers[node].kill()
    fleet.workers[node].wait()
    alive = [process for process in fleet.workers.values() if process.poll() is None]
    until(lambda: len(fleet.client.call("CLIENT", "LIST", "TYPE", "pubsub").splitlines()) == len(alive))


def test_a_killed_workers_tasks_go_back_once_each_to_its_priority_and_no_foreign_one(fleet: Fleet) -> None:
    fleet.start(DEAD)
    fleet.ready(DEAD)
    send(fleet, "a", "b")
    send(fleet, "urgent-6", priority=6)
    send(fleet, "foreign", queue="default")
    until(lambda: held(fleet) == 4)

    assert reaped(order(fleet, DEAD)) == NOTHING
    kill(fleet, DEAD)
    keys = fleet.all_keys()
    foretold = reaped(order(fleet), check=True)
    assert (held(fleet), fleet.all_keys()) == (4, keys)
    done = reaped(order(fleet))
    assert done == foretold
    assert [(task["id"], task["task"]) for task in done["returned"]] == [
        ("a", "celery.accumulate"), ("b", "celery.accumulate"), ("urgent-6", "celery.accumulate")]
    assert done["forgotten"] == [DEAD]
    assert sorted(waiting(fleet, "reports")) == ["a", "b"]
    assert waiting(fleet, "reports\x06\x166") == ["urgent-6"]
    assert (held(fleet), fleet.client.call("ZCARD", "unacked_index")) == (1, 1)
    assert reaped(order(fleet))["changed"] is False

    # Celery takes them as its own.
    fleet.start(ALIVE, queues="reports")
    until(lambda: held(fleet) == 4)
    fleet.ready(ALIVE)
    assert reaped(order(fleet, ALIVE))["changed"] is False


def test_nothing_is_moved_while_an_owner_may_be_alive(fleet: Fleet) -> None:
    fleet.start(DEAD)
    fleet.ready(DEAD)
    send(fleet, "a")
    until(lambda: held(fleet) == 1)
    # It lives, and is silent.
    fleet.workers[DEAD].send_signal(19)
    try:
        with pytest.raises(WorkfleetError, match="1 workers listen on the broker, and 0 have answered"):
            reaped(order(fleet, timeout=0.5))
    finally:
        fleet.workers[DEAD].send_signal(18)
    kill(fleet, DEAD)
    # A node of the inventory has a process, and the broker does not know it: it may be cut off.
    with pytest.raises(WorkfleetError, match=f"{ALIVE}: runs on its host, and has not answered"):
        reaped(order(fleet, ALIVE))
    assert (held(fleet), waiting(fleet, "reports")) == (1, [])


def test_of_two_reaps_at_once_and_of_celerys_own_restore_one_returns_a_task(fleet: Fleet) -> None:
    fleet.start(DEAD)
    fleet.ready(DEAD)
    send(fleet, "a")
    until(lambda: held(fleet) == 1)
    kill(fleet, DEAD)
    wanted = order(fleet)
    wire = celery_wire.Wire.parse({})
    with resp.connect(fleet.url) as client:
        (orphan,) = celery_reap._Look(client, wire, wanted).seen().held.values()
        assert [celery_reap.give_back(client, wire, wanted, orphan) for _ in range(2)] == [True, False]
    assert waiting(fleet, "reports") == ["a"]


def test_what_waits_for_its_rate_is_left_alone(fleet: Fleet) -> None:
    fleet.start(DEAD)
    fleet.start(ALIVE, queues="default")
    fleet.ready(DEAD, ALIVE)
    send(fleet, "a")
    until(lambda: held(fleet) == 1)
    kill(fleet, DEAD)
    with Celery(broker=fleet.url) as client:
        client.control.rate_limit("celery.accumulate", "1/h", destination=[ALIVE], reply=True)
    done = reaped(order(fleet, ALIVE))
    assert done["returned"] == []
    assert done["left"][0].startswith("a (celery.accumulate): no worker tells of it, but its rate is limited")
    assert held(fleet) == 1


def test_a_task_behind_an_exchange_goes_back_where_the_bindings_lead_to_one_queue(fleet: Fleet) -> None:
    with Celery(broker=fleet.url) as client, client.connection() as connection:
        for exchange, kind, key, queues in (("tasks", "direct", "r", ["reports"]), ("news", "topic", "world.#", ["reports"]),
                                            ("both", "direct", "r", ["reports", "default"]), ("others", "direct", "r", ["default"])):
            for queue in queues:
                bind(connection, exchange, queue, key, kind)
        fleet.start(DEAD)
        fleet.ready(DEAD)
        for identity, exchange, key in (("a", "tasks", "r"), ("b", "news", "world.europe.fr"), ("c", "both", "r"), ("d", "others", "r")):
            client.send_task("celery.accumulate", [identity], task_id=identity, countdown=LATER, connection=connection,
                             exchange=exchange, exchange_type="topic" if exchange == "news" else "direct", routing_key=key, queue=None)
    # Two queues got the one of both, under one tag.
    until(lambda: held(fleet) == 4 and not waiting(fleet, "reports", "default"))
    kill(fleet, DEAD)
    foretold = reaped(order(fleet), check=True)
    done = reaped(order(fleet))
    assert done == foretold
    assert sorted(task["id"] for task in done["returned"]) == ["a", "b"]
    assert [text.partition(",")[0] for text in done["left"] if "exchange both" in text] == ["c: no worker tells of it"]
    assert sorted(waiting(fleet, "reports")) == ["a", "b"]
    # The other app's, and the one that could be either's.
    assert held(fleet) == 2


def test_only_a_queue_that_is_this_apps_and_that_nobody_uses_is_taken_from_its_exchange(fleet: Fleet) -> None:
    with Celery(broker=fleet.url) as client, client.connection() as connection:
        for exchange, queue in (("tasks", "reports"), ("tasks", "reports-old"), ("shared", "reports"), ("shared", "default"),
                                ("shared", "idle"), ("celery", "reports"), ("celery", "celery"), ("alone", "alone"),
                                ("full", "reports"), ("full", "filled")):
            bind(connection, exchange, queue, queue)
    send(fleet, "a", queue="filled")
    fleet.start("other@h1", queues="default")
    fleet.ready("other@h1")
    foretold = reaped(order(fleet), check=True)
    before = fleet.client.call("SCARD", "_kombu.binding.tasks")
    done = reaped(order(fleet))
    assert done == foretold
    assert before == 2
    assert done["unbound"] == [{"queue": "reports-old", "exchange": "tasks"}]
    assert fleet.client.call("SMEMBERS", "_kombu.binding.tasks") == [b"reports\x06\x16\x06\x16reports"]
    assert [fleet.client.call("SCARD", f"_kombu.binding.{name}") for name in ("shared", "celery", "alone", "full")] == [3, 2, 1, 2]
    assert done["left"] == ["alone, celery, idle: queues that are bound to an exchange, and that nobody consumes, fills or declares here; "
                            "whose they are cannot be told"]


# What the broker tells the owner of


def stopped(fleet: Drained, *where: str) -> None:
    """Kill nodes while they are told to stop, so that nobody starts them again."""
    pids = fleet.site.pids()
    fleet.site.manager.stop([node.name for name, node in fleet.site.present().items() if name in where])
    for name in where:
        pid = pids[name]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(fleet.site.pids()[name] for name in where))


def nodes(fleet: Drained, *groups: dict[str, Any]) -> dict[str, Any]:
    """What the control node makes of what the host told."""
    told = info.look(fleet.site.host_nodes(fleet.site.request(list(groups))), 1.0)
    found = {f"{entry['unit'].partition('.')[2]}@h1": entry for entry in told["processes"]}
    return {"processes": {node: entry["pids"] for node, entry in found.items()}, "hosts": ["h1"],
            "running": [node for node, entry in found.items() if entry["engine"] == fleet.engine],
            "names": {node: entry["name"] for node, entry in found.items() if entry["name"]}}


def noted(fleet: Drained, **more: Any) -> reap.Reaping:
    """What workers hold now; an order without what the hosts tell."""
    wanted = reap.Reaping("shop", fleet.redis.url(3), ["work"], **more)
    return replace(wanted, seen=payload.unpack(reap.note(fleet.engine, wanted)["seen"], "test"))


def both(fleet: Drained, wanted: reap.Reaping) -> dict[str, Any]:
    """Foretell, change nothing, and do it."""
    def content() -> dict[bytes, Any]:
        """All that is in Redis but what nodes tell of themselves, which changes and runs out, and how long ago they told."""
        found = {name: fleet.redis.call("DUMP", name, db=3) for name in fleet.redis.call("KEYS", "*", db=3)
                 if b"beat" not in name and b"health" not in name and name != b"chicory:stream:work"}
        if fleet.redis.call("EXISTS", "chicory:stream:work", db=3):
            held = [(identity, consumer, times) for identity, consumer, _, times in pending(fleet)]
            found[b"chicory:stream:work"] = (fleet.redis.call("XRANGE", "chicory:stream:work", "-", "+", db=3), held)
        return found

    before = content()
    foretold = reap.reap(fleet.engine, wanted, check=True)
    assert content() == before
    done = reap.reap(fleet.engine, wanted, check=False)
    assert done == foretold
    return done


def pending(fleet: Drained) -> list[Any]:
    return list(fleet.redis.call("XPENDING", "chicory:stream:work", "chicory-workers", "-", "+", 10, db=3))


def heartbeats(engine: str, seconds: int) -> dict[str, Any]:
    """Options by which a node tells of itself so often; it passes for alive for two such times and a second more."""
    return {"arq": {"health_check_interval": seconds}, "chicory": {"heartbeat_interval": seconds, "heartbeat_ttl": 2 * seconds + 1}}[engine]


@pytest.mark.parametrize("renews", [False, True])
@pytest.mark.parametrize("engine", ["arq", "chicory"])
def test_tasks_of_a_dead_node_run_again_and_those_of_a_living_one_are_not_touched(
    site: Site, redis_server: RedisServer, tmp_path: Path, engine: str, *, renews: bool
) -> None:
    fleet = Drained(site, redis_server, tmp_path, engine)
    group = fleet.group(nodes=2, options=heartbeats(engine, 1 if renews else 600))
    fleet.converge(group)
    fleet.hold("a", "b", "c", "d")
    fleet.send(("a", 0), ("b", 0), ("c", 0), ("d", 0))
    fleet.begun(4)
    if renews:  # it tells of itself once more after what it holds was noted, and dies before anybody looks
        wanted = noted(fleet)
        until(lambda: noted(fleet).seen["beats"]["shop.w.1.1@h1"] != wanted.seen["beats"]["shop.w.1.1@h1"])
    else:
        pid = fleet.site.pids()["w.1.1"]
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        wanted = noted(fleet)
    stopped(fleet, "w.1.1")
    if not renews:
        assert reap.reap(engine, replace(wanted, **nodes(fleet, group)), check=True)["forgotten"] == ["shop.w.1.1@h1"]
        assert "shop.w.1.1@h1" in noted(fleet).seen["beats"], "foretold, and not done"
    # What it held was held before anybody looked; and then it was not there.
    done = both(fleet, replace(wanted, **nodes(fleet, group)))
    assert [task["task"] for task in done["returned"]] == ["work"] * 2, done
    assert {task["queue"] for task in done["returned"]} == {"work"}
    # A heartbeat that was watched has run out by itself, and is all that arq keeps of a node.
    assert (done["dead"], done["left"], done["forgotten"]) == ([], [], [] if renews and engine == "arq" else ["shop.w.1.1@h1"])
    assert reap.reap(engine, replace(wanted, **nodes(fleet, group)), check=False)["changed"] is False

    # The living node has two more places once its own are done: of the four two run twice, and none three times.
    fleet.let_go()
    until(lambda: len(fleet.noted("end")) == 4)
    begun, ended = fleet.noted("begin"), fleet.noted("end")
    assert sorted(len(times) for times in begun.values()) == [1, 1, 2, 2]
    assert {len(times) for times in ended.values()} == {1}
    assert reap.reap(engine, replace(noted(fleet), **nodes(fleet, group)), check=False)["changed"] is False


@pytest.mark.parametrize("engine", ["arq", "chicory"])
def test_what_a_node_holds_that_may_be_alive_stays_where_it_is(
    site: Site, redis_server: RedisServer, tmp_path: Path, engine: str
) -> None:
    fleet = Drained(site, redis_server, tmp_path, engine)
    group = fleet.group(options=heartbeats(engine, 5))
    fleet.converge(group)
    fleet.send(("a", 60), ("b", 60))
    fleet.begun(2)
    start = {"arq": "arq:health-check:", "chicory": "chicory:heartbeat:"}[engine]
    pid = fleet.site.pids()["w.1.1"]
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # it cannot keep its heartbeat, and may go on at any time
    try:
        fleet.redis.call("DEL", f"{start}shop.w.1.1@h1", db=3)
        assert both(fleet, replace(noted(fleet), **nodes(fleet, group))) == NOTHING
    finally:
        os.kill(pid, signal.SIGCONT)
    # No host has its process, and yet it tells of itself.
    until(lambda: fleet.redis.call("EXISTS", f"{start}shop.w.1.1@h1", db=3))
    wanted = replace(noted(fleet), hosts=["h1"])
    before = wanted.seen["beats"]["shop.w.1.1@h1"].replace("complete=0", "complete=9").replace('processed":0', 'processed":9')
    done = both(fleet, replace(wanted, seen={**wanted.seen, "beats": {"shop.w.1.1@h1": before}}))
    assert done["changed"] is False
    assert "it has renewed its heartbeat, and no host has its process" in done["left"][0]
    # Its host is not in the inventory: nobody has looked whether it runs there.
    elsewhere: dict[str, Any] = {"hosts": ["h2"]}
    fleet.redis.call("DEL", f"{start}shop.w.1.1@h1", db=3)  # it writes it again in a while
    done = both(fleet, replace(noted(fleet), **elsewhere))
    assert done["changed"] is False
    assert "h1 is not in the inventory, so nobody looked whether it runs there" in done["left"][0]
    # Even where it is said to be gone for good, its heartbeat says that it is not.
    until(lambda: fleet.redis.call("EXISTS", f"{start}shop.w.1.1@h1", db=3))
    done = both(fleet, replace(noted(fleet), force=True, **elsewhere))
    assert done["changed"] is False
    assert "its heartbeat is in the broker" in done["left"][0]
    stopped(fleet, "w.1.1")
    fleet.redis.call("DEL", f"{start}shop.w.1.1@h1", db=3)
    assert len(both(fleet, replace(noted(fleet), force=True, **elsewhere))["returned"]) == 2


@pytest.mark.parametrize("engine", ["arq", "chicory"])
def test_what_a_node_took_after_the_look_is_its_own_though_no_host_told_of_it(
    site: Site, redis_server: RedisServer, tmp_path: Path, engine: str
) -> None:
    fleet = Drained(site, redis_server, tmp_path, engine)
    group = fleet.group()
    wanted, told = noted(fleet), nodes(fleet, group)
    assert told["processes"] == {}
    fleet.converge(group)
    fleet.send(("a", 1), ("b", 1))
    fleet.begun(2)
    assert both(fleet, replace(wanted, **told)) == NOTHING
    until(lambda: len(fleet.noted("end")) == 2)


def test_a_chicory_task_that_must_not_run_twice_is_put_among_the_dead(site: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    fleet = Drained(site, redis_server, tmp_path, "chicory")
    group = fleet.group()
    fleet.converge(group)
    fleet.send(("running", 60), task="once")
    fleet.begun(1)
    stopped(fleet, "w.1.1")
    # It is acknowledged before it runs; one that was not is as it is where the result store was away, or Redis lost a second.
    fleet.send(("unbegun", 0), task="once")
    fleet.send(("again", 0))
    fleet.redis.call("XREADGROUP", "GROUP", "chicory-workers", "shop.w.1.1@h1", "COUNT", 2, "STREAMS", "chicory:stream:work", ">", db=3)
    done = both(fleet, replace(noted(fleet), **nodes(fleet, group)))
    assert [(task["id"], task["task"]) for task in done["dead"]] == [("unbegun", "once")]
    assert [(task["id"], task["task"]) for task in done["returned"]] == [("again", "work")]
    assert pending(fleet) == []
    assert fleet.redis.call("XINFO", "CONSUMERS", "chicory:stream:work", "chicory-workers", db=3) == []
    (letter,) = ChicoryLetters(resp.connect(redis_server.url(3)), "work", {}).read()
    assert (letter.id != "", letter.task_name, letter.reason) == (True, "once", "shop.w.1.1@h1 died with it, and it must not run twice")
    fleet.converge(fleet.group(env={"TURN": "2"}))
    until(lambda: "again" in fleet.noted("end"))
    assert {name: len(times) for name, times in fleet.noted("begin").items()} == {"running": 1, "again": 1}


def test_what_does_not_tell_its_owner_is_left_and_said(site: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    fleet = Drained(site, redis_server, tmp_path, "chicory")
    fleet.send(("a", 0), ("b", 0), ("c", 0))
    fleet.redis.call("XGROUP", "CREATE", "chicory:stream:work", "chicory-workers", "0", db=3)
    for consumer in ("worker-1a2b3c4d", "shop.w.9.1@h1", "shop-too.w.1.1@h1"):
        fleet.redis.call("XREADGROUP", "GROUP", "chicory-workers", consumer, "COUNT", 1, "STREAMS", "chicory:stream:work", ">", db=3)
    before = pending(fleet)
    done = both(fleet, replace(noted(fleet), hosts=["h1"]))
    assert done["changed"] is False
    assert sorted(done["left"]) == [
        "work: shop.w.9.1@h1 has 1 messages, and never told which of its tasks must not run twice",
        "work: worker-1a2b3c4d has 1 messages and is no node of the toolkit's, so whether it lives cannot be told; nodes that run claim "
        "them, unless they are at-most-once"]
    assert [entry[:2] for entry in pending(fleet)] == [entry[:2] for entry in before]

    fleet.engine = "arq"
    fleet.redis.call("ZADD", "work", 1, "job", db=3)
    fleet.redis.call("SET", "arq:in-progress:job", "1", db=3)
    assert "1 jobs in progress do not tell their worker" in both(fleet, replace(noted(fleet), hosts=["h1"]))["left"][0]


def test_a_celery_worker_with_a_name_of_its_own_counts_as_one_that_answered(site: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    fleet = Drained(site, redis_server, tmp_path, "celery")
    command = [f"{sys.prefix}/bin/celery", "-A", "noted", "worker", "-n", "mine@elsewhere", "-Q", "work", "-P", "threads", "-c", "1",
               "--without-mingle", "--without-gossip"]
    group = {"name": "w", "engine": "celery", "command": command, "drain_seconds": 60, "app": "noted"}
    site.work([group], rollout={"ready_timeout_seconds": 60})
    told = until(lambda: (found := nodes(fleet, group))["names"] and found)
    assert told["names"] == {"shop.w.1.1@h1": "mine@elsewhere"}
    fleet.send(("a", 0), countdown=LATER)
    until(lambda: fleet.redis.call("HLEN", "unacked", db=3) == 1)
    wanted = reap.Reaping("shop", redis_server.url(3), seconds=0.3, **told)
    assert reaped(wanted) == NOTHING


# The playbook


def play(url: str, site: Site, folder: Path, *words: str, expect: int = 0, others: int = 0, group: dict[str, Any] | None = None) -> str:
    """Run the playbook for one host that is this machine and some that cannot be reached."""
    group = group or {"name": "w", "engine": "celery", "app": "app.celery_app", "queues": ["reports"], "drain_seconds": 60}
    variables = {"app_name": "shop", "app_user": ME, "app_group": MY_GROUP, "app_root": site.root, "app_broker_url": url,
                 "worker_manager": "supervisor", "worker_groups": [group], "worker_run_directory": site.run_directory}
    away = {"ansible_host": "127.0.0.1", "ansible_port": 1, "app_user": "shop", "app_group": "shop"}
    hosts = {"h1": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False},
             **{f"gone{number}": away for number in range(others)}}
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"workers": {"hosts": hosts, "vars": variables}}))
    done = warm.play(["-i", str(inventory), "playbooks/reap.yml", "-e", "sample_seconds=0.3", *words])
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_playbook_foretells_and_returns_and_refuses_while_a_host_was_not_looked_at(fleet: Fleet, site: Site, tmp_path: Path) -> None:
    fleet.start(DEAD)
    fleet.ready(DEAD)
    send(fleet, "a")
    until(lambda: held(fleet) == 1)
    kill(fleet, DEAD)
    assert "A worker may run there, so nothing was returned" in play(fleet.url, site, tmp_path, expect=2, others=1)
    assert "worker_only: a task may be held by any node" in play(fleet.url, site, tmp_path, "-e", "worker_only=w", expect=2)
    assert "  reports: a (celery.accumulate) would go back\n" in play(fleet.url, site, tmp_path, "--check")
    assert (held(fleet), waiting(fleet, "reports")) == (1, [])
    said = play(fleet.url, site, tmp_path)
    assert "  1 tasks of dead workers went back to their queues; 1 dead nodes forgotten\n" in said
    assert (held(fleet), waiting(fleet, "reports")) == (0, ["a"])


@pytest.mark.parametrize("engine", ["arq", pytest.param("chicory", marks=pytest.mark.full)])
def test_the_playbook_notes_what_is_held_looks_at_the_hosts_and_returns_it(
    site: Site, redis_server: RedisServer, tmp_path: Path, engine: str
) -> None:
    fleet = Drained(site, redis_server, tmp_path, engine)
    url, group = redis_server.url(3), fleet.group(nodes=1)
    fleet.converge(group)
    fleet.send(("a", 15))
    fleet.begun(1)
    stopped(fleet, "w.1.1")
    keys = fleet.redis.call("KEYS", "*", db=3)
    assert "A worker may run there, so nothing was returned" in play(url, site, tmp_path, expect=2, others=1, group=group)
    assert "(work) would go back\n" in play(url, site, tmp_path, "--check", group=group)
    assert set(fleet.redis.call("KEYS", "*", db=3)) <= set(keys)
    # arq's heartbeat may be over by then.
    assert "  1 tasks of dead workers went back to their queues; " in play(url, site, tmp_path, group=group)
    fleet.converge(fleet.group(env={"TURN": "2"}))
    until(lambda: fleet.noted("end"))
    assert (len(fleet.noted("begin")["a"]), len(fleet.noted("end")["a"])) == (2, 1)
