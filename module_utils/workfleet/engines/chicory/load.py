"""Many Chicory tasks, and what became of each, as their results tell; these do not say how long a task ran."""

from __future__ import annotations

import pickle
import time
import uuid
from typing import TYPE_CHECKING, Any

from ... import decode, redis_url, resp
from ...decode import BadEntry
from ...errors import WorkfleetError
from ..verbs.traffic import NOT_TAKEN, Outcome, Traffic, chunks, delete
from . import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CANARY = "workfleet.probe"
_LONGEST_REASON = 1000
_DEAD_LOOKED_AT = 100  # beyond as many as failed
#: A worker stores the result of a failure first, and the dead letter then.
_LETTERS_SECONDS = 1.0
_PAUSE = 0.02


class ChicoryTraffic(Traffic):
    """Chicory's. ``under_way``: queue and number of each message."""

    canary = CANARY

    @property
    def answer(self) -> Any:
        """The one argument."""
        return (self.args or [None])[0]

    def open(self) -> None:
        """Without a result store all that is seen of a task is that a worker has acknowledged it."""
        if not redis_url.is_redis(self.order.broker_url):
            raise WorkfleetError("the broker is not given as a redis:// URL. Nothing was sent")
        self.broker = resp.connect(self.order.broker_url)
        self.results = resp.connect(self.order.result_url) if redis_url.is_redis(self.order.result_url) else None
        if self.results is None:
            self.untold = ("Chicory tells in its results alone what became of a task, and no result store that could be read is given "
                           "(app_result_url, a redis:// URL)")
        self.failed = 0

    def check(self, queue: str) -> None:
        """A queue without a stream has never had a worker: nothing is sent that would make one."""
        size, is_there = self.broker.pipeline([(word, wire.STREAM + queue) for word in ("XLEN", "EXISTS")], raise_errors=False)
        wire.refused(queue, size)
        if not is_there:
            raise WorkfleetError(f"no worker has ever consumed it: there is no {wire.STREAM}{queue} in {self.broker.address}")

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
        begun = time.monotonic()
        found = self._acknowledged() if self.results is None else self._stored(self.results)
        self.looked(begun)
        self.failed += sum(each.ok is False for each in found)
        return self.end(found)

    def _stored(self, results: resp.Client) -> list[Outcome]:
        found = []
        for part in chunks(list(self.under_way)):
            stored = results.call("MGET", *(wire.RESULT + task_id for task_id in part))
            found += [self.judge(task_id, value) for task_id, value in zip(part, stored) if value is not None]
        return found

    def judge(self, task_id: str, stored: bytes) -> Outcome:
        """Return the outcome in a stored result; there is none before the end."""
        try:
            state, value, error = outcome(stored)
        except BadEntry:
            return Outcome(task_id, None, reason="it came back, but its result is not Chicory's")
        if error == f"Task '{self.task}' not found":
            return self.unknown(task_id)
        if state == "SUCCESS":
            return self.returned(task_id, value)
        return Outcome(task_id, False, None, error if state == "FAILURE" else f"{state}: {error}")

    def _acknowledged(self) -> list[Outcome]:
        waiting, held = self._places()
        return [Outcome(task_id, None, reason=f"taken and acknowledged; {self.untold}")
                for task_id in self.under_way if task_id not in waiting and task_id not in held]

    def _places(self) -> tuple[dict[str, tuple[str, str]], set[str]]:
        """Return what no worker has taken, and what one has taken and not acknowledged."""
        group = wire.consumer_group(self.order.options)
        last = {queue: place(wire.look(self.broker, queue, group).last) for queue, _ in self.under_way.values()}
        waiting = {task_id: where for task_id, where in self.under_way.items() if place(where[1]) > last[where[0]]}
        rest = [task_id for task_id in self.under_way if task_id not in waiting]
        asked = [(wire.STREAM + queue, tag) for queue, tag in map(self.under_way.__getitem__, rest)]
        pending = self.broker.pipeline([("XPENDING", key, group, tag, tag, 1) for key, tag in asked])
        return waiting, {task_id for task_id, entry in zip(rest, pending) if entry}

    def take_back(self) -> dict[str, str]:
        """What is behind the workers' place in the stream is theirs."""
        waiting, held = self._places()
        for queue in self.order.queues:
            for part in chunks([tag for its, tag in waiting.values() if its == queue]):
                self.broker.call("XDEL", wire.STREAM + queue, *part)
        said = dict.fromkeys(self.under_way, "taken and acknowledged, and no result tells of its end: is this the app's result store, does "
                                             "the app have one, did the worker survive?")
        said.update({**dict.fromkeys(held, "begun, and not ended"), **dict.fromkeys(waiting, NOT_TAKEN)})
        self._next_look = 0.0
        return said

    def close(self) -> None:
        """Delete results, and the dead letters of tasks that failed."""
        if self.results:
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


def outcome(stored: bytes) -> tuple[str, Any, str]:
    """Return the state, the value and the error of a stored result; raises on what is none."""
    told = decode.fields(decode.document(stored))
    return told.text("state"), told.told.get("result"), str(told.told.get("error"))[:_LONGEST_REASON]


def message(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return a new task's id, and what a message to a worker holds: a plain mapping is read as well as Chicory's own class."""
    task_id = str(uuid.uuid4())
    return task_id, pickle.dumps({"id": task_id, "name": task, "args": list(args), "kwargs": dict(kwargs)}, protocol=4)


def place(tag: str) -> tuple[int, int]:
    milliseconds, _, number = tag.partition("-")
    return int(milliseconds), int(number or 0)
