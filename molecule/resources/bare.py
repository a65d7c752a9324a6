"""What holds for bare hosts, before the first converge."""

from __future__ import annotations

from fleet import Fleet


def test_a_check_of_bare_hosts_predicts_every_step_and_changes_nothing() -> None:
    fleet = Fleet()
    before = fleet.run(fleet.worker, "sh", "-c", "ls / /opt /etc/systemd/system; cat /etc/passwd")
    predicted = fleet.play("site", "--check", "--diff")
    assert fleet.run(fleet.worker, "sh", "-c", "ls / /opt /etc/systemd/system; cat /etc/passwd") == before
    assert predicted.steps
    assert fleet.play("site").steps == predicted.steps
