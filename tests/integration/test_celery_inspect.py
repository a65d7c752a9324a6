"""Questions to real workers: figures, speed, silence, and that nothing is left behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines.celery import wire
from tests.integration.celery_fleet import ROOT, Fleet, fleet
from tests.patience import is_within, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("celery")
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")

NODES = ("shop.a.1.1@h", "shop.b.1.1@h", "shop.c.1.1@h")


@pytest.fixture(scope="module")
def workers() -> Iterator[Fleet]:
    with fleet() as started:
        for node, pool in zip(NODES, ("prefork", "threads", "solo")):
            started.start(node, pool=pool, queues="default" if pool == "solo" else "reports,default")
        started.ready(*NODES)
        yield started


def test_each_pool_tells_its_pid_places_and_queues(workers: Fleet) -> None:
    told = wire.reports(workers.url, NODES, {}, 5.0)
    for node in NODES:
        assert told[node].pid == workers.workers[node].pid
        assert told[node].concurrency == 1
        assert (told[node].running, told[node].reserved, told[node].failed) == (0, 0, None)
    assert set(told[NODES[0]].queues or ()) == {"reports", "default"}
    assert told[NODES[2]].queues == ("default",)


def test_the_answer_is_there_as_soon_as_all_have_answered(workers: Fleet) -> None:
    begun = time.monotonic()
    assert len(wire.reports(workers.url, NODES, {}, 10.0)) == 3
    assert is_within(time.monotonic() - begun, 2)


def test_running_and_reserved_tasks_are_counted_and_a_busy_solo_node_is_left_out(workers: Fleet) -> None:
    workers.python("from app.tasks import fetch; [fetch.delay(3) for _ in range(8)]")
    busy = until(lambda: [told for told in [wire.reports(workers.url, NODES, {}, 0.5)] if NODES[2] not in told])[0]
    assert [busy[node].running for node in NODES[:2]] == [1, 1]
    assert sum(busy[node].reserved or 0 for node in NODES[:2]) >= 1
    before = workers.all_keys()
    told = until(lambda: wire.reports(workers.url, NODES[2:], {}, 0.5))
    assert (told[NODES[2]].processed or 0) >= 1
    # The questions asked while it was busy are answered by now, to addresses that are gone.
    until(lambda: not [key for key in workers.all_keys() if "workfleet.pidbox" in key], 5)
    assert "workfleet" not in "".join(workers.all_keys() - before)


def test_an_inspection_leaves_no_key_behind(workers: Fleet) -> None:
    until(lambda: len(wire.reports(workers.url, NODES, {}, 1.0)) == 3)
    before = workers.all_keys()
    wire.inspect(workers.client, NODES, timeout=5.0)
    assert workers.all_keys() <= before


def test_all_that_a_killed_inspection_leaves_behind_expires(workers: Fleet) -> None:
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
            "from plugins.module_utils.workfleet.engines.celery import wire as w; "
            f"w.reports({workers.url!r}, ['nobody@h'], {{}}, 60)")
    killed = subprocess.Popen([sys.executable, "-c", code])
    left = until(lambda: [key for key in workers.all_keys() if "workfleet.pidbox" in key and "binding" not in key])
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    bindings = [key for key in workers.all_keys() if "binding.reply.workfleet" in key]
    assert bindings
    assert all(0 < workers.client.call("TTL", key) <= 30 for key in left + bindings)


def test_where_nobody_listens_nobody_is_waited_for() -> None:
    with fleet() as empty:
        begun = time.monotonic()
        assert wire.reports(empty.url, ["a@h"], {}, 5.0) == {}
        assert is_within(time.monotonic() - begun, 1)


def test_an_unknown_question_is_an_error_of_that_node_alone(workers: Fleet) -> None:
    told = wire.inspect(workers.client, NODES[:1], ["ping", "nosuch"], timeout=5.0)[NODES[0]]
    assert told == {"ping": {"ok": "pong"}, "nosuch": {"error": "KeyError('nosuch')"}}


def test_all_that_listen_are_found_without_naming_them(workers: Fleet) -> None:
    assert set(wire.inspect(workers.client, None, ["ping"], timeout=5.0)) == set(NODES)


def test_an_app_that_lays_things_out_in_its_own_way_is_understood() -> None:
    transport = {"global_keyprefix": "p:", "sep": ":", "priority_steps": [0, 5, 9], "fanout_prefix": "/x{db}."}
    options = {**transport, "control_exchange": "mine"}
    with fleet() as other:
        settings = {"broker_transport_options": transport, "control_exchange": "mine", "task_acks_late": True,
                    "task_time_limit": 33}
        other.start("own@h", pool="solo", settings=settings)
        told = other.ready("own@h", options=options)
        assert told["own@h"].pid == other.workers["own@h"].pid
        assert wire.reports(other.url, ["own@h"], {}, 0.3) == {}
        conf = wire.inspect(other.client, ["own@h"], ["conf"], 5.0, wire.Wire.parse(options))["own@h"]["conf"]
        conf["broker_transport_options"]["global_keyprefix"] = "p:"  # Celery blots out whatever has "key" in its name
        assert {name: conf[name] for name in settings} == settings


def test_waiting_is_the_sum_over_all_priorities() -> None:
    with fleet() as queues:
        queues.python("from app.tasks import fail\n"
                      "for p in (None, 0, 1, 3, 6, 9, 9): fail.apply_async(queue='q', priority=p)")
        assert wire.waiting(queues.url, ["q", "empty"], {}) == {"q": 7, "empty": 0}
        assert queues.client.call("LLEN", "q") < 7


def test_a_broker_that_refuses_us_is_an_error_and_not_a_fleet_of_silent_nodes(workers: Fleet) -> None:
    with pytest.raises(resp.RespError, match="AUTH"):
        wire.reports(workers.url.replace("redis://", "redis://:wrong@"), NODES, {}, 1.0)


def test_a_node_that_never_listened_is_hardly_waited_for(workers: Fleet) -> None:
    begun = time.monotonic()
    assert set(wire.reports(workers.url, [NODES[0], "starting@h"], {}, 10.0)) == {NODES[0]}
    assert is_within(time.monotonic() - begun, 2)
