"""The plug-in in real workers: readiness and stop, told to systemd's socket and to the run record."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.engines import named
from plugins.module_utils.workfleet.engines.celery import load as celery_load
from plugins.module_utils.workfleet.engines.celery import probe as celery_probe
from plugins.module_utils.workfleet.engines.celery import wire as celery_wire
from plugins.module_utils.workfleet.engines.verbs import probe as probes
from plugins.module_utils.workfleet.engines.verbs import traffic
from plugins.module_utils.workfleet.errors import WorkfleetError
from tests.fakes.systemd import Systemd
from tests.integration.celery_fleet import ROOT, Fleet, fleet
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer

pytest.importorskip("celery")
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")


@pytest.fixture(scope="module")
def workers() -> Iterator[Fleet]:
    with fleet() as started:
        yield started


def start(workers: Fleet, node: str, pool: str, systemd: str, record: Path, **foreign: Any) -> Any:
    """Start a worker as the launcher does: its record is there before it runs."""
    environment = {"PYTHONPATH": str(ROOT / "runners"), "NOTIFY_SOCKET": systemd, "WORKFLEET_RECORD": str(record)}
    # The record must name the worker's pid, which is known only afterwards; it is slower by far than we are.
    worker = workers.start(node, "-I", "workfleet_celery", pool=pool, environment=environment)
    facts = {"pid": worker.pid, "starttime": 1, "generation": "g", "starts": 2, **foreign}
    record.write_text(json.dumps(facts))
    return worker


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_ready_is_told_once_and_marked_then_the_stop(workers: Fleet, tmp_path: Path, pool: str) -> None:
    systemd, record = Systemd(f"@workfleet-test-{os.getpid()}-{pool}"), tmp_path / "r.json"
    worker = start(workers, f"{pool}@h", pool, systemd.address, record)
    until(lambda: systemd.hears("READY=1"))
    assert systemd.hears("STATUS=consuming reports, default")
    marked = json.loads(record.read_text())
    assert marked.pop("ready") > 1e9
    marked.pop("zone", None)
    assert marked == {"pid": worker.pid, "starttime": 1, "generation": "g", "starts": 2}
    workers.python("from app.tasks import count_primes; print(count_primes.delay(10).get(timeout=60))")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert systemd.hears("STOPPING=1")
    assert "stopping" in json.loads(record.read_text())
    assert [said.split("\n")[0] for said in systemd.said] == ["READY=1", "STOPPING=1"]
    assert list(tmp_path.iterdir()) == [record]
    assert "Traceback" not in workers.log(f"{pool}@h")


def test_a_socket_in_the_file_system_is_told_too(workers: Fleet, tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    worker = start(workers, "file@h", "solo", systemd.address, tmp_path / "r.json")
    until(lambda: systemd.hears("READY=1"))
    worker.kill()


def test_a_record_of_another_process_is_left_alone(workers: Fleet, tmp_path: Path) -> None:
    systemd, record = Systemd(f"@workfleet-test-{os.getpid()}-foreign"), tmp_path / "r.json"
    worker = start(workers, "foreign@h", "solo", systemd.address, record, pid=1)
    until(lambda: systemd.hears("READY=1"))
    assert "ready" not in json.loads(record.read_text())
    worker.kill()


def test_a_worker_whose_socket_and_record_are_broken_works_and_complains_in_one_line_each(
    workers: Fleet, tmp_path: Path,
) -> None:
    environment = {"PYTHONPATH": str(ROOT / "runners"), "NOTIFY_SOCKET": str(tmp_path / "nobody"),
                   "WORKFLEET_RECORD": str(tmp_path / "gone" / "r.json")}
    worker = workers.start("broken@h", "-I", "workfleet_celery", pool="solo", environment=environment)
    workers.ready("broken@h")
    assert workers.python("from app.tasks import count_primes; print(count_primes.delay(10).get(timeout=60))") == "4"
    complaints = [line for line in workers.log("broken@h").splitlines() if line.startswith("workfleet: ")]
    assert len(complaints) == 2
    assert "Traceback" not in workers.log("broken@h")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_a_worker_told_to_stop_while_it_starts_is_never_called_ready_afterwards(workers: Fleet, tmp_path: Path) -> None:
    systemd, record = Systemd(f"@workfleet-test-{os.getpid()}-early"), tmp_path / "r.json"
    worker = start(workers, "early@h", "solo", systemd.address, record)
    until(lambda: "[queues]" in workers.log("early@h"))  # the banner: signal handlers are there, the consumer is not
    worker.send_signal(signal.SIGTERM)
    worker.wait(20)
    systemd.hears("")
    words = [said.split("\n")[0] for said in systemd.said]
    assert "READY=1" not in words[words.index("STOPPING=1"):]
    assert "stopping" in json.loads(record.read_text())


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_a_stopping_worker_has_not_begun_is_run_by_another_at_once_and_once(
    workers: Fleet, pool: str, record_property: Callable[[str, object], None],
) -> None:
    environment = {"PYTHONPATH": str(ROOT / "runners")}
    words = ("-I", "workfleet_celery", "--prefetch-multiplier", "6", "-l", "info")
    old_name, new_name = f"old-{pool}@h", f"new-{pool}@h"
    old = workers.start(old_name, *words, pool=pool, environment=environment)
    workers.ready(old_name)
    workers.python("from app import tasks\ntasks.fetch.apply_async([16], queue='reports')\n"
                   "for n in range(4): tasks.count_primes.apply_async([9], queue='reports')\n"
                   "tasks.fail.apply_async(queue='reports', countdown=3600)")
    until(lambda: workers.client.call("HLEN", "unacked") == 5)
    new = workers.start(new_name, *words, pool=pool, environment=environment)
    workers.ready(new_name)
    old.send_signal(signal.SIGTERM)
    told = time.monotonic()
    until(lambda: ran(workers, new_name) == {"app.tasks.count_primes": 4, "app.tasks.fail": 1}, 14)
    record_property("seconds", round(time.monotonic() - told, 2))
    assert old.poll() is None, "its own task still runs"
    assert old.wait(30) == 0
    time.sleep(1)
    assert "told to stop: 5 put back" in workers.log(old_name)
    assert len(re.findall(r"Task app.tasks.count_primes\S+ succeeded", workers.log(new_name))) == 4
    assert not re.findall(r"Task app.tasks.count_primes\S+ succeeded", workers.log(old_name))
    assert len(re.findall(r"Task app.tasks.fetch\S+ succeeded", workers.log(old_name))) == 1
    assert (workers.client.call("HLEN", "unacked"), workers.client.call("LLEN", "reports")) == (1, 0)
    new.kill()
    new.wait()
    workers.client.call("DEL", "unacked", "unacked_index")


def test_a_stop_under_a_backlog_of_short_tasks_runs_none_of_them_twice(workers: Fleet) -> None:
    """A child may have run what Celery does not know yet that it has begun."""
    environment = {"PYTHONPATH": str(ROOT / "runners")}
    for number in range(3):
        messages = [celery_wire.task_message("app.tasks.count_primes", "reports", [2]).text for _ in range(4000)]
        workers.client.call("LPUSH", "reports", *messages)
        node = f"backlog{number}@h"
        worker = workers.start(node, "-I", "workfleet_celery", "-c", "2", pool="prefork", environment=environment)
        until(lambda: len(done(workers)) > 200)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        waiting = {json.loads(text)["headers"]["id"] for text in workers.client.call("LRANGE", "reports", 0, -1)}
        assert waiting, "it was over before the stop"
        assert workers.client.call("HLEN", "unacked") == 0
        assert done(workers) & waiting == set(), workers.log(node)[-2000:]
        workers.client.call("FLUSHDB")


def done(workers: Fleet) -> set[str]:
    """Return the ids of the tasks whose results are there: the children write them."""
    prefix = "celery-task-meta-"
    return {key.removeprefix(prefix) for key in workers.all_keys() if key.startswith(prefix)}


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_stops_puts_back_what_waits_for_its_time(workers: Fleet, pool: str) -> None:
    words = ("-I", "workfleet_celery", "-l", "info")
    worker = workers.start(f"eta-{pool}@h", *words, pool=pool, environment={"PYTHONPATH": str(ROOT / "runners")})
    workers.ready(f"eta-{pool}@h")
    workers.python("from app import tasks\ntasks.fail.apply_async(queue='reports', countdown=3600)")
    until(lambda: workers.client.call("HLEN", "unacked") == 1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert "told to stop: 1 put back" in workers.log(f"eta-{pool}@h")
    assert (workers.client.call("HLEN", "unacked"), workers.client.call("LLEN", "reports")) == (0, 1)
    assert "Traceback" not in workers.log(f"eta-{pool}@h")
    workers.client.call("DEL", "reports")


def ran(workers: Fleet, node: str) -> dict[str, int]:
    """What a worker has run or holds, by name."""
    return dict(named("celery").ran(workers.url, [node], {}, 1.0).get(node, {}))


#: Gives a task back that another connection takes before the giver has ended.
GIVES_BACK = """
import sys
from kombu import Connection
from workfleet_celery import put_back
with Connection(sys.argv[1]) as one, Connection(sys.argv[1]) as other:
    queue, rival = one.SimpleQueue("given"), other.SimpleQueue("given")
    queue.put("task")
    message = queue.get(timeout=5)
    qos = message.channel.qos
    restore, taken = qos.restore_by_tag, []
    qos.restore_by_tag = lambda tag: (restore(tag), taken.append(rival.get(timeout=5)))
    put_back(message)
    print(taken[0].payload, message.channel.client.hlen("unacked"))
