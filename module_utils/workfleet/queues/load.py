"""A measured load: many tasks through the fleet at a rate, how long each took, and what did not come back."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engines import taskqueues
from ..engines.verbs.figures import Question
from ..engines.verbs.traffic import Order
from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..engines.verbs.traffic import Outcome, Traffic
    from ..host.background import Background

MOST_TASKS = 50_000
LONGEST_SECONDS = 3600.0
_MOST_AT_ONCE = 200
_LOOK_SECONDS = 0.02
_PROGRESS_SECONDS = 1.0
#: How long the last word on running times is waited for when all have ended.
_LAST_WORD_SECONDS = 1.0
_REASONS = 10


@dataclass
class Flight:
    """One task: when it was sent and seen to end, in seconds of this host's own clock, and how long it ran by its worker's."""

    sent: float
    ended: float | None = None
    run: float | None = None
    ok: bool | None = None
    reason: str = ""

    @property
    def total(self) -> float:
        """From sending to its end."""
        return (self.ended or self.sent) - self.sent

    @property
    def wait(self) -> float | None:
        """What of it was not running: in the queue, in a worker's hands, between tries."""
        return None if self.run is None else max(0.0, self.total - self.run)


def check(count: int, rate: float, patience: float) -> list[str]:
    """Return what is wrong with the size of a load; each names its extra variable."""
    found = []
    if not 1 <= count <= MOST_TASKS:
        found.append(f"count = {count}: must be from 1 to {MOST_TASKS}")
    if rate < 0 or not math.isfinite(rate):
        found.append(f"rate = {rate:g}: must be tasks a second, or 0 for as fast as it goes")
    elif rate and count / rate > LONGEST_SECONDS:
        found.append(f"rate = {rate:g}: {count} tasks would take {count / rate:g} s to send, more than {LONGEST_SECONDS:g} s")
    if not 0 < patience <= LONGEST_SECONDS:
        found.append(f"sample_seconds = {patience:g}: must be above 0, and no more than {LONGEST_SECONDS:g}")
    return found


