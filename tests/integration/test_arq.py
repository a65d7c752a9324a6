"""Real arq workers by the runner: readiness, options, figures, canaries, stops, faults."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import engines, resp
from plugins.module_utils.workfleet.engines import pickled, taskqueues
from plugins.module_utils.workfleet.engines.arq import options as arq_options
from plugins.module_utils.workfleet.engines.verbs import probe
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.nodes import consumers
from tests.fakes.systemd import Systemd
from tests.integration.arq_fleet import APP, ENVIRONMENT, ROOT, Fleet, Node, environment, fleet
from tests.integration.conftest import running as running_redis
from tests.patience import is_within, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugins.module_utils.workfleet.engines.verbs.report import Report
    from tests.integration.conftest import RedisServer

ENGINE = engines.named("arq")
INHERITED = """
from app import tasks

async def show(ctx):
    import gc
    worker = next(found for found in gc.get_objects() if type(found).__name__ == "Worker")
    names = ("max_jobs", "job_timeout_s", "keep_result_s", "max_tries", "poll_delay_s", "queue_read_limit", "retry_jobs",
             "allow_abort_jobs", "health_check_interval", "expires_extra_ms", "log_results", "queue_name", "burst")
    return {**{name: getattr(worker, name) for name in names}, "timezone": str(worker.timezone), "started": ctx["started"]}

async def on_startup(ctx):
    ctx["started"] = "by the class"

class Base:
    functions = [tasks.run_flow, show]
    on_startup = staticmethod(on_startup)
    max_jobs = 7
    job_timeout = 70
    max_tries = 2
    health_check_interval = 3600

class Settings(Base):
    max_tries = 4

class Empty:
    max_jobs = 3
