"""What holds for several worker hosts."""

from __future__ import annotations

import tempfile

from fleet import Fleet, load_json


def sleepers(fleet: Fleet) -> dict[tuple[str, str], str]:
    """Return (host, pid) → seconds of every node."""
    return {(host, line.split()[0]): line.split()[-1]
            for host in fleet.workers for line in fleet.run(host, "pgrep", "-fa", "^/bin/sleep 40").splitlines()}


def test_a_change_on_two_hosts_is_foretold_step_by_step_and_replaces_only_its_group(fleet: Fleet) -> None:
    before = sleepers(fleet)
    added = {"name": "added", "engine": "process", "command": ["/bin/sleep", "4004"], "drain_seconds": 5}
    groups = [*fleet.groups(changed={"command": ["/bin/sleep", "4003"]}), added]
    predicted = fleet.play("site", "--check", worker_groups=groups)
    assert sleepers(fleet) == before
    done = fleet.play("site", worker_groups=groups)
    assert done.steps == predicted.steps
    after = sleepers(fleet)
    assert sorted(after.values()) == ["4001"] * 2 + ["4003"] * 4 + ["4004"] * 2
    assert {node for node in before if before[node] == "4001"} <= set(after)
    again = fleet.play("site", worker_groups=fleet.groups(changed={"command": ["/bin/sleep", "4003"]}))
    assert again.touched == {"workfleet.pair.added.1.1"}


def test_a_node_that_fails_on_one_host_spares_all_others(fleet: Fleet) -> None:
    before = sleepers(fleet)
    run = fleet.play("site", expect=2, worker_groups=fleet.groups(changed={"command": ["/bin/sh", "-c", "echo broken; exit 3"]}))
    assert "does not stay up" in run.out
    assert "broken" in run.out
    assert len(set(before) - set(sleepers(fleet))) == 1
    fleet.play("site", worker_groups=fleet.groups(changed={"command": ["/bin/sleep", "4003"]}))


def test_a_reset_names_its_hosts_needs_all_of_them_and_does_what_was_foretold(fleet: Fleet) -> None:
    before, words = sleepers(fleet), f"reset pair {','.join(fleet.workers)}"
    groups = fleet.groups(changed={"command": ["/bin/sleep", "4003"]})
    assert f"-e \"confirm='{words}'\"" in fleet.play("reset", expect=2, worker_groups=groups).out
    assert "leave --limit out" in fleet.play("reset", "--limit", fleet.workers[0], expect=2, worker_groups=groups, confirm=words).out
    foretold = fleet.play("reset", "--check", worker_groups=groups)
    assert sleepers(fleet) == before
    done = fleet.play("reset", worker_groups=groups, confirm=words)
    assert done.steps == foretold.steps
    after = sleepers(fleet)
    assert sorted(after.values()) == sorted(before.values()) and not set(before) & set(after)
    fleet.play("reset", worker_groups=groups, confirm=words, wait_for_drain=False)
    assert sorted(sleepers(fleet).values()) == sorted(before.values()) and not set(sleepers(fleet)) & set(after)


def test_status_obeys_limit_and_lists_a_host_that_is_gone(fleet: Fleet) -> None:
    first, second = fleet.workers
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        fleet.play("status", "--limit", second, status_json=file.name)
        assert set(load_json(file.name)["hosts"]) == {second}
        # With the connections that Ansible has kept open.
        fleet.run(first, "sh", "-c", "systemctl stop ssh.socket ssh.service; pkill -KILL sshd", check=False)
        run = fleet.play("status", expect=2, status_json=file.name, status_strict=True)
        assert f"{first}: unreachable" in run.out
        told = load_json(file.name)
    assert set(told["hosts"]) == {first, second}
    assert told["hosts"][first]["nodes"] == []
    assert any(text.startswith(f"{first}: unreachable") for text in told["problems"])
    fleet.run(first, "systemctl", "start", "ssh.service")
    fleet.wait_until_reachable(first)


def test_the_other_process_manager_is_refused_while_nodes_are_here(fleet: Fleet) -> None:
    before = sleepers(fleet)
    run = fleet.play("site", expect=2, worker_manager="supervisor", worker_groups=fleet.groups(changed={"command": ["/bin/sleep", "4003"]}))
    assert "has nodes of pair under systemd" in run.out
    assert sleepers(fleet) == before


def test_a_full_disk_is_named_and_what_ran_still_runs(fleet: Fleet) -> None:
    first = fleet.workers[0]
    before = sleepers(fleet)
    groups = fleet.groups(changed={"command": ["/bin/sleep", "4003"]})
    fleet.run(first, "mount", "-t", "tmpfs", "-o", "size=4k", "none", "/opt/pair/env")
    run = fleet.play("site", "--limit", first, expect=2, worker_groups=groups)
    fleet.run(first, "umount", "/opt/pair/env")
    assert f"[{first}]: FAILED!" in run.out
    assert "No space left on device" in run.out
    # A unit had been written when the disk was full; systemd has yet to read it.
    assert {action for action, _ in fleet.play("site", worker_groups=groups).actions} <= {"reload"}
    assert sleepers(fleet) == before


def test_a_user_without_sudo_is_told_and_nothing_is_touched(fleet: Fleet) -> None:
    first = fleet.workers[0]
    before = sleepers(fleet)
    fleet.run(first, "mv", "/etc/sudoers.d/ops", "/root/ops")
    groups = fleet.groups(changed={"command": ["/bin/sleep", "4005"]})
    run = fleet.play("site", "--limit", first, "-e", "ansible_user=ops", expect=2, worker_groups=groups)
    fleet.run(first, "mv", "/root/ops", "/etc/sudoers.d/ops")
    assert f"[{first}]: FAILED!" in run.out
    assert "sudo" in run.out
    assert sleepers(fleet) == before