class Load:
    """One load, from the look at its queues to its report."""

    def __init__(self, order: Order, traffic: Traffic, background: Background) -> None:
        self.order, self.traffic, self.background = order, traffic, background
        self.flights: dict[str, Flight] = {}
        self.begun = self.last_sent = 0.0

    def run(self) -> None:
        """Send, see them end, report; what is left is taken back and accounted for."""
        waiting = self.require_consumers()
        self.traffic.open()
        try:
            if self.traffic.untold:
                raise WorkfleetError(f"{self.traffic.untold}. Nothing was sent")
            self.background.tell({"begun": {"waiting": waiting}})
            self.begun = self.last_sent = time.monotonic()
            try:
                self.send_all()
            finally:
                self.take_back()
        finally:
            self.traffic.close()
        self.background.tell({"report": self.report()})

    def require_consumers(self) -> dict[str, int]:
        """Return what waits in the queues already; raises where nobody consumes one, for tasks would stay there."""
        question = Question(self.order.broker_url, self.order.app, self.order.queues, self.order.options, all_of_it=True)
        found = {figures.queue: figures for figures in taskqueues.named(self.order.engine).figures(question)}
        nobody = [queue for queue in self.order.queues if queue in found and found[queue].consumers == 0]
        if nobody:
            raise WorkfleetError(f"no node that answers consumes {', '.join(nobody)}: is one running (status.yml)? Nothing was sent")
        return {queue: int(found[queue].waiting or 0) for queue in self.order.queues if queue in found}

    def send_all(self) -> None:
        """Send what is due, and note what has ended, until nothing is under way or the time is over."""
        told = self.begun
        while self.is_going_on():
            self.send_due()
            pause = 0.0 if not self.order.rate and len(self.flights) < self.order.count else _LOOK_SECONDS
            self.note(self.traffic.look(pause))
            # Every second at first, and of a long load ten times as it grows to twice its length.
            if time.monotonic() - told > max(_PROGRESS_SECONDS, (told - self.begun) / 10):
                told = time.monotonic()
                self.background.tell({"progress": {"seconds": round(told - self.begun, 1), **self.counts()}})
        if self.traffic.tells_run and not self.traffic.under_way:
            self.hear_the_last_word()

    def is_going_on(self) -> bool:
        """Whether there is something to send or to wait for, and somebody who wants to know."""
        if not self.background.wanted:
            return False
        if len(self.flights) < self.order.count:
            return True
        return bool(self.traffic.under_way) and time.monotonic() - self.last_sent < self.order.patience

    def send_due(self) -> None:
        """Send what is due by now: the queues take turns."""
        now = time.monotonic()
        due = self.order.count if not self.order.rate else min(self.order.count, int((now - self.begun) * self.order.rate) + 1)
        count, turn = min(due - len(self.flights), _MOST_AT_ONCE), len(self.flights)
        turns = Counter(self.order.queues[(turn + number) % len(self.order.queues)] for number in range(count))
        for queue, share in turns.items():
            self.last_sent = time.monotonic()
            self.flights.update({task_id: Flight(self.last_sent) for task_id in self.traffic.send(queue, share)})

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Write down what has ended; of one task the first word tells when, and a later one may tell more."""
        now = time.monotonic()
        for outcome in outcomes:
            flight = self.flights.get(outcome.id)
            if flight is None:
                continue
            if flight.ended is None:
                flight.ended, flight.ok, flight.reason = now, outcome.ok, outcome.reason
            if flight.run is None:
                flight.run = outcome.run

    def hear_the_last_word(self) -> None:
        """A result can be there before the event that tells how long the task ran."""
        until = time.monotonic() + _LAST_WORD_SECONDS
        while time.monotonic() < until and any(flight.ok and flight.run is None for flight in self.flights.values()):
            self.note(self.traffic.look(_LOOK_SECONDS))

    def take_back(self) -> None:
        """Account for what is still under way: some of it may have come back a moment ago."""
        if self.traffic.under_way:
            said = self.traffic.take_back()
            self.note(self.traffic.look(_LOOK_SECONDS))
            for task_id, reason in said.items():
                if self.flights[task_id].ended is None:
                    self.flights[task_id].reason = reason

    def counts(self) -> dict[str, int]:
        """What was sent, and what became of it so far."""
        ended = [flight for flight in self.flights.values() if flight.ended is not None]
        failed = sum(flight.ok is False for flight in ended)
        return {"sent": len(self.flights), "succeeded": sum(flight.ok is True for flight in ended), "failed": failed,
                "ended_untold": sum(flight.ok is None for flight in ended), "unanswered": len(self.flights) - len(ended)}

    def report(self) -> dict[str, Any]:
        """Return the figures; a duration that cannot be told is ``None``."""
        ended = [flight for flight in self.flights.values() if flight.ended is not None]
        span = max((flight.ended or 0.0 for flight in ended), default=self.begun) - self.begun
        sending = self.last_sent - self.begun
        reasons = Counter(flight.reason for flight in self.flights.values() if flight.reason)
        runs = [flight.run for flight in ended if flight.run is not None]
        return {
            "app": self.order.app, "engine": self.order.engine, "task": self.traffic.task, "queues": list(self.order.queues),
            "count": self.order.count, "rate": self.order.rate or None, **self.counts(), "seconds": round(span, 3),
            "sending_seconds": round(sending, 3), "ended_per_second": round(len(ended) / span, 2) if span > 0 else None,
            "latency": {"total": spread([flight.total for flight in ended]), "run": spread(runs),
                        "wait": spread([flight.wait for flight in ended if flight.wait is not None])},
            "runs_told": len(runs), "reasons": [{"reason": reason, "tasks": count} for reason, count in reasons.most_common(_REASONS)],
            "cut_short": len(self.flights) < self.order.count,
        }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Return percentiles by nearest rank, in seconds; ``None`` of nothing."""
    if not values:
        return None
    ranked = sorted(values)

    def rank(percent: float) -> float:
        return round(ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)], 4)

    return {"p50": rank(50), "p95": rank(95), "p99": rank(99), "max": round(ranked[-1], 4)}


def start(order: Mapping[str, Any], background: Background) -> None:
    """Do it as a payload has it."""
    parsed = Order(**order)
    Load(parsed, taskqueues.named(parsed.engine).traffic(parsed), background).run()
