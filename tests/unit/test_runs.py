"""Which run of a playbook holds a host, and whether it is still there."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.plugin_utils import actions

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


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


def work(run: str, test: Connection) -> None:
    """As a worker does: say whether one is of this run, before and after it was killed, and what then becomes of one's work."""
    actions.require_run()
    test.send(actions.who()["run"] == run)
    test.recv()
    test.send(actions.who()["run"] == run)
    try:
        actions.require_run()
    except AnsibleActionFail as error:
        test.send(str(error))


def play(test: Connection) -> None:
    """Stand in for ansible-playbook, which forks its workers."""
    worker = multiprocessing.get_context("fork").Process(target=work, args=(run_of(os.getpid()), test))
    worker.start()
    worker.join()


def test_a_worker_that_outlives_its_run_is_still_of_that_run_and_changes_nothing_more() -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    run = context.Process(target=play, args=(theirs,))
    run.start()
    theirs.close()
    assert ours.recv() is True
    run.kill()
    run.join()
    ours.send("it was killed")
    assert ours.recv() is True
    assert "was killed: nothing more is changed" in ours.recv()
