"""``playbooks/events.yml`` as a user runs it, on real Celery workers; and what is said when events were missed."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines.celery import control as celery_control
from plugins.module_utils.workfleet.host import background
from plugins.module_utils.workfleet.queues import events
from tests.integration.celery_fleet import ROOT, Fleet, fleet
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("celery")
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")
NODES = ("shop.reports.1.1@web1", "shop.default.1.1@web1")
GROUPS = [{"name": name, "app": "app.celery_app", "queues": [name], "drain_seconds": 5} for name in ("reports", "default")]
LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} web1 (reports|default) 1\.1 (\w+) ([\w.]+)\[([-\w]+)\](.*)")


@pytest.fixture(scope="module")
def workers() -> Iterator[Fleet]:
    with fleet() as started:
        for node, queue in zip(NODES, ("reports", "default")):
            started.start(node, queues=queue)
        started.ready(*NODES)
        yield started


def command(workers: Fleet, folder: Path, *words: str, groups: list[dict[str, Any]] | None = None, **extra: Any) -> list[str]:
    """The command line; the inventory declares what runs."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    host = {"app_name": "shop", "app_root": str(folder / "shop"), "app_broker_url": workers.url, "worker_groups": groups or GROUPS, **local}
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"workers": {"hosts": {"web1": host}}}))
    playbook = str(ROOT / "playbooks" / "events.yml")
    return [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), playbook, "-e", json.dumps(extra), *words]


def environment(folder: Path) -> dict[str, str]:
    # Ansible leaves its output to Python's buffer where it is no terminal.
    return {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}


