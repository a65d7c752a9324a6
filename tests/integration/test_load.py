"""A measured load on real workers of each engine: what comes back, what does not, and what is left behind."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import background
from plugins.module_utils.workfleet.queues import load
from tests import warm
from tests.integration import arq_fleet, celery_fleet, chicory_fleet
from tests.patience import is_within, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer

pytest.importorskip("celery")
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")
NODE = "shop.reports.1.1@web1"
LATENCIES = ("total", "wait", "run")


@pytest.fixture(scope="module")
def celery() -> Iterator[celery_fleet.Fleet]:
    with celery_fleet.fleet() as started:
        started.start(NODE)
        started.ready(NODE)
        yield started


def order(url: str, engine: str, *queues: str, **keys: Any) -> dict[str, Any]:
    return {"app": "shop", "engine": engine, "broker_url": url, "result_url": url, "queues": queues, "nodes": ["shop."], **keys}


def run(given: dict[str, Any]) -> dict[str, Any]:
    """Run a load in the background, as the module does; return its report."""
    directory = background.start(lambda working: load.start(given, working))
    found: list[dict[str, Any]] = []
    while not (found and found[-1].get("last")):
        found += background.take(directory)
    if found[-1]["error"]:
        raise WorkfleetError(found[-1]["error"])
    return dict(next(item["report"] for item in found if "report" in item))


def told(report: dict[str, Any]) -> tuple[int, int, int, int]:
    return report["sent"], report["succeeded"], report["failed"], report["unanswered"]


def ours(fleet: celery_fleet.Fleet) -> set[str]:
    """The keys that a load could leave behind."""
    return {key for key in fleet.all_keys() if not key.startswith("_kombu.") and not key.startswith("workfleet:")}


def test_celery_tasks_come_back_and_are_measured_by_their_workers(celery: celery_fleet.Fleet) -> None:
    before = ours(celery)
    report = run(order(celery.url, "celery", "reports", "default", count=300))
    assert told(report) == (300, 300, 0, 0)
    assert report["runs_told"] == 300
    assert report["ended_per_second"] > 20
    assert ours(celery) == before
    report = run(order(celery.url, "celery", "default", task="app.tasks.fetch", args=[0.05], count=20, rate=10))
    assert told(report) == (20, 20, 0, 0)
    assert report["sending_seconds"] >= 1.85 and is_within(report["sending_seconds"], 3)
    assert report["latency"]["run"]["p50"] >= 0.05 and is_within(report["latency"]["run"]["p50"], 0.2)
    assert report["latency"]["total"]["p50"] >= report["latency"]["run"]["p50"]
    assert all(report["latency"][name]["p50"] <= report["latency"][name]["max"] for name in LATENCIES)


def test_failures_are_counted_with_their_reason(celery: celery_fleet.Fleet) -> None:
    report = run(order(celery.url, "celery", "default", task="app.tasks.fail", count=3))
    assert told(report) == (3, 0, 3, 0)
    assert report["reasons"] == [{"reason": "ReportError('no such report')", "tasks": 3}]
    report = run(order(celery.url, "celery", "default", task="app.tasks.flaky", args=[1], count=3))
    assert told(report) == (3, 3, 0, 0)


def test_without_a_result_store_events_tell_what_became_of_a_task(celery: celery_fleet.Fleet) -> None:
    report = run(order(celery.url, "celery", "default", count=10, result_url=""))
    assert told(report) == (10, 10, 0, 0)


def test_without_events_results_tell_and_how_long_tasks_ran_is_not_made_up(celery: celery_fleet.Fleet) -> None:
    report = run(order(celery.url, "celery", "default", count=10, nodes=[]))
    assert told(report) == (10, 10, 0, 0)
    assert (report["runs_told"], report["latency"]["run"]) == (0, None)


def test_what_does_not_come_back_is_accounted_for_and_what_waits_does_not_run_later(celery: celery_fleet.Fleet) -> None:
    before = ours(celery)
    report = run(order(celery.url, "celery", "default", task="app.tasks.fetch", args=[3], count=20, patience=1))
    assert told(report) == (20, 0, 0, 20)
    reasons = {reason["reason"]: reason["tasks"] for reason in report["reasons"]}
    assert reasons.pop("begun, and not ended") == 1
    assert sum(count for reason, count in reasons.items() if "removed from its queue" in reason or "in advance" in reason) == 19
    assert celery.client.call("LLEN", "default") == 0
    begun = time.monotonic()
    assert told(run(order(celery.url, "celery", "default", count=1)))[1] == 1
    assert is_within(time.monotonic() - begun, 25), "a worker holds four of them, and each takes 3 s"
    assert {key for key in ours(celery) - before if "task-meta" not in key} == set()


def test_a_queue_that_nobody_consumes_is_sent_nothing(celery: celery_fleet.Fleet) -> None:
    with pytest.raises(WorkfleetError, match=r"no node that answers consumes nobody.*Nothing was sent"):
        run(order(celery.url, "celery", "nobody", count=5))
    assert celery.client.call("EXISTS", "nobody") == 0


def test_a_load_that_nobody_watches_ends_and_takes_back_what_waits(celery: celery_fleet.Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LEASE_SECONDS", 1.0)
    given = order(celery.url, "celery", "default", task="app.tasks.fetch", args=[0.5], count=400, rate=200)
    directory = background.start(lambda working: load.start(given, working))
    until(lambda: celery.client.call("LLEN", "default") > 10)
    until(lambda: not os.path.exists(directory))
    assert celery.client.call("LLEN", "default") == 0


def test_arq_jobs_come_back_with_their_times(tmp_path: Path, redis_server: RedisServer) -> None:
    with arq_fleet.fleet(tmp_path, redis_server) as fleet:
        fleet.start("shop.flows.1.1@h").ready()
        before = {key for key in redis_server.call("KEYS", "*") if not key.startswith(b"workfleet:")}
        report = run(order(redis_server.url(), "arq", "arq:queue", count=100))
        assert told(report) == (100, 100, 0, 0)
        assert report["runs_told"] == 100
        report = run(order(redis_server.url(), "arq", "arq:queue", task="run_flow", args=["f", 0.2, 1], count=10, rate=20))
        assert told(report) == (10, 10, 0, 0)
        assert report["latency"]["run"]["p50"] >= 0.2 and is_within(report["latency"]["run"]["p50"], 0.5)
        report = run(order(redis_server.url(), "arq", "arq:queue", task="fail", count=2))
        assert told(report) == (2, 0, 2, 0)
        assert "no such flow" in report["reasons"][0]["reason"]
        report = run(order(redis_server.url(), "arq", "arq:queue", task="run_flow", args=["long", 4, 1], count=30, patience=1))
        assert told(report)[3] == 30
        assert {reason["reason"] for reason in report["reasons"]} == {
            "begun, and not ended", "no worker took it; it was removed from its queue"}
        until(lambda: redis_server.call("ZCARD", "arq:queue") == 0)
        left = {key for key in redis_server.call("KEYS", "*") if not key.startswith(b"workfleet:")} - before
        assert {key.partition(b":workfleet-")[0] for key in left} <= {b"arq:result", b"flow:begun", b"flow:done"}


def test_chicory_tasks_come_back_and_leave_no_dead_letters(tmp_path: Path, redis_server: RedisServer) -> None:
    fleet = chicory_fleet.Fleet(tmp_path, redis_server)
    try:
        fleet.start("shop.slow.1.1@h", queues=["slow"], options={"dlq": True}).ready()
        given = {**order(redis_server.url(), "chicory", "slow"), "result_url": redis_server.url(1)}
        report = run({**given, "count": 100})
        assert told(report) == (100, 100, 0, 0)
        assert report["latency"]["run"] is None
        report = run({**given, "task": "app.tasks.deliver", "args": [0.1, "e"], "count": 10, "rate": 20})
        assert told(report) == (10, 10, 0, 0)
        assert report["latency"]["total"]["p50"] >= 0.1
        report = run({**given, "task": "app.tasks.reject", "count": 3})
        assert told(report) == (3, 0, 3, 0)
        assert redis_server.call("XLEN", "chicory:dlq:slow") == 0
        assert [key for key in redis_server.call("KEYS", "*", db=1) if key.startswith((b"chicory:result:", b"chicory:state:"))] == []
        with pytest.raises(WorkfleetError, match="app_result_url"):
            run({**given, "result_url": "", "count": 1})
    finally:
        fleet.close()


def play(fleet: celery_fleet.Fleet, folder: Path, *words: str, expect: int = 0, **extra: Any) -> str:
    """Run the playbook as a user does."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    groups = [{"name": "reports", "app": "app.celery_app", "queues": ["reports", "default"], "drain_seconds": 5},
              {"name": "flows", "engine": "arq", "app": "app.worker.WorkerSettings"}]
    host = {"app_name": "shop", "app_root": str(folder / "shop"), "app_broker_url": fleet.url, "app_result_url": fleet.url,
            "worker_groups": groups, **local}
    (folder / "inventory.json").write_text(json.dumps({"workers": {"hosts": {"web1": host}}}))
    done = warm.play(["-i", str(folder / "inventory.json"), "playbooks/load.yml", "-e", json.dumps(extra), *words])
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_playbook_says_what_it_would_send_sends_it_and_writes_the_report(celery: celery_fleet.Fleet, tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"queue": "default", "task_name": "app.tasks.fetch", "task_args": [0.1], "count": 40, "rate": 20}
    said = play(celery, tmp_path, "--check", **wanted)
    assert "would send 40 × app.tasks.fetch(0.1) to default, 20 a second; nothing was sent" in said
    said = play(celery, tmp_path, **wanted, result_json=str(tmp_path / "report.json"))
    assert "40 × app.tasks.fetch(0.1) to default, 20 a second\n" in said
    assert " under way\n" in said
    assert "40 succeeded, 0 failed, 0 did not come back" in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert told(report) == (40, 40, 0, 0)
    said = play(celery, tmp_path, expect=2, group="reports", count=2, task_name="app.tasks.fail", queue="default")
    assert "of 2 tasks 0 did not come back, and 2 failed" in said


@pytest.mark.parametrize(("extra", "said"), [
    ({"count": 0}, "count = 0: must be from 1 to 50000 (nothing was sent)"),
    ({"group": "nosuch"}, "group = 'nosuch': must be one of reports, flows"),
    ({}, "these groups have celery and arq; choose by -e group=NAME or -e queue=NAME"),
    ({"group": "reports", "task_name": "app.tasks.fetch"}, "name the queue whose workers have it, one of reports, default"),
])
def test_what_cannot_be_sent_is_refused(celery: celery_fleet.Fleet, tmp_path: Path, extra: dict[str, Any], said: str) -> None:
    assert said in " ".join(play(celery, tmp_path, expect=2, **extra).split())
