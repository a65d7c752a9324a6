"""A canary task through each Chicory queue and back.

Messages are pickles; a plain mapping is read by Chicory as well as its own class, and needs none of its code. Nothing
that comes back is unpickled: results are JSON.
"""

from __future__ import annotations

import pickle
import time
import uuid
from typing import TYPE_CHECKING, Any

from ... import decode, redis_url, resp
from ...decode import BadEntry
from ...errors import WorkfleetError
from ..verbs.probe import Proof, Request, not_proved
from . import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CANARY = "workfleet.probe"
_PAUSE = 0.02
_DEAD_LOOKED_AT = 100
_LONGEST_REASON = 1000


def message(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return a new task's id, and what a message to a worker holds."""
    task_id = str(uuid.uuid4())
    return task_id, pickle.dumps({"id": task_id, "name": task, "args": list(args), "kwargs": dict(kwargs)}, protocol=4)


def probe(request: Request) -> list[Proof]:
    """Send a canary through each queue and say what became of it, in the order of the queues."""
    if not redis_url.is_redis(request.broker_url):
        return not_proved(request.queues, "the broker is not given as a redis:// URL")
    with resp.connect(request.broker_url) as broker:
        if not redis_url.is_redis(request.result_url):
            return _Flight(request, broker, None).proofs()
        with resp.connect(request.result_url) as results:
            return _Flight(request, broker, results).proofs()


class _Flight:
    """All canaries of one request, by queue: the task's id, and the message's in the stream."""

    def __init__(self, request: Request, broker: resp.Client, results: resp.Client | None) -> None:
        self.request, self.broker, self.results = request, broker, results
        self.task, args = request.call(CANARY)
        self.args = list(args)
        self.group = wire.consumer_group(request.broker_options)
        self.tasks: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.proved: dict[str, Proof] = {}
        self.sent = time.monotonic()

    def proofs(self) -> list[Proof]:
        """Send, wait, and take back those that were not taken."""
        try:
            for queue in dict.fromkeys(self.request.queues):
                self._send(queue)
            deadline = self.sent + self.request.timeout
            while self._pending() and time.monotonic() < deadline:
                time.sleep(_PAUSE)
                self._look()
        finally:
            self._account()
        return [self.proved[queue] for queue in self.request.queues]

    def _send(self, queue: str) -> None:
        """A queue without a stream has never had a worker: nothing is sent that would make one."""
        try:
            known = self.broker.call("XLEN", wire.STREAM + queue) or self.broker.call("EXISTS", wire.STREAM + queue)
        except resp.RespError as error:
            try:
                wire.refused(queue, error)
            except WorkfleetError as refusal:
                return self._prove(queue, False, str(refusal))
        if not known:
            return self._prove(queue, False, f"no worker has ever consumed it: there is no {wire.STREAM}{queue} in {self.broker.address}")
        self.tasks[queue], data = message(self.task, self.args, self.request.kwargs)
        self.tags[queue] = resp.text(self.broker.call("XADD", wire.STREAM + queue, "*", "data", data, "task_id", self.tasks[queue]))
        return None

    def _prove(self, queue: str, ok: bool | None, reason: str | None = None, *, begun: bool = True) -> None:
        state = {True: "ok", False: "failed", None: "not proved"}[ok]
        self.proved[queue] = Proof(queue, ok, state, round(time.monotonic() - self.sent, 3), reason, begun)

    def _pending(self) -> list[str]:
        return [queue for queue in self.tasks if queue not in self.proved]

    def _look(self) -> None:
        """Judge the results that are there; without a result store, that a canary is done with is all there is to see."""
        for queue in self._pending():
            if self.results is None:
                if self._is_taken(queue) and not self._is_held(queue):
                    self._prove(queue, None, "taken and acknowledged; no result store that could be read is given")
                continue
            stored = self.results.call("GET", wire.RESULT + self.tasks[queue])
            if stored is not None:
                self._prove(queue, *self._judge(stored))

    def _judge(self, stored: bytes) -> tuple[bool | None, str | None]:
        try:
            state, value, error = outcome(stored)
        except BadEntry:
            return None, "it came back, but its result is not Chicory's"
        if state == "SUCCESS" and (self.task != CANARY or value == (self.args or [None])[0]):
            return True, None
        if state == "SUCCESS":
            return False, f"{CANARY} returned something else than it was given"
        if error == f"Task '{self.task}' not found":
            return None, f"a worker took it, but has no task {self.task}"
        return False, f"the task {self.task} ended as {state}: {error}"

    def _is_taken(self, queue: str) -> bool:
        last = wire.look(self.broker, queue, self.group).last
        return place(last) >= place(self.tags[queue])

    def _is_held(self, queue: str) -> bool:
        tag = self.tags[queue]
        return bool(self.broker.call("XPENDING", wire.STREAM + queue, self.group, tag, tag, 1))

    def _account(self) -> None:
        """Leave nothing behind, and say of the rest where it was last seen."""
        self._look()  # one may have come back between the last look and now
        within = f"within {self.request.timeout:g} s"
        for queue in self._pending():
            if not self._is_taken(queue):
                waiting = wire.waiting(self.broker, queue, wire.look(self.broker, queue, self.group))
                self.broker.call("XDEL", wire.STREAM + queue, self.tags[queue])
                others = "many" if waiting is None else waiting - 1
                self._prove(queue, False, f"not taken by a worker {within}; {others} other tasks wait: "
                                          "is a node running, are its places all taken?", begun=False)
            elif self._is_held(queue):
                self._prove(queue, False, f"taken by a worker, but {self.task} has not ended {within}")
            else:
                self._prove(queue, False, f"taken and acknowledged, but no result {within}: is this the app's result store, "
                                          "does the app have one, did the worker survive?")
        for queue, task_id in self.tasks.items():
            if self.results is not None:
                self.results.call("DEL", wire.RESULT + task_id, wire.STATE + task_id)
            if self.proved[queue].ok is not True:
                self._take_from_the_dead(queue, task_id)

    def _take_from_the_dead(self, queue: str, task_id: str) -> None:
        for tag, fields in self.broker.call("XREVRANGE", wire.DEAD + queue, "+", "-", "COUNT", _DEAD_LOOKED_AT):
            if task_id.encode() in fields:
                self.broker.call("XDEL", wire.DEAD + queue, tag)


def outcome(stored: bytes) -> tuple[str, Any, str]:
    """Return the state, the value and the error of a stored result; raises on what is none."""
    told = decode.fields(decode.document(stored))
    return told.text("state"), told.told.get("result"), str(told.told.get("error"))[:_LONGEST_REASON]


def place(tag: str) -> tuple[int, int]:
    milliseconds, _, number = tag.partition("-")
    return int(milliseconds), int(number or 0)
