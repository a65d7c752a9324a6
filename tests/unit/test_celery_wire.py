"""Keys, channels and messages as pure values; the rest is proved with real workers."""

from __future__ import annotations

import base64
import json

import pytest

from plugins.module_utils.workfleet.decode import BadEntry, Fields
from plugins.module_utils.workfleet.engines.celery import control as celery_control
from plugins.module_utils.workfleet.engines.celery import wire
from plugins.module_utils.workfleet.engines.verbs.report import Report
from plugins.module_utils.workfleet.errors import WorkfleetError


def test_lists_of_a_queue_are_kombu_s_and_the_most_urgent_is_first() -> None:
    assert wire.Wire().lists("q") == ["q", "q\x06\x163", "q\x06\x166", "q\x06\x169"]
    other = wire.Wire.parse({"global_keyprefix": "p:", "sep": ":", "priority_steps": [9, 0]})
    assert other.lists("q") == ["p:q", "p:q:9"]


@pytest.mark.parametrize(("options", "channel"), [
    ({}, "/3.celery.pidbox"),
    ({"control_exchange": "mine"}, "/3.mine.pidbox"),
    ({"fanout_prefix": False}, "celery.pidbox"),
    ({"fanout_prefix": "x{db}:"}, "x3:celery.pidbox"),
    ({"global_keyprefix": "p:"}, "p:/3.celery.pidbox"),
])
def test_the_channel_has_the_database_and_the_app_s_own_names(options: dict[str, object], channel: str) -> None:
    assert wire.Wire.parse(options).channel(3) == channel


@pytest.mark.parametrize(("prefix", "joined"), [("", ""), ("a", "a_"), ("a:", "a:")])
def test_a_result_s_key_has_the_result_store_s_prefix_as_celery_joins_it(prefix: str, joined: str) -> None:
    assert wire.Wire(result_global_keyprefix=prefix).result("i") == f"{joined}celery-task-meta-i"


@pytest.mark.parametrize("options", [
    {"priority_steps": []}, {"priority_steps": "0,3"}, {"priority_steps": [0, 10]}, {"sep": 3}, {"nosuch": 1},
])
def test_wrong_broker_options_are_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(WorkfleetError, match=f"app_broker_options: .*{next(iter(options))}"):
        wire.Wire.parse(options)


def test_options_that_change_no_key_are_accepted() -> None:
    assert wire.Wire.parse({"visibility_timeout": 7200}) == wire.Wire()


def test_what_a_node_cannot_tell_is_none_and_never_zero() -> None:
    assert wire.report({}) == Report()
    assert wire.report({"stats": {"error": "KeyError()"}, "active": {"error": "x"}}) == Report()


def test_the_figures_of_a_node() -> None:
    stats = {"pid": 7, "total": {"a": 2, "b": 3}, "pool": {"max-concurrency": 4}}
    answers = {"stats": stats, "active": [{}], "reserved": [{}, {}], "active_queues": [{"name": "q"}]}
    assert wire.report(answers) == Report(7, 4, 1, 2, 5, None, ("q",))


def test_pickled_answers_are_never_loaded_but_told() -> None:
    reply = {"body": "gASVIg==", "content-type": "application/x-python-serialize", "headers": {"ticket": "ping"},
             "properties": {}}
    with pytest.raises(WorkfleetError, match="only JSON is read"):
        wire._answers(json.dumps(reply).encode())


@pytest.mark.parametrize("reply", [b"", b"{}", b"[]", b"nonsense", b'{"content-type": "application/json"}'])
def test_an_answer_that_makes_no_sense_is_a_bad_entry(reply: bytes) -> None:
    with pytest.raises(BadEntry):
        wire._answers(reply)


def reply(answer: object) -> bytes:
    return wire._envelope({"shop_a-1@h": answer}, {"ticket": "active"}).encode()


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), "\ud800"])
def test_what_an_app_gives_its_tasks_silences_no_node(odd: object) -> None:
    task = {"id": "i", "name": "t", "args": [odd], "kwargs": {"k": odd}, "time_start": 1.0, "acknowledged": True}
    [(node, method, answer)] = wire._answers(reply([task, {**task, "id": f"i{odd}"}]))
    assert (node, method) == ("shop_a-1@h", "active")
    told = celery_control.tasks_in(Fields({"active": answer, "reserved": [], "scheduled": []}))
    assert [item["id"] for item in told] == ["i", "i?" if odd == "\ud800" else f"i{odd}"]
    json.dumps(told, allow_nan=False, ensure_ascii=False).encode()


def test_a_number_that_is_none_is_no_figure_of_a_node() -> None:
    [(_, _, answer)] = wire._answers(reply({"pid": float("nan")}))
    assert wire.report({"stats": answer}).pid is None


def test_a_node_that_holds_thousands_of_tasks_is_no_silent_one() -> None:
    request = {"id": "0b0b8c5e-7d5b-4c0a-9d54-000000000000", "name": "app.tasks.send_the_letter", "args": [12345, "x" * 100], "kwargs": {},
               "type": "app.tasks.send_the_letter", "hostname": "shop_mail-1@host-1", "time_start": None, "acknowledged": False,
               "delivery_info": {"exchange": "", "routing_key": "mail", "priority": 0, "redelivered": None}, "worker_pid": None}
    tasks = [{"eta": "2030-01-01T00:00:00+00:00", "priority": 6, "request": request}] * 15_000
    [(_, _, answer)] = wire._answers(reply(tasks))
    assert len(answer) == 15_000


def test_a_task_message_is_celery_s_protocol_2() -> None:
    made = wire.task_message("t", "q", (1,), {"k": 2}, expires=10)
    message = json.loads(made.text)
    assert json.loads(base64.b64decode(message["body"]))[:2] == [[1], {"k": 2}]
    assert message["headers"]["id"] == message["properties"]["correlation_id"] == made.id
    assert message["properties"]["delivery_tag"] == made.tag
    assert message["properties"]["delivery_info"]["routing_key"] == "q"
