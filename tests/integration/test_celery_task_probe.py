"""The module ``task_probe`` as Ansible runs it: through its action plugin, from this checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.celery_fleet import ROOT, Fleet, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("celery")
pytest.importorskip("ansible")
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")


@pytest.fixture(scope="module")
def workers() -> Iterator[Fleet]:
    with fleet() as started:
        started.client.call("CONFIG", "SET", "requirepass", "hunter2")
        started.url = started.url.replace("redis://", "redis://:hunter2@")
        started.environment.update(CELERY_BROKER_URL=started.url, CELERY_RESULT_BACKEND=started.url)
        started.start("a@h", pool="solo")
        started.ready("a@h")
        yield started


def play(folder: Path, arguments: dict[str, Any], *words: str, host: str = "localhost") -> tuple[int, str, dict[str, Any]]:
    """Run a play of this one task; its exit status, its output, and the task's result."""
    task = {"workfleet.core.task_probe": arguments, "register": "told", "ignore_errors": True}
    copy = {"content": "{{ told | to_json }}", "dest": str(folder / "told.json")}
    playbook = {
        "hosts": host, "connection": "local", "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [task, {"ansible.builtin.copy": copy, "check_mode": False}],
    }
    (folder / "play.yml").write_text(json.dumps([playbook]))
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(folder / "tmp")}
    playbook_file = str(folder / "play.yml")
    command = [sys.executable, "-m", "ansible", "playbook", "-i", f"{host},", playbook_file, "-vvv", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=300)
    told = folder / "told.json"
    return done.returncode, done.stdout + done.stderr, json.loads(told.read_text()) if told.exists() else {}


def test_a_queue_that_works_passes_and_one_that_does_not_fails_the_task_by_name(
    workers: Fleet, tmp_path: Path,
) -> None:
    arguments = {"broker_url": workers.url, "result_url": workers.url, "queues": ["reports", "nobody"], "timeout": 3}
    _, said, told = play(tmp_path, arguments)
    assert told.get("failed"), said
    assert [probe["state"] for probe in told["probes"]] == ["ok", "failed"]
    assert "1 of 2 canaries did not come back. nobody: not taken from the queue" in told["msg"]
    assert told["changed"] is False
    assert "hunter2" not in said
    _, _, lenient = play(tmp_path, {**arguments, "must_return": False})
    assert not lenient.get("failed")


def test_check_mode_sends_nothing_and_says_so(workers: Fleet, tmp_path: Path) -> None:
    arguments = {"broker_url": workers.url, "result_url": workers.url, "queues": ["nobody"]}
    _, said, told = play(tmp_path, arguments, "--check")
    probe = {"queue": "nobody", "ok": None, "state": "not proved", "seconds": None,
             "reason": "check mode: nothing was sent", "begun": None}
    assert told["probes"] == [probe], said
    assert workers.client.call("EXISTS", "nobody") == 0


def test_a_wrong_argument_is_refused_on_the_control_node(workers: Fleet, tmp_path: Path) -> None:
    _, _, told = play(tmp_path, {"broker_url": workers.url, "queues": ["a"], "patience": 3})
    assert told["failed"]
    assert "patience" in told["msg"]


def test_without_its_action_plugin_the_module_refuses() -> None:
    from ansible.module_utils.testing import patch_module_args

    from plugins.modules import task_probe

    with patch_module_args({"broker_url": "redis://:hunter2@h", "queues": ["a"]}), pytest.raises(SystemExit) as ended:
        task_probe.main()
    assert ended.value.code == 1
