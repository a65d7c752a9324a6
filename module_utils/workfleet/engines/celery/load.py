"""Many Celery tasks, and what became of each: told by events as it happens, by the result store where there are none."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from ... import redis_url, resp
from ...decode import BadEntry
from ...errors import WorkfleetError
from ..verbs.traffic import NOT_TAKEN, Outcome, Traffic, chunks, delete
from . import events as celery_events
from .probe import BUILT_IN_TASK, FINAL, GRACE, exception, outcome, refuses_json
from .wire import TaskMessage, Wire, task_message

if TYPE_CHECKING:
    from ..verbs.events import Event
    from ..verbs.traffic import Order

#: Where events tell everything the results are only looked at for those that got lost.
_SELDOM = 1.0
_ENDS = {"succeeded": True, "failed": False, "revoked": False, "rejected": False}


class CeleryTraffic(Traffic):
    """Celery's."""

    canary = BUILT_IN_TASK
    tells_run = True

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self.wire = Wire.parse(order.options)
        self.listener = celery_events.Listener(order.broker_url, order.options)
        self.switch = celery_events.Switch(order.broker_url, order.options, order.nodes)
        self.results: resp.Client | None = None
        #: When tasks began, by their workers' clocks.
        self.begun: dict[str, float] = {}
        self.told = 0.0

    def open(self) -> None:
        """Connect, subscribe, and have the nodes send events for the time of the load."""
        self.broker = resp.connect(self.order.broker_url)
        if refuses_json(self.broker, self.wire):
            raise WorkfleetError("workers of this app refuse tasks in JSON (accept_content), and no load is sent in another form: let it "
                                 "name json too, or send tasks by the app's own code and watch them by events.yml. Nothing was sent")
        self.results = resp.connect(self.order.result_url) if redis_url.is_redis(self.order.result_url) else None
        self.listener.open()
        _, nodes = self.switch.look()
        self.switch.on(nodes)
        if self.results is None and not nodes:
            raise WorkfleetError("no node of this app answers, and there is no result store in Redis (app_result_url): nobody would "
                                 "tell what becomes of a task. Nothing was sent")

    def send(self, queue: str, count: int) -> list[str]:
        """They carry an expiry, so that none is run after everybody has gone."""
        made = [task_message(self.task, queue, self.args, self.order.kwargs, self.order.expires + GRACE, ignore_result=self.results is None)
                for _ in range(count)]
        self.under_way.update({message.id: message for message in made})
        self.broker.call("LPUSH", self.wire.lists(queue)[0], *(message.text for message in made))
        return [message.id for message in made]

    def look(self, seconds: float) -> list[Outcome]:
        """Read events; where none of ours has come, read results as often as is fair."""
        pause = seconds if self._is_told() else max(0.0, min(seconds, self._next_look - time.monotonic()))
        found = []
        for event in self.listener.read(pause):
            if event.id is not None and event.id in self.under_way:
                self.told = time.monotonic()
                if event.event == "started":
                    self.begun[event.id] = event.at
            found += self._outcome(event)
        self.end(found)
        if self.results and time.monotonic() >= self._next_look:
            found += self.end(self._stored(self.results))
        return found

    def _is_told(self) -> bool:
        """Whether events come; somebody may switch them off meanwhile."""
        return time.monotonic() - self.told < _SELDOM

    def _outcome(self, event: Event) -> list[Outcome]:
        if event.id is None or event.event not in _ENDS:
            return []
        run = event.seconds
        if run is None and event.id in self.begun:  # of a failure Celery does not tell it
            run = max(0.0, event.at - self.begun[event.id])
        reason = {"succeeded": "", "failed": event.text}.get(event.event, f"{event.event}: {event.text}")
        return [Outcome(event.id, _ENDS[event.event], run, reason)]

    def _stored(self, results: resp.Client) -> list[Outcome]:
        begun, found = time.monotonic(), []
        for part in chunks(list(self.under_way)):
            values = results.call("MGET", *(self.wire.result(task_id) for task_id in part))
            found += [outcome for task_id, value in zip(part, values) if value is not None for outcome in judge(task_id, value)]
        self.looked(begun)
        if self._is_told():
            self._next_look = max(self._next_look, time.monotonic() + _SELDOM)
        return found

    def take_back(self) -> dict[str, str]:
        """The newest first: each is at the list's head then, or close to it. What a worker holds is its pool's, and cannot be had back."""
        messages: list[TaskMessage] = list(reversed(self.under_way.values()))
        unacked = self.wire.key(self.wire.unacked_key)
        removed = self.broker.pipeline([("LREM", self.wire.lists(message.queue)[0], "1", message.text) for message in messages])
        held = self.broker.pipeline([("HEXISTS", unacked, message.tag) for message in messages])
        said = {}
        for message, was_waiting, is_held in zip(messages, removed, held):
            said[message.id] = (NOT_TAKEN if was_waiting
                                else "begun, and not ended" if message.id in self.begun
                                else "taken by a worker in advance; it will run when its turn comes" if is_held
                                else "taken from its queue, and neither a result nor an event tells of its end")
        self._next_look = 0.0
        return said

    def close(self) -> None:
        """Switch off what was switched on, and delete results."""
        self.listener.close()
        with contextlib.suppress(WorkfleetError):
            self.switch.off()
        if self.results:
            delete(self.results, [self.wire.result(task_id) for task_id in self.ended])


def judge(task_id: str, stored: bytes) -> list[Outcome]:
    """Return the outcome in a stored result; none in one that is not final."""
    try:
        state, value = outcome(stored)
    except BadEntry:
        return [Outcome(task_id, None, reason="it came back, but its result is not JSON")]
    if state not in FINAL:
        return []
    if state == "SUCCESS":
        return [Outcome(task_id, True)]
    return [Outcome(task_id, False, None, shown(value) if state == "FAILURE" else f"{state.lower()}: {exception(value)}")]


def shown(value: Any) -> str:
    """Return a stored exception as the event would have it, so that the same failure has one name."""
    if isinstance(value, dict) and isinstance(value.get("exc_message"), (list, tuple)):
        return exception(f"{value.get('exc_type')}({', '.join(map(repr, value['exc_message']))})")
    return exception(value)