"""


@pytest.fixture
def workers(scratch: Path, redis_server: RedisServer) -> Iterator[Fleet]:
    with fleet(scratch, redis_server) as started:
        yield started


@pytest.fixture
def own(scratch: Path, redis_server: RedisServer) -> Iterator[Fleet]:
    """The same with settings classes of our own."""
    (scratch / "mine.py").write_text(INHERITED)
    with fleet(scratch, redis_server, source=scratch) as started:
        yield started


def told(workers: Fleet, *nodes: Node) -> dict[str, Report]:
    return ENGINE.inspect(workers.url, [node.name for node in nodes], {}, 1.0)


def proofs(workers: Fleet, *queues: str, host: str = "h", **changed: Any) -> dict[str, probe.Proof]:
    """Probe as ``verify.yml`` of an inventory with this host does."""
    request = probe.parse({"engine": "arq", "broker_url": workers.url, "queues": queues, "timeout": 5.0, **changed})
    found = taskqueues.named("arq").probe(request)
    return {proof.queue: proof for proof in consumers.judged(found, request, consumers.Ours("flow", [host]))}


@contextlib.contextmanager
def late_replies(port: int, seconds: float) -> Iterator[int]:
    """A way to Redis on which every reply is late; yields its port."""
    def carry(source: socket.socket, target: socket.socket, wait: float) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65536):
                time.sleep(wait)
                target.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, server = listener.accept()[0], socket.create_connection(("127.0.0.1", port))
                for words in ((client, server, 0.0), (server, client, seconds)):
                    threading.Thread(target=carry, args=words, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def keys(workers: Fleet) -> set[str]:
    return {key.decode() for key in workers.redis.call("KEYS", "*")}


def test_the_table_has_every_option_of_the_installed_arq_and_no_other() -> None:
    code = ("import inspect, json; from arq.worker import Worker; from arq.cli import cli; print(json.dumps("
            "[list(inspect.signature(Worker).parameters), [p.name for p in cli.params]]))")
    said = subprocess.run([environment() / "bin" / "python", "-c", code], check=True, capture_output=True).stdout
    worker, command = json.loads(said)
    assert set(arq_options.WORKER) == set(worker)
    assert set(arq_options.COMMAND) == set(command) - {"worker_settings", "burst", "version"}


def test_ready_is_told_at_the_first_poll_and_the_stop_when_it_comes(workers: Fleet) -> None:
    systemd = Systemd(f"@workfleet-arq-{os.getpid()}")
    os.environ["NOTIFY_SOCKET"] = systemd.address  # the launcher hands it on
    try:
        node = workers.start().ready()
    finally:
        del os.environ["NOTIFY_SOCKET"]
    assert systemd.hears("READY=1")
    assert systemd.hears("STATUS=consuming arq:queue")
    assert told(workers, node)[node.name].pid == node.process.pid == node.record["pid"]
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(10) == 0
    assert systemd.hears("STOPPING=1")
    assert node.record["stopping"] >= node.record["ready"]
    assert keys(workers) == set()
    assert "Traceback" not in node.log


def test_a_node_is_not_ready_while_its_startup_goes_on(own: Fleet) -> None:
    slow = INHERITED.replace('ctx["started"] =', 'import asyncio; await asyncio.sleep(1.5); ctx["started"] =')
    (own.source / "mine.py").write_text(slow)
    node = own.start(app="mine.Settings")
    until(lambda: "Starting worker" in node.log)
    time.sleep(0.5)
    assert "ready" not in node.record
    node.ready()


def test_inherited_attributes_count_and_the_groups_options_go_over_all(own: Fleet) -> None:
    options = {"keep_result": 90, "poll_delay": 0.1, "queue_read_limit": 50, "retry_jobs": False, "allow_abort_jobs": True,
               "expires_extra_ms": 5000, "log_results": False, "job_timeout": 2.5, "timezone": "Europe/Berlin", "verbose": True}
    own.start(app="mine.Settings", queues=["own queue"], concurrency=3, options=options).ready()
    shown = own.python("import json; print(json.dumps(await (await q('show', _queue_name='own queue')).result(timeout=10)))")
    assert json.loads(shown) == {
        "max_jobs": 3, "job_timeout_s": 2.5, "keep_result_s": 90, "max_tries": 4, "poll_delay_s": 0.1, "queue_read_limit": 50,
        "retry_jobs": False, "allow_abort_jobs": True, "health_check_interval": 10, "expires_extra_ms": 5000, "log_results": False,
        "queue_name": "own queue", "burst": False, "timezone": "Europe/Berlin", "started": "by the class",
    }


def test_without_options_the_classes_attributes_hold(own: Fleet) -> None:
    node = own.start(app="mine.Settings").ready()
    shown = json.loads(own.python("import json; print(json.dumps(await (await q('show')).result(timeout=10)))"))
    assert {name: shown[name] for name in ("max_jobs", "job_timeout_s", "max_tries", "queue_name", "retry_jobs")} == {
        "max_jobs": 7, "job_timeout_s": 70, "max_tries": 4, "queue_name": "arq:queue", "retry_jobs": True}
    assert told(own, node)[node.name].concurrency == 7


def test_without_a_url_of_ours_the_classes_broker_is_used(workers: Fleet) -> None:
    node = workers.start(variables={"WORKFLEET_BROKER_URL": "", "REDIS_URL": workers.url}).ready()
    assert proofs(workers, "arq:queue")["arq:queue"].ok
    assert node.process.poll() is None


def test_a_password_with_any_characters_and_a_database_reach_the_broker(scratch: Path, locked_redis_server: RedisServer) -> None:
    with fleet(scratch, locked_redis_server) as locked:
        locked.url = locked_redis_server.url(5)
        node = locked.start().ready()
        assert told(locked, node)
        with Path(f"/proc/{node.process.pid}/cmdline").open() as file:
            assert "s3cret" not in file.read()


def test_a_stop_lets_running_jobs_end_and_ends_with_the_last_of_them(workers: Fleet) -> None:
    node = workers.start(options={"max_jobs": 8}).ready()
    workers.enqueue(28, 3.0)
    until(lambda: len(workers.flows("flow:begun")) == 8)
    begun = time.monotonic()
    node.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert told(workers, node)[node.name].running == 8  # it still tells while it drains
    assert node.process.wait(20) == 0
    took = time.monotonic() - begun
    assert took > 1.5 and is_within(took, 4.5)
    assert len(workers.flows("flow:done")) == 8
    assert ENGINE.waiting(workers.url, ["arq:queue"], {}) == {"arq:queue": 20}
    assert not [key for key in keys(workers) if "in-progress" in key]
    workers.start("flow.flows.1.2@h", options={"max_jobs": 20}).ready()
    until(lambda: len(workers.flows("flow:done")) == 28)
    assert workers.flows("flow:begun") == workers.flows("flow:done") == sorted(f"f{n}" for n in range(28))


def test_a_stop_in_the_middle_of_taking_a_job_leaves_it_not_half_taken(workers: Fleet) -> None:
    """arq itself is cancelled between a job's in-progress key and its start; nobody then runs it until the key expires."""
    with late_replies(workers.redis.port, 0.3) as port:
        url = f"redis://127.0.0.1:{port}/0"
        node = workers.start(variables={"WORKFLEET_BROKER_URL": url}, options={"max_jobs": 3}).ready()
        workers.enqueue(6, 0.1)
        until(lambda: any("in-progress" in key for key in keys(workers)))
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(20) == 0
    assert not [key for key in keys(workers) if "in-progress" in key]
    assert workers.flows("flow:begun") == workers.flows("flow:done")
    assert len(workers.flows("flow:done")) == 1  # and no other was begun after the signal
    assert workers.redis.call("ZCARD", "arq:queue") == 5


