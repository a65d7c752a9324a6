"""What a worker tells of itself, where a signal comes in the middle of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.module_utils.workfleet.host import files
from plugins.module_utils.workfleet.managers import records
from runners import launch
from tests.fakes.systemd import Systemd

RUNNERS = Path(__file__).resolve().parents[2] / "runners"

# A worker whose stop signal comes as it says that it is ready, at the first call of the function that is named.
WORKER = """
import importlib, json, os, signal, sys
import workfleet_tell

module, name = sys.argv[1:]
owner = importlib.import_module(module)
whole = getattr(owner, name)

def told_to_stop(*words, **more):
    setattr(owner, name, whole)
    os.kill(os.getpid(), signal.SIGTERM)
    return whole(*words, **more)

with open(os.environ["WORKFLEET_RECORD"], "w") as file:
    json.dump({"pid": os.getpid()}, file)
signal.signal(signal.SIGTERM, lambda *_: workfleet_tell.stopping())
setattr(owner, name, told_to_stop)
workfleet_tell.ready("its queues")
workfleet_tell.ready("its queues, again")
"""


@pytest.mark.parametrize("where", ["time time", "json load", "json dump", "os replace", "workfleet_tell _notify"])
def test_a_stop_in_the_middle_of_readiness_is_the_last_word(where: str, tmp_path: Path) -> None:
    systemd, record = Systemd(f"@workfleet-test-{os.getpid()}-{where}"), tmp_path / "record.json"
    subprocess.run([sys.executable, "-c", WORKER, *where.split()], check=True, timeout=20, env={
        "PYTHONPATH": str(RUNNERS), "NOTIFY_SOCKET": systemd.address, "WORKFLEET_RECORD": str(record)})
    systemd.hears("")
    assert [said.split("\n")[0] for said in systemd.said] == ["READY=1", "STOPPING=1"]
    assert {"ready", "stopping"} <= json.loads(record.read_text()).keys()


# A worker that is told to take no new tasks, and holds tens of thousands; two of them, the last that it tells of, run.
HOLDER = """
import json, os, workfleet_tell

with open(os.environ["WORKFLEET_RECORD"], "w") as file:
    json.dump({"unit": "u", "pid": os.getpid(), "starttime": 1, "generation": "G", "starts": 7}, file)
task = {"task": "app.tasks.send_the_letter_of_the_month", "since": None, "acked": False}
tasks = [{**task, "id": f"0b0b8c5e-7d5b-4c0a-9d54-{number:012}"} for number in range(30_000)]
workfleet_tell.quiesced(tasks + [{**task, "id": f"runs {number}", "since": 1700000000.123456} for number in range(2)])
"""


def test_the_record_of_a_node_that_holds_tens_of_thousands_of_tasks_is_read(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    subprocess.run([sys.executable, "-c", HOLDER], check=True, timeout=60,
                   env={"PYTHONPATH": str(RUNNERS), "WORKFLEET_RECORD": str(path)})
    holds = records.decode(files.read(str(path), limit=files.LARGEST_RECORD, theirs=True) or "", "u").record.holds or {}
    assert (holds["before"], holds["held"], len(holds["tasks"]) + holds["more"]) == (2, 30_002, 30_002)
    assert [task["id"] for task in holds["tasks"][:2]] == ["runs 0", "runs 1"]
    assert launch.starts_before(str(path)) == 7
