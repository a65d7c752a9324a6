"""Many Chicory tasks, and what became of each, as their results tell; these do not say how long a task ran."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ... import redis_url, resp
from ...decode import BadEntry
from ...errors import WorkfleetError
from ..verbs.traffic import NOT_TAKEN, Outcome, Traffic, chunks, delete
from . import wire
from .probe import CANARY, message, outcome, place

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEAD_LOOKED_AT = 100  # beyond as many as failed
#: A worker stores the result of a failure first, and the dead letter then.
_LETTERS_SECONDS = 1.0
_PAUSE = 0.02


class ChicoryTraffic(Traffic):
    """Chicory's. ``under_way``: queue and number of each message."""

    canary = CANARY

    def open(self) -> None:
        """Without a result store nobody would know what became of a task."""
        if not redis_url.is_redis(self.order.broker_url) or not redis_url.is_redis(self.order.result_url):
            raise WorkfleetError("the broker and the result store must be given as redis:// URLs (app_broker_url, app_result_url): "
                                 "Chicory tells in its results alone what became of a task. Nothing was sent")
        self.broker, self.results = resp.connect(self.order.broker_url), resp.connect(self.order.result_url)
        self.failed = 0

    def send(self, queue: str, count: int) -> list[str]:
        """A message each; the number that the stream gives it is needed to take it back."""
        made = [message(self.task, self.args, self.order.kwargs) for _ in range(count)]
        tags = self.broker.pipeline([("XADD", wire.STREAM + queue, "*", "data", data, "task_id", task_id) for task_id, data in made])
        self.under_way.update({task_id: (queue, resp.text(tag)) for (task_id, _), tag in zip(made, tags)})
        return [task_id for task_id, _ in made]

    def look(self, seconds: float) -> list[Outcome]:
        """Read results."""
        if not self.wait(seconds):
            return []
        begun, found = time.monotonic(), []
        for part in chunks(list(self.under_way)):
            stored = self.results.call("MGET", *(wire.RESULT + task_id for task_id in part))
            found += [judge(task_id, value) for task_id, value in zip(part, stored) if value is not None]
        self.looked(begun)
        self.failed += sum(not outcome.ok for outcome in found)
        return self.end(found)

    def take_back(self) -> dict[str, str]:
        """What is behind the workers' place in the stream is theirs."""
        last = {queue: place(wire.look(self.broker, queue, wire.consumer_group(self.order.options)).last) for queue in self.order.queues}
        waiting = {task_id: where for task_id, where in self.under_way.items() if place(where[1]) > last[where[0]]}
        for queue in self.order.queues:
            for part in chunks([tag for its, tag in waiting.values() if its == queue]):
                self.broker.call("XDEL", wire.STREAM + queue, *part)
        said = dict.fromkeys(self.under_way, "taken by a worker, and no result tells of its end")
        said.update(dict.fromkeys(waiting, NOT_TAKEN))
        self._next_look = 0.0
        return said

    def close(self) -> None:
        """Delete results, and the dead letters of tasks that failed."""
        delete(self.results, [prefix + task_id for task_id in self.ended for prefix in (wire.RESULT, wire.STATE)])
        ids, until = {task_id.encode() for task_id in self.ended}, time.monotonic() + _LETTERS_SECONDS
        missing = self.failed
        while missing > 0 and time.monotonic() < until:
            missing -= sum(self._take_from_the_dead(queue, ids) for queue in self.order.queues)
            time.sleep(_PAUSE)

    def _take_from_the_dead(self, queue: str, ids: set[bytes]) -> int:
        letters: Sequence[tuple[bytes, list[bytes]]] = self.broker.call(
            "XREVRANGE", wire.DEAD + queue, "+", "-", "COUNT", self.failed + _DEAD_LOOKED_AT)
        tags = [tag for tag, fields in letters if ids.intersection(fields)]
        for part in chunks(tags):
            self.broker.call("XDEL", wire.DEAD + queue, *part)
        return len(tags)


def judge(task_id: str, stored: bytes) -> Outcome:
    """Return the outcome in a stored result; there is none before the end."""
    try:
        state, _, error = outcome(stored)
    except BadEntry:
        return Outcome(task_id, None, reason="it came back, but its result is not Chicory's")
    return Outcome(task_id, state == "SUCCESS", None, "" if state == "SUCCESS" else f"{state}: {error}")