def test_a_job_longer_than_the_drain_is_cancelled_at_its_end_and_run_again(workers: Fleet) -> None:
    node = workers.start(drain_seconds=1).ready()
    workers.enqueue(1, 4.0)
    until(lambda: workers.flows("flow:begun"))
    begun = time.monotonic()
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(10) == 0
    took = time.monotonic() - begun
    assert took > 0.9 and is_within(took, 2.5)
    assert "drain_seconds = 1 is below the timeout of" in node.log
    workers.start("flow.flows.1.2@h").ready()
    until(lambda: workers.flows("flow:done"))
    assert workers.flows("flow:begun") == ["f0", "f0"]


def test_figures_are_those_of_each_node_and_one_nodes_stop_hides_no_other(workers: Fleet) -> None:
    one = workers.start("flow.flows.1.1@h", options={"max_jobs": 2}).ready()
    two = workers.start("flow.flows.2.1@h", options={"max_jobs": 3}, queues=["second"]).ready()
    workers.enqueue(5, 10.0)
    workers.python("await q('fail', _queue_name='second')")
    until(lambda: told(workers, one)[one.name].running == 2 and told(workers, two)[two.name].failed == 1)
    said = told(workers, one, two)
    assert (said[one.name].concurrency, said[one.name].reserved, said[one.name].queues) == (2, 0, ["arq:queue"])
    assert (said[two.name].running, said[two.name].processed, said[two.name].queues) == (0, 1, ["second"])
    assert ENGINE.waiting(workers.url, ["arq:queue", "second"], {}) == {"arq:queue": 3, "second": 0}
    two.process.send_signal(signal.SIGTERM)
    two.process.wait(10)
    assert set(told(workers, one, two)) == {one.name}


def test_the_key_of_a_killed_node_runs_out_by_itself(workers: Fleet) -> None:
    node = workers.start(options={"health_check_interval": 0.5, "poll_delay": 0.1}).ready()
    time.sleep(2)
    assert told(workers, node)  # it is written again and again
    node.process.kill()
    until(lambda: not told(workers, node), 3)


def test_a_canary_comes_back_and_leaves_nothing(workers: Fleet) -> None:
    workers.start("flow.flows.1.1@h").ready()
    workers.start("flow.flows.2.1@h", queues=["second"]).ready()
    before = {key for key in keys(workers) if "health" in key}
    found = proofs(workers, "arq:queue", "second")
    assert [(proof.ok, proof.reason) for proof in found.values()] == [(True, None)] * 2
    assert all(proof.seconds is not None and is_within(proof.seconds, 2) for proof in found.values())
    alien = proofs(workers, "second", host="elsewhere")["second"]
    assert (alien.ok, alien.reason) == (
        False, "it came back, but no node of this inventory consumes the queue: the answer is of flow.flows.2.1@h")
    assert keys(workers) == before


def test_a_canary_that_nobody_takes_is_taken_back(workers: Fleet) -> None:
    workers.enqueue(2, 0.1, queue="nobody")
    before = keys(workers)
    proof = proofs(workers, "nobody", timeout=0.3)["nobody"]
    assert (proof.ok, proof.state) == (False, "failed")
    assert "not taken by a worker within 0.3 s; 2 other tasks wait" in str(proof.reason)
    assert keys(workers) == before
    assert workers.redis.call("ZCARD", "nobody") == 2


