"""An app whose kombu lays things out in another way: what ``app_broker_options`` tells holds for looks, purges and dead letters too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.engines.celery.letters import CeleryLetters
from plugins.module_utils.workfleet.engines.celery.wire import task_message
from plugins.module_utils.workfleet.engines.taskqueue import Source
from plugins.module_utils.workfleet.engines.verbs.stash import Choice
from plugins.module_utils.workfleet.queues import info as queues
from plugins.module_utils.workfleet.queues import letters
from plugins.module_utils.workfleet.queues import purge as steps
from tests.integration import celery_fleet
from tests.integration.owned import ANY
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPTIONS: dict[str, Any] = {"global_keyprefix": "{shop}:", "sep": "~", "priority_steps": [0, 2, 5, 8]}
SEND = ("from app import tasks\nfrom app.celery_app import celery_app\n"
        f"celery_app.conf.broker_transport_options = {OPTIONS!r}\n")
SETTINGS = {"broker_transport_options": OPTIONS, "task_acks_late": True}


@pytest.fixture
def fleet() -> Iterator[celery_fleet.Fleet]:
    with celery_fleet.fleet() as started:
        yield started


def look(fleet: celery_fleet.Fleet, *names: str) -> dict[str, Any]:
    found = queues.look("shop", [Source("celery", fleet.url, names, OPTIONS)])
    return {**{entry["queue"]: entry for entry in found["queues"]}, "problems": found["problems"]}


def lists(fleet: celery_fleet.Fleet) -> dict[str, list[bytes]]:
    keys = sorted(fleet.client.call("KEYS", "{shop}:reports*"))
    return {key.decode(): fleet.client.call("LRANGE", key, 0, -1) for key in keys}


def test_what_waits_what_workers_hold_and_who_they_are(fleet: celery_fleet.Fleet) -> None:
    fleet.python(SEND + "for p in [0, 1, 2, 4, 5, 9]: tasks.fetch.apply_async((30,), queue='reports', priority=p)\n"
                        "tasks.fetch.apply_async((0,), queue='forgotten')")
    found = look(fleet, "reports")
    assert (found["reports"]["waiting"], found["reports"]["priorities"]) == (6, {"0": 2, "2": 2, "5": 1, "8": 1})
    assert (found["forgotten"]["waiting"], found["forgotten"]["declared"]) == (1, False)
    assert look(fleet, "reports")["reports"]["oldest_age_is"] == "at_least"
    fleet.start("w@h", "--prefetch-multiplier", "2", queues="reports", settings=SETTINGS)
    until(lambda: look(fleet, "reports")["reports"]["running"] == 1)
    found = look(fleet, "reports")
    assert [found["reports"][name] for name in ("unacknowledged", "consumers", "waiting")] == [2, 1, 4]
    assert found["problems"] == ["queue forgotten: 1 tasks wait and no node consumes it"]
    assert all(key.startswith(("{shop}:", "_kombu")) for key in fleet.all_keys()), fleet.all_keys()


def test_a_purge_its_restore_and_one_priority(fleet: celery_fleet.Fleet, tmp_path: Path) -> None:
    fleet.python(SEND + "for p in [0, 2, 2, 5, 8]: tasks.fetch.apply_async((0,), queue='reports', priority=p)")
    before = lists(fleet)
    assert sorted(before) == ["{shop}:reports", "{shop}:reports~2", "{shop}:reports~5", "{shop}:reports~8"]
    run = steps.Run(fleet.client, "shop", "celery", OPTIONS, "a test", ANY)
    for number, (priority, count) in enumerate([(None, 5), (2, 2)]):
        given = {"id": f"id{number}", "step": "write", "path": str(tmp_path / f"{number}"), "force": False, "header": {}}
        choice = Choice("reports", priority=priority)
        assert steps.step(run, given, choice, check=True)["records"] == count
        assert steps.step(run, given, choice, check=False)["records"] == count
        assert all(key.startswith("{shop}:") for key in fleet.all_keys() if "workfleet" in key)
        steps.step(run, {**given, "step": "commit"}, choice, check=False)
        assert sum(map(len, lists(fleet).values())) == 5 - count
        assert steps.restore(run, str(given["path"]), "", force=False)["restored"] == count
        assert lists(fleet) == before


def test_a_dead_letter_goes_to_the_list_of_its_priority(fleet: celery_fleet.Fleet) -> None:
    message = task_message("app.tasks.fetch", "reports", [0])
    fleet.client.call("LPUSH", "{shop}:dead~5", message.text)
    dead = CeleryLetters(fleet.client, "reports", {**OPTIONS, "deadletter_queue": "dead"})
    assert letters.work(dead, None, None, replay=True, check=False)["replayed"] == 1
    assert {key: [json.loads(text)["headers"]["id"] for text in texts] for key, texts in lists(fleet).items()} == {
        "{shop}:reports~5": [message.id]}
    fleet.start("w@h", queues="reports", settings=SETTINGS)
    until(lambda: fleet.client.call("EXISTS", f"celery-task-meta-{message.id}"))
