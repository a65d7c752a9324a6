"""``queues.yml``, ``purge.yml`` and ``restore.yml`` as a user runs them, the first host of the inventory out of reach."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines.celery.wire import task_message
from plugins.module_utils.workfleet.engines.verbs.stash import Choice
from plugins.module_utils.workfleet.queues.purge import Run
from tests import warm
from tests.integration.owned import ANY
from tests.integration.supervised import ME, MY_GROUP

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import RedisServer

#: Ansible's own for a run in which a host could not be reached.
UNREACHABLE = 4
#: What an inventory has for something else; playbooks take such words from -e alone.
ITS_OWN = {"queue": "mail", "sample_seconds": 3600, "force": True, "dump_dir": "/nowhere", "confirm": "no", "dump": "none",
           "task_name": "x", "priority": 3, "older_than": "long", "group": "staff", "version": "main", "release": "bookworm"}


class Operator:
    """Somebody with an inventory of two hosts, of which the first is down."""

    def __init__(self, redis: RedisServer, folder: Path) -> None:
        self.folder = folder
        groups = [{"name": "reports", "engine": "celery", "app": "app", "queues": ["q"]}]
        app = {"app_name": "shop", "app_user": ME, "app_group": MY_GROUP, "app_root": str(folder / "app"), "app_broker_url": redis.url(),
               "worker_manager": "supervisor", "worker_groups": groups, "ansible_python_interpreter": sys.executable,
               "ansible_become": False}
        away = {"ansible_host": "127.0.0.1", "ansible_port": 1, "app_user": "shop", "app_group": "shop"}
        hosts = {"web0": {**app, **away}, "web1": {"ansible_connection": "local", **app}}
        self.inventory = folder / "inventory.json"
        self.inventory.write_text(json.dumps({"workers": {"hosts": hosts, "vars": ITS_OWN}}))

    def play(self, name: str, *words: str, expect: int = UNREACHABLE, **extra: Any) -> str:
        """Run a playbook; return what it said."""
        done = warm.play(["-i", str(self.inventory), f"playbooks/{name}.yml",
                          "-e", json.dumps({"dump_dir": str(self.folder / "dumps"), **extra}), *words], env={"ANSIBLE_SSH_RETRIES": "0"})
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def operator(redis_server: RedisServer, tmp_path: Path) -> Operator:
    for number in range(5):
        redis_server.call("LPUSH", "q", task_message("app.a", "q", [number]).text)
    return Operator(redis_server, tmp_path)


def test_the_next_host_is_asked_and_a_purge_goes_and_comes_back(operator: Operator, redis_server: RedisServer) -> None:
    """With the first worker host down none of them could be used."""
    before = redis_server.call("LRANGE", "q", 0, -1)
    said = operator.play("queues", sample_seconds=0)
    assert re.search(r"q +celery +5 ", said) and "asked the broker, for 1 of 2 hosts, 1 of 2 nodes (not web0)" in said
    assert "q: 5 tasks would be purged" in operator.play("purge", "--check", queue="q")
    said = operator.play("purge", queue="q", confirm="purge shop q")
    dump = re.findall(r"q: 5 tasks are dumped and gone: (\S+\.dump)", said)[0]
    assert redis_server.call("EXISTS", "q") == 0
    assert "q: 5 of 5 tasks would be put back" in operator.play("restore", "--check", dump=dump)
    assert "q: 5 of 5 tasks put back" in operator.play("restore", dump=dump)
    assert redis_server.call("LRANGE", "q", 0, -1) == before
    checked = operator.play("restore", "--check", dump=dump)
    assert "q: 0 of 5 tasks would be put back; they were already" in checked
    assert re.search(r"web1 .*changed=0 ", checked)


def test_what_a_killed_purge_left_is_told_and_put_back(operator: Operator, redis_server: RedisServer, tmp_path: Path) -> None:
    with resp.connect(redis_server.url()) as client:
        run = Run(client, "shop", "celery", {}, "ann on laptop", ANY)
        run.write("0123456789", Choice("q"), str(tmp_path / "x.dump"), {})
        run.release()
    assert "queue q: the purge 01234567 was not ended: 5 tasks are out of the queue" in operator.play("queues", sample_seconds=0)
    assert "its tasks are back in the queue" in operator.play("restore")
    assert redis_server.call("LLEN", "q") == 5
    assert "name the dump: -e dump=FILE" in operator.play("restore")


def test_a_queue_that_nobody_knows_is_refused_with_those_that_there_are(operator: Operator, redis_server: RedisServer) -> None:
    """``purge.yml -e queue=mial`` said that there was nothing to purge, and the tasks of ``mail`` stayed."""
    redis_server.call("LPUSH", "left", task_message("app.a", "left", []).text)
    for playbook, words in (("queues", {"sample_seconds": 0}), ("purge", {"confirm": "purge shop mial"}), ("dead_letters", {})):
        said = operator.play(playbook, "--limit", "web1", expect=2, queue="mial", **words)
        assert "queue = 'mial': no worker group consumes it" in said and re.search(r"There are: (left, q|q, left)", said), said
    assert "left: 1 tasks would be purged" in operator.play("purge", "--check", "--limit", "web1", expect=0, queue="left")
