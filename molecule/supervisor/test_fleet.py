"""What supervisor could change of what holds for a fleet, in a full run all of it; and the logs of its nodes."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import tempfile
import time

from common import (  # noqa: F401 - pytest collects the tests of that file here
    test_a_canary_comes_back_from_every_queue,
    test_a_change_is_predicted_restarts_only_its_group_and_loses_no_task,
    test_a_reboot_brings_every_node_back,
    test_absent_leaves_no_trace,
    test_every_declared_node_is_one_process,
    test_limits_are_those_of_the_process,
    test_no_unit_is_exposed_more_than_its_sandbox_promises,
    test_secrets_are_in_the_environment_and_nowhere_else,
    test_status_tells_what_is,
    test_tasks_of_each_kind_are_done,
    test_what_somebody_broke_is_repaired_and_nothing_else,
)
from fleet import PROJECT, Fleet

if os.environ.get("WORKFLEET_FULL"):
    from common import *  # noqa: F403 - as above

LINE = re.compile(r"^\d\d:\d\d:\d\d supervisor-all (\w+) (\d+\.\d+) ([A-Z]+) (.*?)\r?$", re.MULTILINE)


def followed(fleet: Fleet, words: str, seconds: float) -> str:
    """Return what logs.yml shows in a terminal until these words are there, or for so long."""
    ours, theirs = pty.openpty()
    command = fleet.command("logs", f"{tempfile.mkdtemp()}/steps.json", {"follow": True, "lines": 1, "worker_only": "default"})
    process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said, deadline, sent = "", time.monotonic() + seconds, False
    try:
        while words not in said and time.monotonic() < deadline and process.poll() is None:
            if select.select([ours], [], [], 1)[0]:
                said += os.read(ours, 65536).decode(errors="replace")
            if not sent and LINE.search(said):  # what comes after that was not there when it began
                sent = bool(fleet.send("fetch", 0.1, queue="default"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)
    return said


def test_the_app_cannot_change_the_supervisor_that_it_runs_under(fleet: Fleet) -> None:
    home = f"/opt/{fleet.app}/supervisor"
    places = [f"{home}/venv", f"{home}/programs", f"{home}/supervisord.conf"]
    assert fleet.run(fleet.worker, "find", *places, "-not", "-user", "root", "-o", "-not", "-type", "l", "-perm", "/022") == ""
    assert fleet.run(fleet.worker, f"{home}/venv/bin/supervisorctl", "-c", f"{home}/supervisord.conf", "version").strip() == "4.3.0"


def test_logs_are_shown_by_time_by_level_and_as_they_come(fleet: Fleet) -> None:
    # Celery's own level is WARNING, at which a worker that is well says nothing.
    talkative = [{**group, "options": {**group["options"], "loglevel": "INFO"}} for group in fleet.vars["worker_groups"]]
    fleet.play("site", worker_groups=talkative)
    found = LINE.findall(fleet.play("logs", lines=1000, since="10m").out)
    assert {(group, slot.partition(".")[0]) for group, slot, _, _ in found} == {(group, slot) for group in ("reports", "default")
                                                                               for slot in ("1", "2")}
    assert any(text.endswith(" ready.") for *_, text in found)
    levels = {level for *_, level, _ in LINE.findall(fleet.play("logs", lines=1000, since="10m", level="warning").out)}
    assert levels <= {"WARNING", "ERROR", "CRITICAL"}
    said = followed(fleet, "succeeded in", 90)
    assert "Task app.tasks.fetch[" in said and "succeeded in" in said, said


def test_an_app_that_is_declared_absent_takes_its_supervisord_along(fleet: Fleet) -> None:
    """What it leaves of all else is looked at by the scenario `apart`."""
    fleet.forget_client()
    fleet.play("site", app_state="absent", confirm=f"absent {fleet.app}")
    assert fleet.run(fleet.worker, "sh", "-c", f"ls -d /etc/systemd/system/*workfleet* /run/workfleet /opt/{fleet.app} 2>/dev/null; "
                                               f"systemctl list-units --all --no-legend 'workfleet.*'; pgrep -xa supervisord; "
                                               f"getent passwd {fleet.app}; true") == ""