"""


def test_a_task_that_another_worker_takes_the_moment_it_is_given_back_is_that_ones(redis_server: RedisServer) -> None:
    done = subprocess.run([sys.executable, "-c", GIVES_BACK, redis_server.url(5)], env={**os.environ, "PYTHONPATH": str(ROOT / "runners")},
                          capture_output=True, text=True, check=False, timeout=180)
    assert done.stdout == "task 1\n", done.stderr


@pytest.mark.parametrize(("accepted", "said"), [
    ("json,pickle", "it came back; its result is not JSON, and was not looked at"),
    ("pickle", celery_probe.NO_JSON),
])
def test_a_worker_whose_app_speaks_pickle_answers_us_in_json_and_its_own_clients_as_ever(accepted: str, said: str) -> None:
    """The first run of such an app was green, and nothing after it could ask its nodes."""
    settings = {"task_serializer": "pickle", "result_serializer": "pickle", "accept_content": accepted.split(",")}
    client = f"from app.celery_app import celery_app as app; app.conf.update({settings!r}); "
    with fleet() as workers:
        environment = {"PYTHONPATH": str(ROOT / "runners"), "C_FORCE_ROOT": "1"}
        workers.start("w@h", "-I", "workfleet_celery", queues="default", settings=settings, environment=environment)
        workers.ready("w@h")
        workers.python(client + "app.send_task('app.tasks.merge', [{1}], queue='default', countdown=600)")
        until(lambda: "{1}" in str(celery_wire.inspect(workers.client, ["w@h"], ["scheduled"])["w@h"]["scheduled"]))
        assert workers.python(client + "print(app.control.ping(timeout=20, limit=1))") == "[{'w@h': {'ok': 'pong'}}]"
        request = probes.parse({"broker_url": workers.url, "result_url": workers.url, "queues": ["default"], "timeout": 5.0})
        proof, = celery_probe.probe(request)
        assert (proof.ok, proof.state, proof.reason) == (None, "not proved", said)
        load = celery_load.CeleryTraffic(traffic.Order("shop", "celery", workers.url, ["default"], workers.url))
        with pytest.raises(WorkfleetError, match="refuse tasks in JSON") if accepted == "pickle" else nullcontext():
            load.open()
            load.close()
