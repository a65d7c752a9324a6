"""A canary task through each queue and back.

Every Celery app has the built-in task ``celery.accumulate``, which returns its arguments: no change to the app is
needed. All canaries are sent at once. None is left behind: what was not taken is removed from its queue again, what
was taken too late is dropped by its worker, for it carries an expiry.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from ... import decode, redis_url, resp
from ...decode import BadEntry, Fields
from ..verbs.probe import Proof, not_proved
from .wire import TaskMessage, Wire, inspect, queue_depths, queues_in, task_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..verbs.probe import Request

BUILT_IN_TASK = "celery.accumulate"
FINAL = ("SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED")
GRACE = 60.0  # seconds that the clocks of this host and a worker's may differ before a canary is dropped untried
NO_JSON = ("the workers refuse tasks in JSON (the app's accept_content), and no canary is sent in another form; it was taken from "
           "its queue and thrown away")
_SHORTEST_WAIT, _LONGEST_WAIT = 0.005, 0.05
_LONGEST_REASON = 1000


def probe(request: Request) -> list[Proof]:
    """Send a canary through each queue and say what became of it, in the order of the queues."""
    scheme = request.broker_url.partition("://")[0]
    if not redis_url.is_redis(request.broker_url):
        return not_proved(request.queues, f"the broker is {scheme or 'not given'}://, only Redis is understood")
    wire = Wire.parse(request.broker_options)
    with contextlib.ExitStack() as stack:
        # Both are reached before anything is sent: a wrong URL leaves no canary behind.
        broker = stack.enter_context(resp.connect(request.broker_url))
        results = stack.enter_context(resp.connect(request.result_url)) if redis_url.is_redis(request.result_url) else None
        return _Flight(request, wire, broker, results).proofs()


class _Flight:
    """All canaries of one request, from their sending to the last word on each."""

    def __init__(self, request: Request, wire: Wire, broker: resp.Client, results: resp.Client | None) -> None:
        self.request, self.wire, self.broker, self.results = request, wire, broker, results
        self.task, self.args = request.call(BUILT_IN_TASK)
        expires = request.timeout + GRACE
        self.canaries = [
            task_message(self.task, queue, self.args, request.kwargs, expires, ignore_result=results is None)
            for queue in dict.fromkeys(request.queues)
        ]
        self.proved: dict[str, Proof] = {}
        self.sent = 0.0

    def proofs(self) -> list[Proof]:
        """Send, wait, and account for those that did not come back."""
        self.sent = time.monotonic()
        self.broker.pipeline([("LPUSH", self._list(canary), canary.text) for canary in self.canaries])
        try:
            self._wait()
        finally:
            late = self._account_for(self._pending())
        self.proved.update({proof.queue: proof for proof in late})
        return [self.proved[canary.queue] for canary in self.canaries]

    def _list(self, canary: TaskMessage) -> str:
        return self.wire.lists(canary.queue)[0]

    def _pending(self) -> list[TaskMessage]:
        return [canary for canary in self.canaries if canary.queue not in self.proved]

    def _seconds(self) -> float:
        return round(time.monotonic() - self.sent, 3)

    def _wait(self) -> None:
        pause = _SHORTEST_WAIT
        while self._pending() and self._seconds() < self.request.timeout:
            time.sleep(pause)
            before = len(self.proved)
            if self.results:
                self._look_for_results(self.results, self._pending())
            else:
                self._look_whether_taken(self._pending())
            pause = _SHORTEST_WAIT if len(self.proved) > before else min(pause * 1.5, _LONGEST_WAIT)

    def _look_for_results(self, results: resp.Client, pending: Sequence[TaskMessage]) -> None:
        stored = results.pipeline([("GET", self.wire.result(canary.id)) for canary in pending])
        for canary, value in zip(pending, stored):
            proof = None if value is None else self._judge(canary, value)
            if proof:
                self.proved[canary.queue] = proof
                results.call("DEL", self.wire.result(canary.id))

    def _judge(self, canary: TaskMessage, stored: bytes) -> Proof | None:
        """The word on a stored result; ``None`` for one that is not final."""
        try:
            state, value = outcome(stored)
        except BadEntry:
            return Proof(canary.queue, None, "not proved", self._seconds(), "it came back; its result is not JSON, and was not looked at")
        if state not in FINAL:
            return None
        if state == "REVOKED":
            reason = "a worker dropped the canary as expired: its clock differs from this host's by a minute or more"
        elif state != "SUCCESS":
            reason = f"the task {self.task} ended as {state}: {exception(value)}"
        elif self.task == BUILT_IN_TASK and value != list(self.args):
            reason = f"the task {BUILT_IN_TASK} returned something else than it was given: is it replaced in this app?"
        else:
            return Proof(canary.queue, True, "ok", self._seconds())
        return Proof(canary.queue, False, "failed", self._seconds(), reason)

    def _look_whether_taken(self, pending: Sequence[TaskMessage]) -> None:
        """Without a result store that we can read, that a canary left its queue is all there is to see."""
        scheme = self.request.result_url.partition("://")[0]
        store = f"the result store is {scheme}://, only Redis is understood" if scheme else "no result store is given"
        looks = [("LPOS", self._list(canary), canary.text) for canary in pending]
        for canary, place in zip(pending, self.broker.pipeline(looks, raise_errors=False)):
            if place is None:
                reason = f"taken from the queue; {store}"
                self.proved[canary.queue] = Proof(canary.queue, None, "not proved", self._seconds(), reason)

    def _account_for(self, pending: Sequence[TaskMessage]) -> list[Proof]:
        """Take back what was not taken, and say of the rest where it was last seen."""
        if not pending:
            return []
        unacked = self.wire.key(self.wire.unacked_key)
        removed = self.broker.pipeline([("LREM", self._list(canary), "1", canary.text) for canary in pending])
        held = self.broker.pipeline([("HEXISTS", unacked, canary.tag) for canary in pending])
        if self.results:
            self._look_for_results(self.results, pending)  # one may have come back between the last look and now
        depths = queue_depths(self.broker, [canary.queue for canary in pending], self.wire)
        consumers = self._consumers()
        is_refused = refuses_json(self.broker, self.wire)
        late = []
        for canary, was_waiting, is_held in zip(pending, removed, held):
            if canary.queue not in self.proved and is_refused and not (was_waiting or is_held):
                late.append(Proof(canary.queue, None, "not proved", self._seconds(), NO_JSON))
            elif canary.queue not in self.proved:
                why = self._why(was_waiting, is_held, consumers.get(canary.queue, []), depths[canary.queue])
                late.append(Proof(canary.queue, False, "failed", self._seconds(), why, begun=not (was_waiting or is_held)))
        return late

    def _why(self, removed: int, held: int, consumers: Sequence[str], depth: int) -> str:
        seconds = f"{self.request.timeout:g} s"
        if removed:
            who = f"{_names(consumers)} took nothing" if consumers else "no node that answers consumes it"
            return f"not taken from the queue within {seconds}; {who}; {depth} tasks wait in it"
        if held:
            return (f"taken by a node, but not begun within {seconds}: all its places are busy. It cannot be taken "
                    f"back and is dropped at its turn. Consumers: {_names(consumers) or 'none that answers'}")
        where = self.results.address if self.results else "the result store"
        return (f"taken and acknowledged, but no result in {where} within {seconds}: "
                "is this the app's result store, does the app set task_ignore_result, did the worker survive?")

    def _consumers(self) -> dict[str, list[str]]:
        """The nodes that say that they consume a queue."""
        found: dict[str, list[str]] = {}
        for node, answers in inspect(self.broker, None, ["active_queues"], timeout=0.5, wire=self.wire).items():
            with contextlib.suppress(BadEntry):
                for queue in queues_in(Fields(answers)):
                    found.setdefault(queue, []).append(node)
        return found


def refuses_json(broker: resp.Client, wire: Wire) -> bool:
    """Whether workers refuse tasks that come in JSON, as far as they tell of their settings."""
    for answers in inspect(broker, None, ["conf"], timeout=0.5, wire=wire).values():
        with contextlib.suppress(BadEntry):
            accepted = Fields(answers).fields("conf").told.get("accept_content")
            if isinstance(accepted, list) and not {"json", "application/json"} & set(map(str, accepted)):
                return True
    return False


def _names(nodes: Sequence[str]) -> str:
    shown = ", ".join(sorted(nodes)[:3])
    return f"{shown} and {len(nodes) - 3} more" if len(nodes) > 3 else shown


def outcome(stored: bytes) -> tuple[str, Any]:
    """Return the state and the value of a stored result; raises on what is none."""
    meta = decode.fields(decode.document(stored))
    return meta.text("status"), meta.told.get("result")


def exception(value: Any) -> str:
    """Say what a task failed with."""
    if isinstance(value, dict) and "exc_type" in value:
        message = value.get("exc_message")
        value = f"{value['exc_type']}: {' '.join(map(str, message)) if isinstance(message, list) else message}"
    return str(value)[:_LONGEST_REASON]