def test_a_job_of_the_apps_own_is_a_canary_too_and_its_error_is_told(workers: Fleet) -> None:
    workers.start().ready()
    assert proofs(workers, "arq:queue", task="where")["arq:queue"].ok
    failed = proofs(workers, "arq:queue", task="fail", args=["on purpose"])["arq:queue"]
    assert failed.ok is False
    assert "the task fail failed: FlowError: on purpose" in str(failed.reason)
    unknown = proofs(workers, "arq:queue", task="nosuch")["arq:queue"]
    assert (unknown.ok, unknown.reason) == (None, "a worker took it, but has no task nosuch")
    slow = proofs(workers, "arq:queue", task="run_flow", args=["f0", 3], timeout=1.0)["arq:queue"]
    assert slow.reason == "begun, and not ended within 1 s"


def test_a_result_is_read_without_running_what_it_names(workers: Fleet, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/ran",)

    assert str(pickled.read(pickle.dumps({"r": Evil()})).told["r"]) == f"system: touch {tmp_path}/ran"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("app", "said"), [
    ("nosuch.worker.Settings", "nosuch.worker.Settings: there is no module nosuch in "),
    ("app.nosuch.Settings", "app.nosuch.Settings: there is no module app.nosuch in "),
    ("app.worker.Nosuch", "app.worker.Nosuch: the module app.worker has no Nosuch"),
    ("mine.Empty", "mine.Empty: it has neither functions nor cron_jobs: is this the settings class?"),
])
def test_a_settings_class_that_cannot_be_used_ends_the_node_in_one_sentence(own: Fleet, app: str, said: str) -> None:
    node = own.start(app=app)
    assert node.process.wait(20) == 1
    assert node.log.startswith(f"workfleet_arq: {said}")
    assert node.log.count("\n") == 1


def test_a_time_zone_that_is_none_is_told(workers: Fleet) -> None:
    node = workers.start(options={"timezone": "Europe/Nowhere"})
    assert node.process.wait(20) == 1
    assert "timezone = Europe/Nowhere: this host knows no such time zone" in node.log


def test_the_queue_of_another_engine_is_named(workers: Fleet) -> None:
    workers.redis.call("LPUSH", "celery", "a message of Celery's")
    with pytest.raises(WorkfleetError, match="queue celery: the key of that name in Redis is no queue of arq's"):
        ENGINE.waiting(workers.url, ["arq:queue", "celery"], {})
    assert "is no queue of arq's" in str(proofs(workers, "celery")["celery"].reason)
    node = workers.start(queues=["celery"])
    assert node.process.wait(20) == 1
    assert "workfleet_arq: the key celery in Redis is no queue of arq's: WRONGTYPE" in node.log
    assert workers.redis.call("LLEN", "celery") == 1


def test_a_lost_broker_ends_the_node_soon_and_in_one_sentence(scratch: Path) -> None:
    with running_redis(None) as server, fleet(scratch, server) as workers:
        node = workers.start().ready()
        with contextlib.suppress(resp.RespConnectionError):
            server.call("SHUTDOWN", "NOSAVE")
        assert node.process.wait(10) == 1
        assert node.log.splitlines()[-1].startswith("workfleet_arq: the broker is lost: ")
        assert "Traceback" not in node.log


def test_a_node_told_to_stop_while_it_waits_for_the_broker_ends_at_once(workers: Fleet) -> None:
    node = workers.start(variables={"WORKFLEET_BROKER_URL": "redis://127.0.0.1:1/0"})
    until(lambda: "retries remaining" in node.log)
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(5) == 0


def test_the_check_makes_the_worker_and_does_not_run_it(workers: Fleet) -> None:
    words = [str(ENVIRONMENT / "bin" / "python"), str(ROOT / "runners" / "workfleet_arq.py"), "--node", "n@h",
             "--drain-seconds", "300", "--check"]
    done = {path: subprocess.run([*words, path], cwd=APP, check=False, capture_output=True, text=True)
            for path in ("app.worker.WorkerSettings", "app.worker.Nosuch")}
    assert {path: result.returncode for path, result in done.items()} == {"app.worker.WorkerSettings": 0, "app.worker.Nosuch": 1}
    assert done["app.worker.WorkerSettings"].stdout.startswith("workfleet-warning: drain_seconds = 300 is below the timeout of fail, ")
    assert done["app.worker.Nosuch"].stderr == "workfleet_arq: app.worker.Nosuch: the module app.worker has no Nosuch\n"
    assert keys(workers) == set()
