"""Canaries through real workers and back; none is left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines import taskqueues
from plugins.module_utils.workfleet.engines.celery import probe as celery_probe
from plugins.module_utils.workfleet.engines.celery import wire as celery_wire
from plugins.module_utils.workfleet.engines.celery.engine import ENGINE
from plugins.module_utils.workfleet.engines.taskqueue import Source
from plugins.module_utils.workfleet.engines.verbs import probe as probes
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.nodes import consumers
from plugins.module_utils.workfleet.queues import info as queues
from tests import printed, warm
from tests.integration.celery_fleet import Fleet, fleet
from tests.integration.supervised import ME, MY_GROUP
from tests.patience import is_within, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("celery")
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")


@pytest.fixture(scope="module")
def workers() -> Iterator[Fleet]:
    with fleet() as started:
        started.start("threads@h")
        started.start("solo@h", pool="solo", queues="slow")
        started.ready("threads@h", "solo@h")
        yield started


def probe(workers: Fleet, *queues: str, **changed: Any) -> dict[str, probes.Proof]:
    """Probe with a short patience."""
    given = {"broker_url": workers.url, "result_url": workers.url, "queues": queues, "timeout": 5.0, **changed}
    return {proof.queue: proof for proof in celery_probe.probe(probes.parse(given))}


def messages(workers: Fleet) -> int:
    """All messages that wait or are held, results too."""
    results = [key for key in workers.all_keys() if "task-meta" in key]
    waiting = celery_wire.queue_depths(workers.client, ["reports", "default", "slow", "nobody"])
    return sum(waiting.values()) + int(workers.client.call("HLEN", "unacked")) + len(results)


def test_every_queue_that_is_worked_on_is_proved_and_nothing_stays(workers: Fleet) -> None:
    proofs = probe(workers, "reports", "default", "slow")
    assert [(proof.ok, proof.state, proof.reason) for proof in proofs.values()] == [(True, "ok", None)] * 3
    assert all(proof.seconds and is_within(proof.seconds, 2) for proof in proofs.values())
    assert messages(workers) == 0


def test_a_queue_without_a_consumer_fails_alone_and_its_canary_is_taken_back(workers: Fleet) -> None:
    workers.client.call("LPUSH", "nobody", "another's message")
    proofs = probe(workers, "nobody", "reports", timeout=0.5)
    assert proofs["reports"].ok
    assert proofs["nobody"].ok is False
    reason = "not taken from the queue within 0.5 s; no node that answers consumes it; 1 tasks wait in it"
    assert proofs["nobody"].reason == reason
    assert workers.client.call("LRANGE", "nobody", "0", "-1") == [b"another's message"]
    workers.client.call("DEL", "nobody")
    assert messages(workers) == 0


def test_a_busy_consumer_is_told_apart_from_none_and_its_late_canary_is_not_run(workers: Fleet) -> None:
    workers.python("from app.tasks import fetch; fetch.apply_async((2,), queue='reports')")
    until(lambda: celery_wire.reports(workers.url, ["threads@h"], {}, 1.0)["threads@h"].running == 1)
    proof = probe(workers, "reports", timeout=0.5)["reports"]
    assert proof.ok is False
    assert "taken by a node, but not begun" in str(proof.reason)
    assert "threads@h" in str(proof.reason)
    until(lambda: workers.client.call("HLEN", "unacked") == 0, 10)
    workers.client.call("FLUSHDB")


def test_an_expired_canary_is_told_as_a_difference_of_clocks(workers: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery_probe, "GRACE", -3600.0)
    assert "its clock differs" in str(probe(workers, "reports")["reports"].reason)


def test_a_failing_and_an_unknown_task_are_told_by_their_error(workers: Fleet) -> None:
    failing = probe(workers, "default", task="app.tasks.fail", args=[])["default"]
    assert failing.reason == "the task app.tasks.fail ended as FAILURE: ReportError: no such report"
    assert "NotRegistered" in str(probe(workers, "default", task="no.such.task")["default"].reason)


def test_the_app_s_own_task_proves_as_well(workers: Fleet) -> None:
    assert probe(workers, "default", task="app.celery_app.health_check", args=[])["default"].ok


@pytest.mark.parametrize(("result_url", "said"), [("", "no result store is given"), ("rpc://", "the result store is rpc://")])
def test_without_a_result_store_nothing_is_proved(workers: Fleet, result_url: str, said: str) -> None:
    proof = probe(workers, "default", result_url=result_url)["default"]
    assert (proof.ok, proof.state) == (None, "not proved")
    assert said in str(proof.reason)


def test_a_result_store_that_is_not_the_app_s_is_suspected(workers: Fleet) -> None:
    proof = probe(workers, "default", result_url=workers.url[:-1] + "7", timeout=0.5)["default"]
    assert proof.ok is False
    assert "is this the app's result store" in str(proof.reason)


def test_another_broker_than_redis_is_not_proved_rather_than_failed(workers: Fleet) -> None:
    proof = probe(workers, "q", broker_url="amqp://guest:hunter2@h//")["q"]
    assert proof.reason == "the broker is amqp://, only Redis is understood"


def test_nothing_is_sent_where_the_result_store_cannot_be_reached(workers: Fleet) -> None:
    before = messages(workers)
    with pytest.raises(resp.RespConnectionError):
        probe(workers, "nobody", result_url="redis://127.0.0.1:1/0")
    assert messages(workers) == before


@pytest.mark.parametrize("wrong", [{"queues": []}, {"queues": ["a", ""]}, {"timeout": 0}])
def test_what_cannot_be_probed_is_refused(workers: Fleet, wrong: dict[str, Any]) -> None:
    with pytest.raises(WorkfleetError, match=next(iter(wrong))):
        probes.parse({"broker_url": workers.url, "queues": ["a"], **wrong})


def test_an_app_that_keeps_no_results_is_proved_all_the_same(workers: Fleet) -> None:
    workers.start("ignoring@h", pool="solo", queues="ignoring", settings={"task_ignore_result": True})
    workers.ready("ignoring@h")
    assert probe(workers, "ignoring")["ignoring"].ok


def test_an_answer_proves_nothing_where_a_worker_of_somebody_else_may_have_given_it(tmp_path: Path) -> None:
    """With all nodes stopped ``verify.yml`` said ok: a hand-written worker from before answered, and nothing named it."""
    ours = consumers.Ours("shop", ["first"])
    with fleet() as running:
        request = probes.parse({"broker_url": running.url, "result_url": running.url, "queues": ["reports"], "timeout": 10.0})

        def judged() -> probes.Proof:
            return next(consumers.judged(taskqueues.named("celery").probe(request), request, ours))

        def told(queue: str) -> list[str]:
            source = {"engine": "celery", "url": running.url, "options": {}, "queues": [queue]}
            return consumers.look({"ours": {"app": "shop", "hosts": ["first"]}, "sources": [source]})

        running.start("old@first", queues="reports")
        running.ready("old@first")
        alone = judged()
        assert (alone.ok, alone.state) == (False, "failed")
        assert alone.reason == "it came back, but no node of this inventory consumes the queue: the answer is of old@first"

        inventory = tmp_path / "hosts.json"
        inventory.write_text(json.dumps({"workers": {"hosts": {"first": {
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False, "app_name": "shop",
            "app_user": ME, "app_group": MY_GROUP, "app_root": str(tmp_path / "shop"), "worker_manager": "supervisor",
            "app_broker_url": running.url, "app_result_url": running.url,
            "worker_groups": [{"name": "w", "app": "app.celery_app", "queues": ["reports"]}]}}}}))
        named = "old@first consumes reports and is no node"
        for playbook, status, said in (("verify", 2, "the answer is of old@first"), ("queues", 0, named), ("status", 0, named),
                                       ("health", 2, named)):
            done = warm.play(["-i", str(inventory), f"playbooks/{playbook}.yml", "-e", "sample_seconds=0"])
            assert done.returncode == status and said in " ".join(done.stdout.split()), done.stdout + done.stderr
        printed.same("docs/health.md", "strangers", done.stdout)

        running.start("shop.w.1.1@first", queues="reports")
        running.ready("old@first", "shop.w.1.1@first")
        beside = judged()
        assert (beside.ok, beside.state) == (None, "not proved") and "old@first consumes the queue too" in str(beside.reason)
        source = Source("celery", running.url, ["reports"])
        (problem,) = queues.look("shop", [source], ours=ours)["problems"]
        assert problem.startswith(f"{named} of this inventory: ")
        assert told("reports") == [problem] and told("default") == []
        stopped = running.workers["old@first"]
        stopped.terminate()
        stopped.wait(60)
        assert judged().ok

        # Two machines that both are ``localhost`` to those who deploy them.
        double = fleet_of_the_same_name(running)
        until(lambda: ENGINE.everybody(running.url, {}, 1.0)[0]["shop.w.1.1@first"].doubt)
        (said,) = told("reports")
        assert said.startswith("shop.w.1.1@first: 2 workers answer under this name")
        double.kill()
        double.wait()


def fleet_of_the_same_name(running: Fleet) -> subprocess.Popen[bytes]:
    """Start another worker under the name of one that runs; return it, for the fleet knows one of a name."""
    first = running.workers["shop.w.1.1@first"]
    double = running.start("shop.w.1.1@first", queues="reports")
    running.workers["shop.w.1.1@first"] = first
    return double
