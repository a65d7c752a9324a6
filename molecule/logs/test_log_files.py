"""Nodes under systemd that write into files: nothing is lost or doubled, whoever is killed, and nothing can hold a worker up."""

from __future__ import annotations

import re
import time

from common import test_no_unit_is_exposed_more_than_its_sandbox_promises  # noqa: F401 - pytest collects it here
from fleet import Fleet, wait

LOGS = "/opt/talk/log"
SERVICE = "workfleet.talk.logs.service"


def unit(group: str, slot: int = 1, incarnation: int = 1) -> str:
    return f"workfleet.talk.{group}.{slot}.{incarnation}"


def pid(fleet: Fleet, name: str) -> int:
    return int(fleet.run(fleet.worker, "systemctl", "show", "--value", "--property=MainPID", name))


def whole(fleet: Fleet, name: str) -> list[str]:
    """All that a node has written, out of all files, as one text."""
    script = f"cd {LOGS} && for n in $(ls {name}.log.[0-9]* | sed 's/.*[.]//' | sort -rn); do cat {name}.log.$n; done; cat {name}.log"
    return fleet.run(fleet.worker, "sh", "-c", script).splitlines()


def test_no_line_of_a_fast_writer_is_lost_while_the_service_is_killed_again_and_again(fleet: Fleet) -> None:
    name, worker = unit("fast"), fleet.worker
    before = pid(fleet, name)
    for _ in range(5):
        fleet.run(worker, "systemctl", "kill", "--signal=KILL", SERVICE, check=False)
        time.sleep(0.3)
        fleet.run(worker, "systemctl", "start", SERVICE)
        time.sleep(1.5)
    wait(lambda: "line 100000 " in fleet.run(worker, "sh", "-c", f"tail -q -n 2000 {LOGS}/{name}.log*", check=False), 60)
    assert pid(fleet, name) == before
    fleet.run(worker, "systemctl", "stop", name)
    lines = whole(fleet, name)
    numbers = [int(found[1]) for line in lines if (found := re.search(r"MainProcess\] line (\d+) x*$", line))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert lines[-1].endswith(f"end after {len(numbers)}"), "what it writes while it drains is there too"
    assert len(lines) == len(numbers) + 2, "and nothing else, no part of a line"
    files = fleet.run(worker, "sh", "-c", f"stat -c '%s %a %U' {LOGS}/{name}.log.*").splitlines()
    assert len(files) > 50 and set(files) == {"65536 640 talk"}
    fleet.run(worker, "systemctl", "start", name)


def test_the_node_is_the_units_main_process_and_the_journal_has_systemds_own_words_only(fleet: Fleet) -> None:
    name = unit("calm")
    assert "talker" in fleet.run(fleet.worker, "cat", f"/proc/{pid(fleet, name)}/cmdline") or pid(fleet, name) > 1
    said = fleet.run(fleet.worker, "journalctl", "--no-pager", "--output=cat", f"--unit={name}")
    assert "line " not in said and "Started" in said


def test_a_full_disk_does_not_hold_a_worker_up(fleet: Fleet) -> None:
    worker, name = fleet.worker, unit("fast")
    fleet.run(worker, "mount", "-t", "tmpfs", "-o", "size=256k,mode=777", "tmpfs", LOGS)
    try:
        fleet.run(worker, "systemctl", "restart", name)
        wait(lambda: fleet.run(worker, "df", "--output=avail", LOGS).split()[-1] == "0", 30)
        before = fleet.run(worker, "cat", f"/proc/{pid(fleet, name)}/stat").split()
        time.sleep(2)
        after = fleet.run(worker, "cat", f"/proc/{pid(fleet, name)}/stat").split()
        assert after[0] == before[0] and int(after[13]) > int(before[13]), "the same process goes on working"
        begun = time.monotonic()
        fleet.run(worker, "systemctl", "stop", name)
        assert time.monotonic() - begun < 10
    finally:
        fleet.run(worker, "systemctl", "stop", name)
        fleet.run(worker, "umount", "-l", LOGS)
        fleet.run(worker, "systemctl", "start", name)


def test_a_file_system_that_cannot_cut_is_refused_before_a_node_is_touched(fleet: Fleet) -> None:
    worker = fleet.worker
    before = pid(fleet, unit("calm"))
    fleet.run(worker, "systemctl", "stop", SERVICE)
    fleet.run(worker, "mount", "-t", "tmpfs", "-o", "mode=777", "tmpfs", LOGS)
    try:
        run = fleet.play("site", expect=2)
        assert "cannot be kept at a size" in run.out and "ext4, XFS, f2fs" in run.out
    finally:
        fleet.run(worker, "umount", "-l", LOGS)
    assert pid(fleet, unit("calm")) == before
    assert [step["action"] for step in fleet.play("site").steps] == ["write"], "the service is mended"
    assert fleet.play("site").steps == []


def test_another_size_touches_no_node_and_another_destination_replaces_them(fleet: Fleet) -> None:
    worker = fleet.worker
    before = pid(fleet, unit("calm"))
    fleet.play("site", worker_log={"to": "file", "max_bytes": 131072, "backups": 3})
    assert pid(fleet, unit("calm")) == before
    assert "--max-bytes=131072" in fleet.run(worker, "systemctl", "show", "--property=ExecStart", SERVICE)
    predicted = fleet.play("site", "--check", worker_log={"to": "journal"})
    done = fleet.play("site", worker_log={"to": "journal"})
    assert done.steps == predicted.steps
    assert fleet.play("site", worker_log={"to": "journal"}).steps == []
    assert "could not be found" in fleet.run(worker, "sh", "-c", f"systemctl status {SERVICE} 2>&1", check=False)
    assert "line 1 " in fleet.run(worker, "journalctl", "--no-pager", "--output=cat", f"--unit={unit('calm', 1, 2)}")
    fleet.play("site")
    assert fleet.play("site").steps == []
