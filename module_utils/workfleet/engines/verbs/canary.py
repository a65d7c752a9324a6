"""A canary through each queue and back, for any engine that has a :class:`Traffic`: one task a queue."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ... import redis_url
from ...errors import WorkfleetError
from .figures import Question
from .probe import Proof, not_proved
from .traffic import NOT_TAKEN, Order, Outcome, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from .figures import Figures
    from .probe import Request

_PAUSE = 0.02


def proofs(request: Request, traffic_of: Callable[[Order], Traffic], figures: Callable[[Question], list[Figures]]) -> list[Proof]:
    """Send a canary through each queue and say what became of it, in the order of the queues."""
    if not redis_url.is_redis(request.broker_url):
        return not_proved(request.queues, "the broker is not given as a redis:// URL")
    try:
        traffic = traffic_of(order_of(request))
    except WorkfleetError as error:
        return not_proved(request.queues, str(error))
    traffic.open()
    return _Flight(request, traffic, figures).proofs()


def order_of(request: Request) -> Order:
    """Return the canaries of a request as traffic, one a queue."""
    return Order("", request.engine, request.broker_url, request.queues, request.result_url, request.broker_options, request.task,
                 request.args, request.kwargs, count=len(request.queues), patience=request.timeout)


class _Flight:
    """All canaries of one request, by queue."""

    def __init__(self, request: Request, traffic: Traffic, figures: Callable[[Question], list[Figures]]) -> None:
        self.request, self.traffic, self.figures = request, traffic, figures
        self.queues: dict[str, str] = {}
        self.proved: dict[str, Proof] = {}
        self.sent = time.monotonic()

    def proofs(self) -> list[Proof]:
        """Send, wait, and take back those that were not taken."""
        try:
            try:
                for queue in dict.fromkeys(self.request.queues):
                    self._send(queue)
                deadline = self.sent + self.request.timeout
                while self.traffic.under_way and time.monotonic() < deadline:
                    self._judge(self.traffic.look(_PAUSE))
            finally:
                self._account()
        finally:
            self.traffic.close()
        return [self.proved[queue] for queue in self.request.queues]

    def _send(self, queue: str) -> None:
        try:
            self.traffic.check(queue)
        except WorkfleetError as error:
            return self._prove(queue, Outcome("", False, reason=str(error)))
        for identity in self.traffic.send(queue, 1):
            self.queues[identity] = queue
        return None

    def _judge(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            queue = self.queues.get(outcome.id)
            if queue is None or queue in self.proved:
                continue
            if outcome.unknown:  # of the app's own canary: that somebody works on the queue is all that is known
                self._prove(queue, replace(outcome, ok=None))
            elif outcome.ok is False:
                self._prove(queue, replace(outcome, reason=f"the task {self.traffic.task} failed: {outcome.reason}"))
            else:
                self._prove(queue, outcome)

    def _prove(self, queue: str, outcome: Outcome, *, begun: bool = True) -> None:
        state = {True: "ok", False: "failed", None: "not proved"}[outcome.ok]
        self.proved[queue] = Proof(queue, outcome.ok, state, round(time.monotonic() - self.sent, 3), outcome.reason or None, begun)

    def _account(self) -> None:
        """Leave nothing behind, and say of the rest where it was last seen."""
        if not self.traffic.under_way:
            return
        said = self.traffic.take_back()
        self._judge(self.traffic.look(_PAUSE))  # one may have come back between the last look and now
        within = f"within {self.request.timeout:g} s"
        for identity, why in said.items():
            queue = self.queues[identity]
            if queue in self.proved:
                continue
            if why == NOT_TAKEN:
                reason = (f"not taken by a worker {within}; {self._others(queue)} other tasks wait: is a node running, are its places all "
                          "taken?")
            else:
                reason = f"{why} {within}"
            self._prove(queue, Outcome(identity, False, reason=reason), begun=why != NOT_TAKEN)

    def _others(self, queue: str) -> int | str:
        figures = self.figures(Question(self.request.broker_url, "", [queue], self.request.broker_options))
        waiting = [item.waiting for item in figures if item.queue == queue]
        return "many" if waiting in ([], [None]) else int(waiting[0] or 0)
