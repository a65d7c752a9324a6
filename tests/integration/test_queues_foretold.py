"""Emptying queues, putting dumps back and dead letters: what a check says is what the run then does, and the check does nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines.celery.wire import task_message
from tests.integration.celery_fleet import ROOT
from tests.integration.test_purge import everything

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer

GROUP = {"name": "reports", "app": "app", "queues": ["reports"], "drain_seconds": 5}


def tasks(client: resp.Client) -> dict[bytes, Any]:
    """All but what the toolkit notes for itself, such as since when it has seen a task at a queue's end."""
    return {key: value for key, value in everything(client).items() if not key.startswith(b"workfleet:")}


class Play:
    """An app's queues, worked on by one task of a play on this machine."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.shared = {"app": {"name": "shop", "root": str(folder / "shop"), "broker_url": url,
                               "broker_options": {"deadletter_queue": "dead"}}, "groups": [GROUP], "hosts": ["localhost"]}

    def run(self, module: str, *words: str, **arguments: Any) -> dict[str, Any]:
        """Return the task's result."""
        task = {f"workfleet.core.{module}": {**self.shared, **arguments}, "register": "told"}
        copy = {"content": "{{ told | to_json }}", "dest": str(self.folder / "told.json")}
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": {"ansible_python_interpreter": sys.executable},
                "tasks": [task, {"ansible.builtin.copy": copy, "check_mode": False}]}
        (self.folder / "play.yml").write_text(json.dumps([play]))
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp")}
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(self.folder / "play.yml"), *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads((self.folder / "told.json").read_text()))

    def foretold(self, module: str, *keys: str, **arguments: Any) -> dict[str, Any]:
        """Run in check mode and then really; what these keys say is the same. Return the result."""
        before = tasks(self.client)
        predicted = self.run(module, "--check", "--diff", **arguments)
        assert tasks(self.client) == before, "a check changes nothing"
        done = self.run(module, "--diff", **arguments)
        assert {key: done[key] for key in keys} == {key: predicted[key] for key in keys}
        assert done["changed"] and tasks(self.client) != before
        return done

    client: resp.Client


@pytest.fixture
def play(redis_server: RedisServer, tmp_path: Path) -> Iterator[Play]:
    made = Play(tmp_path, redis_server.url(2))
    with resp.connect(redis_server.url(2)) as made.client:
        yield made


def test_a_purge_and_a_restore_do_what_a_check_says(play: Play) -> None:
    for _ in range(3):
        play.client.call("LPUSH", "reports", task_message("t", "reports").text)
    before = tasks(play.client)
    purged = play.foretold("queue_purge", "changed", "records", queue="reports", confirm="purge shop reports",
                           dump_dir=str(play.folder / "dumps"))
    assert (purged["records"], play.client.call("LLEN", "reports")) == (3, 0)
    restored = play.foretold("queue_restore", "changed", "queue", "records", "restored", dump=purged["dump"])
    assert restored["restored"] == 3
    assert tasks(play.client) == before


@pytest.mark.parametrize("letters", ["replay all", "drop all"])
def test_what_is_done_to_dead_letters_is_what_a_check_says(play: Play, letters: str) -> None:
    for name in ("t.one", "t.two"):
        play.client.call("LPUSH", "dead", task_message(name, "reports").text)
    done = play.foretold("dead_letter", "changed", "replayed", queue="reports", letters=letters, confirm="drop shop reports",
                         dump_dir=str(play.folder / "dumps"))
    assert {letter["task_name"] for letter in done["letters"]} == {"t.one", "t.two"}
    assert play.client.call("LLEN", "reports") == (2 if letters == "replay all" else 0)
    assert play.client.call("LLEN", "dead") == 0
