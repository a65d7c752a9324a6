"""RevRx's staging as its inventory has it, under both managers at once: reports and default queues, a load, Flower."""

from __future__ import annotations

from collections import Counter

from fleet import Fleet
from systems import asked_for, open_to

SYSTEMD, SUPERVISOR = "revrx-staging-1", "revrx-staging-2"


def test_each_queue_is_consumed_on_both_hosts_and_the_dashboard_is_ready(fleet: Fleet) -> None:
    status = fleet.status()
    assert {host: told["manager"] for host, told in status["hosts"].items()} == {SYSTEMD: "systemd", SUPERVISOR: "supervisor"}
    for told in status["hosts"].values():
        assert {node["state"] for node in told["nodes"]} == {"ready"}
        assert Counter((node["group"], *node["queues"]) for node in told["nodes"]) == {("reports", "reports"): 1, ("default", "default"): 1}
    assert status["hosts"][SYSTEMD]["dashboard"]["state"] == "ready"
    assert status["problems"] == []


def test_limits_are_those_of_the_inventory(fleet: Fleet) -> None:
    unit = fleet.run(SYSTEMD, "cat", "/etc/systemd/system/workfleet.revrx.reports.1.1.service")
    assert "MemoryMax=4G" in unit
    assert "CPUQuota=200%" in unit
    for host in fleet.workers:
        told = fleet.run(host, "ps", "-ww", "-eo", "args=")
        assert "--time-limit 300" in told.replace("=", " ")
        assert "--prefetch-multiplier 2" in told.replace("=", " ")


def test_tasks_of_each_kind_and_a_load_are_done(fleet: Fleet) -> None:
    words = ["--cpu", "100", "--io", "200", "--retry", "2", "--fail", "1", "--chord", "2", "--health", "1"]
    said = fleet.run(fleet.worker, "/opt/revrx/bin/run", "python", "-m", "app.send", *words)
    assert "306 of 306 came back" in said, said
    status = fleet.status()
    done = {host: sum(node["processed"] for node in told["nodes"]) for host, told in status["hosts"].items()}
    assert min(done.values()) > 0, "both hosts took part"
    assert {queue["queue"]: queue["waiting"] for queue in status["queues"]} == {"reports": 0, "default": 0}


def test_a_canary_comes_back_from_every_queue(fleet: Fleet) -> None:
    fleet.play("verify")


def test_flower_lets_in_whoever_has_the_password(fleet: Fleet) -> None:
    requests = [("/workers", ""), ("/workers", "ann:wrong"), ("/workers", "ann:s3cret"), ("/api/workers", "")]
    assert asked_for(fleet, SYSTEMD, requests) == [401, 401, 200, 401]
    assert open_to(fleet, SYSTEMD, 5555) == ["127.0.0.1:5555"]
