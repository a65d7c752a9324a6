"""Celery's task events on Redis: published, kept by nobody, so that only who listens at the time gets them.

A message is kombu's, on the channel ``/<db>.celeryev/<kind>``; its body is one event, or a list of them under the kind
``task.multi``. Observed on celery 5.7: the name of a task stands in ``task-sent`` and ``task-received`` alone, and a
worker tells of tasks only with ``-E`` or after the control ``enable_events``; heartbeats come without.
"""

from __future__ import annotations

import base64
import json
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from .. import resp
from . import celery_control, celery_wire, events
from .events import Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Tasks whose name is remembered until they end.
_MOST_NAMES = 100_000
_LONGEST_TEXT = 500
_ENABLED = "task events enabled"  # what a node says that did not send any before
_HOLDING: dict[str, dict[str, Any]] = {"active": {}, "reserved": {}, "scheduled": {}}


class Listener(events.Listener):
    """A subscription to the events of all nodes on a broker."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url, self.wire = url, celery_wire.Wire.parse(options)
        self.names: OrderedDict[str, str] = OrderedDict()
        self.client: resp.Client | None = None

    def open(self) -> None:
        """Subscribe; what is published from now on will be heard."""
        self.close()
        client = resp.connect(self.url)
        try:
            client.subscribe(*self.wire.event_channels(client.address.db))
        except resp.RespError:
            client.close()
            raise
        self.client = client

    def close(self) -> None:
        """Hear no more."""
        if self.client is not None:
            self.client.close()
            self.client = None

    def read(self, seconds: float) -> list[Event]:
        """Return the events of the next message, and of all that have come with it; waits for the first so long."""
        if self.client is None:
            raise resp.RespConnectionError("not subscribed")
        found: list[Event] = []
        until = time.monotonic() + max(seconds, 0.25)  # what comes without a pause is handed on in parts
        message = self.client.message(seconds)
        while message is not None:
            found += (self._event(told) for told in events_in(message[1]))
            message = self.client.message(0) if time.monotonic() < until else None
        return found

    def know(self, names: Mapping[str, str]) -> None:
        """Learn what tasks are, by their ids."""
        self.names.update(names)
        while len(self.names) > _MOST_NAMES:
            self.names.popitem(last=False)

    def _event(self, told: Mapping[str, Any]) -> Event:
        kind, task_id = str(told["type"]), str(told.get("uuid") or "")
        if task_id and told.get("name"):
            self.know({task_id: str(told["name"])})
        runtime = told.get("runtime")
        return Event(
            at=float(told.get("timestamp") or time.time()), event=kind.partition("-")[2], is_of_task=kind.startswith("task-"),
            node=str(told.get("hostname") or ""), task=self.names.get(task_id), id=task_id or None,
            seconds=float(runtime) if isinstance(runtime, (int, float)) else None, text=text(kind, told)[:_LONGEST_TEXT],
            queue=str(told["queue"]) if told.get("queue") else None,
            processed=int(told["processed"]) if isinstance(told.get("processed"), int) else None,
        )


def events_in(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the events of a message. Nothing but JSON is ever decoded: unpickling would run code."""
    try:
        message = json.loads(data)
        body = message["body"]
        if message["content-type"] != "application/json":
            return
        if message["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body)
        told = json.loads(body)
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    yield from (event for event in (told if isinstance(told, list) else [told]) if isinstance(event, dict) and "type" in event)


def text(kind: str, told: Mapping[str, Any]) -> str:
    """Return what there is to say of an event beside its task; arguments and results are the app's own affair."""
    if kind in ("task-failed", "task-retried"):
        return str(told.get("exception") or "")
    if kind == "task-revoked":
        return "terminated" if told.get("terminated") else "expired" if told.get("expired") else "before it began"
    if kind == "task-rejected":
        return "back to its queue" if told.get("requeue") else ""
    if kind == "task-sent":
        return f"to {told['queue']}" if told.get("queue") else ""
    if kind == "task-received":
        words = [f"retry {told['retries']}"] if told.get("retries") else []
        return ", ".join(words + ([f"not before {told['eta']}"] if told.get("eta") else []))
    return ""


class Switch(events.Switch):
    """Has nodes that tell nothing of their tasks do so, for as long as somebody listens."""

    def __init__(self, url: str, options: Mapping[str, Any], beginnings: Sequence[str]) -> None:
        self.url, self.options = url, options
        self.beginnings = tuple(beginnings)
        #: The nodes that will be told to stop: those that said that they sent nothing, and those that were silent.
        self.ours: set[str] = set()

    def look(self) -> tuple[dict[str, str], list[str]]:
        """Ask all nodes what they hold; return the names of these tasks by id, and which nodes are of the wanted groups."""
        with resp.connect(self.url) as client:
            told = celery_wire.inspect(client, None, _HOLDING, timeout=1.0, wire=celery_wire.Wire.parse(self.options))
        names = {}
        for answers in told.values():
            held = {method: answers[method] if isinstance(answers.get(method), list) else [] for method in _HOLDING}
            names.update({task["id"]: task["task"] for task in celery_control.tasks_in(held)})
        return names, sorted(node for node in told if node.startswith(self.beginnings))

    def on(self, nodes: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return which nodes began to send, and which did not answer; those may hear it later."""
        told = celery_control.ask(self.url, nodes, {"enable_events": {}}, self.options, 1.0)
        began = [node for node in nodes if _ok(told.get(node)) == _ENABLED]
        silent = [node for node in nodes if not told.get(node)]
        self.ours.update(began, silent)
        return began, silent

    def off(self) -> None:
        """Leave nodes as they were."""
        if self.ours:
            celery_control.ask(self.url, sorted(self.ours), {"disable_events": {}}, self.options, 1.0)
            self.ours.clear()


def _ok(answers: Mapping[str, Any] | None) -> str:
    answer = (answers or {}).get("enable_events")
    return str(answer.get("ok") or "") if isinstance(answer, dict) else ""
