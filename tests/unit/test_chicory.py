"""What is said about declarations of Chicory groups, what they become, and what heartbeats tell."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest

from plugins.module_utils.workfleet import engines, model
from plugins.module_utils.workfleet.engines.base import Place
from plugins.module_utils.workfleet.engines.chicory import load as chicory_load
from plugins.module_utils.workfleet.engines.chicory import options as chicory_options
from plugins.module_utils.workfleet.engines.chicory import wire as chicory_wire
from plugins.module_utils.workfleet.engines.options import Option
from plugins.module_utils.workfleet.engines.verbs.report import Report
from plugins.module_utils.workfleet.host import processes
from plugins.module_utils.workfleet.spec import checker
from plugins.module_utils.workfleet.spec import workers as spec

PLACE = Place(node="events.slow.1.1@h", directory="/opt/events/src", environment="/opt/events/venv", runners="/opt/events/workfleet")
VALUES: dict[str, Any] = {"flag": True, "text": "x", "int": 10000, "float": 40.5}
CHICORY = engines.named("chicory")


def declared(**keys: Any) -> model.Declaration:
    entry = {"name": "slow", "engine": "chicory", "app": "app.tasks:app", "drain_seconds": 60, **keys}
    given = {name: value for name, value in entry.items() if value is not None}
    return spec.parse({"app": {"name": "events"}, "groups": [given]})


def problems(**keys: Any) -> list[str]:
    with pytest.raises(checker.SpecError) as raised:
        declared(**keys)
    return raised.value.problems


def test_a_group_becomes_the_runners_command_line_and_its_settings_environment() -> None:
    options = {"dlq": True, "heartbeat_interval": 2.5, "log_level": "WARNING", "workers": 1}
    settings = {"broker_redis_claim_min_idle_ms": 60000, "delivery_mode": "at_most_once", "backend_postgres_echo": False}
    group = declared(queues=["slow"], concurrency=4, options=options, settings=settings).groups[0]
    assert CHICORY.command(group, PLACE) == [
        "/opt/events/venv/bin/python", "/opt/events/workfleet/workfleet_chicory.py", "--node=events.slow.1.1@h", "--queue=slow",
        "--concurrency=4", "--dlq", "--heartbeat-interval=2.5", "--log-level=WARNING", "app.tasks:app",
    ]
    assert CHICORY.trial(CHICORY.command(group, PLACE), PLACE.runners, 60) == [*CHICORY.command(group, PLACE), "--check"]
    assert CHICORY.trial(["chicory", "worker", "tasks:app"], PLACE.runners, 60) == []
    assert CHICORY.environment(group, PLACE) == {
        "CHICORY_BROKER_REDIS_CLAIM_MIN_IDLE_MS": "60000", "CHICORY_DELIVERY_MODE": "at_most_once",
        "CHICORY_BACKEND_POSTGRES_ECHO": "false",
    }
    assert "--no-dlq" in CHICORY.command(declared(options={"dlq": False}).groups[0], PLACE)


def test_another_drain_time_is_no_other_command_for_a_running_node_must_not_be_restarted_for_it() -> None:
    short, long = (declared(drain_seconds=seconds).groups[0] for seconds in (10, 1000))
    assert CHICORY.command(short, PLACE) == CHICORY.command(long, PLACE)
    assert CHICORY.environment(short, PLACE) == CHICORY.environment(long, PLACE)


def test_every_usable_option_and_setting_is_taken_and_rendered() -> None:
    def values(table: dict[str, Option]) -> dict[str, Any]:
        return {name: option.choices[0] if option.choices else VALUES[option.kind] for name, option in table.items() if not option.refused}

    options = {**values(chicory_options.OPTIONS), "heartbeat_ttl": 90}
    assert chicory_options.check(options) == []
    assert len(chicory_options.render(options)) == len(options)
    settings = values(chicory_options.SETTINGS)
    assert chicory_options.check_settings(settings) == []
    assert len(chicory_options.environment(settings)) == len(settings)


@pytest.mark.parametrize(("keys", "said"), [
    ({"app": None}, "app: is required for engine chicory: module:app"),
    ({"app": "app.tasks"}, "app = 'app.tasks': must be module:app"),
    ({"app": "app.tasks:app; rm"}, "must be module:app"),
    ({"queues": ["a", "b"]}, "queues: a Chicory worker consumes one queue, given are 2; declare a worker group for each"),
    ({"command": ["python", "start.py"], "options": {"dlq": True}}, "command: replaces the runner"),
    ({"command": ["chicory", "worker", "tasks:app", "--workers", "4"]}, "command: --workers 4: Chicory does not start a child again"),
    ({"command": ["/venv/bin/chicory", "worker", "tasks:app", "-w4"]}, "command: --workers 4: Chicory does not start a child again"),
    ({"options": {"workers": 4}}, "options.workers: refused: Chicory does not start a child again that died"),
    ({"options": {"heartbeat_intervall": 2}}, "options.heartbeat_intervall: no such name; did you mean heartbeat_interval? Known: "),
    ({"options": {"queue": "slow"}}, "options.queue: refused: use the group's key queues"),
    ({"options": {"dlq": "yes"}}, "options.dlq = 'yes': must be true or false"),
    ({"options": {"heartbeat_ttl": 5}}, "options.heartbeat_ttl = 5: must be above heartbeat_interval = 10"),
    ({"options": {"shutdown_timeout": 61}}, "options.shutdown_timeout = 61: is above drain_seconds = 60"),
    ({"settings": {"broker_redis_claim_idle_ms": 1}}, "settings.broker_redis_claim_idle_ms: no such name; did you mean broker_redis_cl"),
    ({"settings": {"broker_redis_claim_min_idle_ms": 10}}, "claim_min_idle_ms = 10: must be a whole number, 1000 or more"),
    ({"settings": {"broker_redis_host": "h"}}, "settings.broker_redis_host: refused: the broker is app_broker_url"),
    ({"settings": {"worker_concurrency": 2}}, "settings.worker_concurrency: refused: use options.concurrency, or the"),
    ({"settings": {"broker_rabbitmq_host": "h"}}, "settings.broker_rabbitmq_host: refused: the toolkit runs and inspects"),
])
def test_what_cannot_be_is_refused_with_the_reason(keys: dict[str, Any], said: str) -> None:
    assert said in "\n".join(problems(**keys))


def test_a_password_among_the_settings_is_refused_and_not_shown() -> None:
    (said,) = problems(settings={"backend_postgres_password": "s3cret"})
    assert "put CHICORY_BACKEND_POSTGRES_PASSWORD into the group's secrets" in said
    assert "s3cret" not in said


@pytest.mark.parametrize(("keys", "said"), [
    ({"drain_seconds": None}, "drain_seconds is not set, and Chicory has no time limit: a task longer than 300 s is cut short"),
    ({"command": ["chicory", "worker", "tasks:app"]}, "command: Chicory's own command cancels running tasks"),
    ({"env": {"CHICORY_WORKER_QUEUE": "x"}}, "environment CHICORY_WORKER_QUEUE: a node does not read it; use the group's key queues"),
    ({"secrets": {"CHICORY_WORKER_SHUTDOWN_TIMEOUT": "9"}}, "environment CHICORY_WORKER_SHUTDOWN_TIMEOUT: a node does not read it"),
    ({"env": {"CHICORY_BROKER_REDIS_KEY_PREFIX": "x"}}, "environment CHICORY_BROKER_REDIS_KEY_PREFIX: Chicory declares it and never reads"),
    ({"env": {"CHICORY_BROKER_REDIS_BLOCK_MS": "9"}, "settings": {"broker_redis_block_ms": 8}}, "wins over settings.broker_redis_block_ms"),
])
def test_what_will_hurt_is_warned_of(keys: dict[str, Any], said: str) -> None:
    assert said in "\n".join(declared(**keys).warnings)


def test_a_plain_declaration_has_no_warning() -> None:
    assert declared(queues=["slow"], env={"CHICORY_WORKER_CONCURRENCY": "4"}).warnings == ()


def beat(**facts: Any) -> bytes:
    told = {"worker_id": "x", "hostname": "h", "pid": 7, "queue": "slow", "concurrency": 4, "tasks_processed": 9, "tasks_failed": 2,
            "active_tasks": 3, "is_running": True}
    return json.dumps({**told, **facts}).encode()


def test_a_heartbeat_is_a_report_and_what_is_none_is_not() -> None:
    report = Report(pid=7, concurrency=4, running=3, reserved=0, processed=11, failed=2, queues=["slow"])
    assert chicory_wire.parsed(beat()) == [report]
    # Chicory's own command counts what it has fetched and not begun.
    (crowded,) = chicory_wire.parsed(beat(active_tasks=10))
    assert (crowded.running, crowded.reserved) == (4, 6)
    for none in (None, beat(is_running=False), b"[]", b"no json", beat(pid=None)):
        assert chicory_wire.parsed(none) == []


def test_a_process_knows_its_unit_by_its_run_record() -> None:
    variables = {**os.environ, "WORKFLEET_RECORD": "/run/workfleet/events/workfleet.events.slow.1.1.json"}
    words = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(words, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"\n"
        assert processes.unit_of(child.pid) == "workfleet.events.slow.1.1"
        child.communicate(b"\n")
    assert processes.unit_of(child.pid) == ""


def test_a_canary_is_a_pickle_of_plain_values() -> None:
    task_id, data = chicory_load.message("workfleet.probe", ["a"], {})
    assert pickle.loads(data) == {"id": task_id, "name": "workfleet.probe", "args": ["a"], "kwargs": {}}  # noqa: S301 - our own
