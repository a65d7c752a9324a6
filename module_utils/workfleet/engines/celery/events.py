"""Celery's task events on Redis: published, kept by nobody, so that only who listens at the time gets them.

A message is kombu's, on the channel ``/<db>.celeryev/<kind>``; its body is one event, or a list of them under the kind
``task.multi``. Observed on celery 5.7: the name of a task stands in ``task-sent`` and ``task-received`` alone, and a
worker tells of tasks only with ``-E`` or after the control ``enable_events``; heartbeats come without.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ... import decode, resp
from ...decode import BadEntry, Fields
from ..verbs import events
from ..verbs.events import Event
from . import control as celery_control
from . import wire as celery_wire
from .message import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Tasks whose name is remembered until they end.
_MOST_NAMES = 50_000
_LONGEST_TEXT = 500
_LONGEST_NAME = 250
#: Bytes of one message of events.
_LARGEST = 1 << 20
_ENABLED = "task events enabled"  # what a node says that did not send any before
_HOLDING: dict[str, dict[str, Any]] = {"active": {}, "reserved": {}, "scheduled": {}}


class Listener(events.Listener):
    """A subscription to the events of all nodes on a broker."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url, self.wire = url, celery_wire.Wire.parse(options)
        self.names: OrderedDict[str, str] = OrderedDict()
        self.client: resp.Client | None = None
        self.unread = decode.Unread()

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
            with self.unread.entry(message[0]):
                for told in events_in(message[1]):
                    with self.unread.entry(message[0]):
                        found.append(self._event(told))
            message = self.client.message(0) if time.monotonic() < until else None
        return found

    def know(self, names: Mapping[str, str]) -> None:
        """Learn what tasks are, by their ids."""
        self.names.update(names)
        while len(self.names) > _MOST_NAMES:
            self.names.popitem(last=False)

    def _event(self, told: Fields) -> Event:
        kind, task_id, name = told.text("type"), told.text("uuid", ""), told.text("name", "")
        if max(map(len, (kind, task_id, name))) > _LONGEST_NAME:
            raise BadEntry(f"a name has more than {_LONGEST_NAME} characters")
        if task_id and name:
            self.know({task_id: name})
        return Event(
            at=told.moment("timestamp", None) or time.time(), event=kind.partition("-")[2], is_of_task=kind.startswith("task-"),
            node=told.text("hostname", ""), task=self.names.get(task_id), id=task_id or None,
            seconds=told.number("runtime", None), text=text(kind, told)[:_LONGEST_TEXT],
            queue=told.text("queue", None) or None, processed=told.count("processed", None),
        )


def events_in(data: bytes) -> list[Fields]:
    """Return the events of a message. Nothing but JSON is ever decoded: unpickling would run code."""
    if len(data) > _LARGEST:
        raise BadEntry(f"it has {len(data)} bytes, more than {_LARGEST}")
    told = Message(data).body()
    return [decode.fields(event) for event in (told if isinstance(told, list) else [told])]


def text(kind: str, told: Fields) -> str:
    """Return what there is to say of an event beside its task; arguments and results are the app's own affair."""
    if kind in ("task-failed", "task-retried"):
        return str(told.text("exception", ""))
    if kind == "task-revoked":
        return "terminated" if told.told.get("terminated") else "expired" if told.told.get("expired") else "before it began"
    if kind == "task-rejected":
        return "back to its queue" if told.told.get("requeue") else ""
    if kind == "task-sent":
        return f"to {told.text('queue')}" if told.told.get("queue") else ""
    if kind == "task-received":
        words = [f"retry {told.count('retries')}"] if told.told.get("retries") else []
        return ", ".join(words + ([f"not before {told.text('eta')}"] if told.told.get("eta") else []))
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
            held = Fields({method: answers[method] if isinstance(answers.get(method), list) else [] for method in _HOLDING})
            with contextlib.suppress(BadEntry):
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
