"""Telling Celery nodes to do something while they run, over pidbox; and what they say that they hold.

Answers were observed on celery 5.7: ``{"ok": text}`` or ``{"error": text}`` for a control.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from ... import decode, resp
from ...decode import BadEntry, Fields
from ..verbs.controls import Argument
from ..verbs.report import Held
from . import wire as celery_wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What proves that a node is idle; one question each.
HOLDING = ("active", "reserved", "scheduled", "active_queues")
_LONGEST_ERROR = 1000
_QUEUE = Argument("queue", "text", "queue", required=True)
_TASK = Argument("task_name", "text", "task_name", required=True)
_PROCESSES = Argument("processes", "count", "n")
#: The controls, and what each takes: our names, and Celery's.
CONTROLS: dict[str, tuple[Argument, ...]] = {
    "add_consumer": (_QUEUE,),
    "cancel_consumer": (_QUEUE,),
    "pool_grow": (_PROCESSES,),
    "pool_shrink": (_PROCESSES,),
    "autoscale": (Argument("autoscale_max", "count", "max", required=True), Argument("autoscale_min", "number", "min", required=True)),
    "rate_limit": (_TASK, Argument("rate_limit", "rate", "rate_limit", required=True)),
    "time_limit": (_TASK, Argument("time_limit", "seconds", "hard", required=True), Argument("soft_time_limit", "seconds", "soft")),
    "revoke": (Argument("task_id", "text", "task_id", required=True), Argument("terminate", "flag", "terminate"),
               Argument("signal", "text", "signal")),
}


def ask(
    url: str, nodes: Sequence[str], questions: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any], timeout: float
) -> dict[str, dict[str, Any]]:
    """Send each question, a method of pidbox with its arguments; return what each node answered to each."""
    with resp.connect(url) as client:
        return celery_wire.inspect(client, nodes, questions, timeout=timeout, wire=celery_wire.Wire.parse(options))


def control(
    url: str, nodes: Sequence[str], name: str, arguments: Mapping[str, Any], options: Mapping[str, Any], timeout: float
) -> dict[str, str | None]:
    """Carry a control out on each node; return the error that it answered, or None. Who did not answer is left out."""
    words = {argument.sent: arguments[argument.name] for argument in CONTROLS[name] if argument.name in arguments}
    told = ask(url, nodes, {name: words}, options, timeout)
    return {node: error_in(answers[name]) for node, answers in told.items() if name in answers}


def error_in(answer: Any) -> str | None:
    """Return the error that an answer is."""
    return str(answer["error"])[:_LONGEST_ERROR] if isinstance(answer, dict) and "error" in answer else None


def held(url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Held]:
    """Return what nodes hold and consume; those that did not answer everything are left out."""
    told = ask(url, nodes, {method: {} for method in HOLDING}, options, timeout)
    found = {}
    for node, answers in told.items():
        with contextlib.suppress(BadEntry):
            found[node] = Held(tasks_in(Fields(answers)), tuple(celery_wire.queues_in(Fields(answers))))
    return found


def ran(url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Counter[str]]:
    """Return by name how many tasks nodes have begun since their start, those that run among them, and how many they hold besides.

    A node that did not answer everything is left out; one of the solo pool is silent while it works.
    """
    told = ask(url, nodes, {method: {} for method in ("stats", *HOLDING)}, options, timeout)
    found = {}
    for node, answers in told.items():
        with contextlib.suppress(BadEntry):
            begun = Fields(answers).fields("stats").fields("total").told
            waiting = Counter(task["task"] for task in tasks_in(Fields(answers)) if task["since"] is None)
            celery_wire.queues_in(Fields(answers))  # or it did not answer everything
            found[node] = Counter({str(name): decode.count(count) for name, count in begun.items()}) + waiting
    return found


def tasks_in(answers: Fields) -> tuple[dict[str, Any], ...]:
    """Return all tasks that a node was given and has not finished, those that run first; raises where it does not tell."""
    begun = [(task, task.number("time_start", None)) for task in map(decode.fields, answers.items("active"))]
    waiting = [*map(decode.fields, answers.items("reserved")),
               *(decode.fields(entry).fields("request") for entry in answers.items("scheduled"))]
    return tuple({"id": task.text("id"), "task": task.text("name"), "since": since, "acked": bool(task.told.get("acknowledged"))}
                 for task, since in (*begun, *((task, None) for task in waiting)))


def each_queue(url: str, name: str, queues: Mapping[str, Sequence[str]], options: Mapping[str, Any], timeout: float) -> None:
    """Send a control about one queue to all nodes that have to do with it, queue by queue."""
    for queue in sorted({queue for names in queues.values() for queue in names}):
        ask(url, [node for node, names in queues.items() if queue in names], {name: {"queue": queue}}, options, timeout)