def play(workers: Fleet, folder: Path, *words: str, expect: int = 0, send: str = "", **extra: Any) -> str:
    """Run it; ``send`` is Python that sends tasks as soon as it listens."""
    process = subprocess.Popen(command(workers, folder, *words, **extra), cwd=ROOT, env=environment(folder), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    said = ""
    threading.Timer(120, process.kill).start()
    for line in process.stdout or ():
        said += line
        if send and " nodes, for " in line:
            workers.python(f"from app import tasks\n{send}")
    assert process.wait() == expect, said
    assert not list(folder.glob(f"{background.PREFIX}*")), "nothing is left on the host"
    return said


def are_off(workers: Fleet) -> bool:
    """Whether no node tells of its tasks; asked by switching it on, and off again."""
    before = celery_control.ask(workers.url, NODES, {"enable_events": {}}, {}, 3.0)
    celery_control.ask(workers.url, NODES, {"disable_events": {}}, {}, 3.0)
    return all(told["enable_events"] == {"ok": "task events enabled"} for told in before.values()) and set(before) == set(NODES)


def test_every_event_is_shown_once_of_nodes_that_sent_none_before_and_none_after(workers: Fleet, tmp_path: Path) -> None:
    assert are_off(workers)
    send = "[tasks.count_primes.delay(10) for _ in range(400)]; [tasks.fail.delay() for _ in range(3)]; tasks.flaky.delay(1)"
    said = play(workers, tmp_path, sample_seconds=12, send=send)
    assert "2 of them sent no task events: they do until this ends" in said
    found = LINE.findall(said)
    assert max(Counter((kind, task_id) for _, kind, name, task_id, _ in found if "flaky" not in name).values()) == 1
    assert Counter((group, kind, name) for group, kind, name, _, _ in found if "flaky" not in name) == {
        **{("reports", kind, "app.tasks.count_primes"): 400 for kind in ("received", "started", "succeeded")},
        **{("default", kind, "app.tasks.fail"): 3 for kind in ("received", "started", "failed")}}
    assert [kind for _, kind, name, _, _ in found if "flaky" in name] == [
        "received", "started", "received", "retried", "started", "succeeded"] or "retried" in said
    assert re.search(r"failed app\.tasks\.fail\[\S+\] ReportError\('no such report'\)", said)
    assert re.search(r"-- \d+ received, .*400 succeeded|401 succeeded", said)
    assert "may have been" not in said
    assert are_off(workers)


def test_what_is_chosen_is_shown_alone(workers: Fleet, tmp_path: Path) -> None:
    send = "tasks.count_primes.delay(10); tasks.fail.delay(); tasks.fetch.delay(0)"
    said = play(workers, tmp_path, sample_seconds=4, queue="default", task_name="app.tasks.fetch", send=send)
    assert [(kind, name) for _, kind, name, _, _ in LINE.findall(said)] == [
        (kind, "app.tasks.fetch") for kind in ("received", "started", "succeeded")]
    said = play(workers, tmp_path, sample_seconds=4, level="error", worker_only="default", send=send)
    assert [(kind, name) for _, kind, name, _, _ in LINE.findall(said)] == [("failed", "app.tasks.fail")]


def test_check_mode_leaves_nodes_as_they_are_and_tells_which_say_nothing(workers: Fleet, tmp_path: Path) -> None:
    said = play(workers, tmp_path, "--check", sample_seconds=8, send="import time; time.sleep(2.5); tasks.fetch.delay(0)")
    assert LINE.findall(said) == []
    assert f"{NODES[1]} has begun 1 tasks and told of none: it sends no task events" in said
    assert are_off(workers)


@pytest.mark.parametrize(("extra", "said"), [
    ({"level": "loud"}, "level = 'loud': must be one of debug, info, warning, error"),
    ({"sample_seconds": 0}, "sample_seconds = 0: must be above 0"),
    ({"follow": True}, "follow shows events in a terminal until it is interrupted, and there is none"),
    ({"queue": "nobody"}, "queue = 'nobody': no group with task events consumes it"),
    ({"groups": [{**GROUPS[0], "queues": ["a", "b"]}], "queue": "a"}, "reports consumes others too, and a worker's events do not tell"),
    ({"groups": [{"name": "flows", "engine": "arq", "app": "app.worker.WorkerSettings"}]},
     "-- flows: engine arq has none: logs.yml -e follow=true shows"),
])
def test_what_cannot_be_followed_is_refused(workers: Fleet, tmp_path: Path, extra: dict[str, Any], said: str) -> None:
    assert said in " ".join(play(workers, tmp_path, expect=2, **extra).split())


def test_in_a_terminal_it_goes_on_until_it_is_interrupted(workers: Fleet, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command(workers, tmp_path, follow=True), cwd=ROOT, env=environment(tmp_path), stdin=subprocess.DEVNULL,
                               stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said, is_sent, deadline = b"", False, time.monotonic() + 60
    try:
        while time.monotonic() < deadline and said.count(b"] 0.") < 30:
            if select.select([ours], [], [], 1)[0]:
                said += os.read(ours, 65536)
            if b"until it is interrupted" in said and not is_sent:
                is_sent = True
                workers.python("from app import tasks\n[tasks.count_primes.delay(10) for _ in range(30)]")
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
        os.close(ours)
    assert said.count(b"succeeded app.tasks.count_primes[") == 30, said.decode()
    shutil.rmtree(next(tmp_path.glob(f"{background.PREFIX}*")))  # its process ends by that, at once and not after the lease
    until(lambda: are_off(workers))


def test_a_lost_connection_is_said_and_mended_and_what_comes_after_is_heard(workers: Fleet) -> None:
    order = {"engine": "celery", "url": workers.url, "options": {}, "groups": ["shop."], "seconds": 10, "switch": True,
             "wish": {"task": "app.tasks.fetch"}}
    directory = background.start(lambda working: events.start(order, working))
    found: list[dict[str, Any]] = []
    begun, cut = time.monotonic(), False
    while not (found and found[-1].get("last")):
        found += background.take(directory)
        if any("listening" in item for item in found) and not cut:
            cut = True
            for line in resp.text(workers.client.call("CLIENT", "LIST", "TYPE", "pubsub")).splitlines():
                if "cmd=psubscribe" in line and " psub=2 " in line:
                    workers.client.call("CLIENT", "KILL", "ID", re.sub(r".*\bid=(\d+) .*", r"\1", line))
            until(lambda: time.monotonic() > begun + 3)
            workers.python("from app import tasks\ntasks.fetch.delay(0)")
    notes = [item["note"] for item in found if "note" in item]
    assert "events from now on are missing" in notes[0]
    assert re.search(r"the broker is there again: events of [0-2]\.\d s are missing", notes[1])
    assert [item["event"]["event"] for item in found if "event" in item] == ["received", "started", "succeeded"]
    assert found[-1] == {"last": True, "error": None}
    assert are_off(workers)


def test_a_node_that_comes_later_is_heard_too(workers: Fleet) -> None:
    order = {"engine": "celery", "url": workers.url, "options": {}, "groups": ["shop."], "seconds": 25, "switch": True,
             "wish": {"beginnings": ["shop.late."]}}
    directory = background.start(lambda working: events.start(order, working))
    workers.start("shop.late.1.1@web1", queues="late")
    workers.ready("shop.late.1.1@web1")
    found: list[dict[str, Any]] = []
    sent = False
    while not (found and found[-1].get("last")):
        found += background.take(directory)
        if not sent and any("shop.late.1.1@web1" in str(item.get("note")) for item in found):
            sent = True
            workers.python("from app import tasks\ntasks.fetch.apply_async([0], queue='late')")
    assert [item["event"]["event"] for item in found if "event" in item and item["event"]["is_of_task"]] == [
        "received", "started", "succeeded"]
