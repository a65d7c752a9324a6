"""Which run of a playbook holds a host, and whether it is still there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.plugin_utils import actions


def run_of(pid: int) -> str:
    """Return the name of a run whose ansible-playbook has this process id here."""
    return f"{actions.who()['run'].rpartition('.')[0]}.{pid}"


def test_a_run_has_ended_when_its_process_here_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not actions.has_ended(run_of(child.pid))
    child.communicate()
    assert actions.has_ended(run_of(child.pid))
    assert not actions.has_ended(actions.who()["run"])


@pytest.mark.parametrize("run", [None, "", "run 1", f"other-host.{os.getpid()}", "other-host.0123456789ab.4711"])
def test_of_a_run_of_another_machine_nobody_here_can_tell(run: str | None) -> None:
    assert not actions.has_ended(run)


def test_process_ids_of_another_boot_or_container_mean_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = run_of(2**22 + 1)
    assert actions.has_ended(gone)
    monkeypatch.setattr(os, "readlink", lambda path: "pid:[4711]")
    assert not actions.has_ended(gone)


def test_a_worker_that_outlives_its_run_changes_nothing_more() -> None:
    actions.require_run(actions.who()["run"])
    reads, writes = os.pipe()
    if (run := os.fork()) == 0:  # ansible-playbook, whose worker is forked from it
        if os.fork() == 0:
            declared = actions.who()["run"]
            os.kill(os.getppid(), signal.SIGKILL)
            while actions.who()["run"] == declared:
                time.sleep(0.01)
            try:
                actions.require_run(declared)
            except AnsibleActionFail as error:
                os.write(writes, str(error).encode())
            os._exit(0)
        time.sleep(60)
        os._exit(1)
    os.close(writes)
    os.waitpid(run, 0)
    with open(reads, encoding="utf-8") as said:
        assert "was killed: nothing more is changed" in said.read()
