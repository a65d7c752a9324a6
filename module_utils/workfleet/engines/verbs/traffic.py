"""Many tasks of one name to the queues of an engine, and what became of each: what is asked of an engine, and what it answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ... import resp
from .probe import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Keys that are asked for in one command.
CHUNK = 1000
#: A look at all that is under way takes no more than this part of the time, or it would be the load that is measured.
_PART_OF_THE_TIME = 5
_SHORTEST_WAIT = 0.01
#: What is said of a task that was taken back.
NOT_TAKEN = "no worker took it; it was removed from its queue"


@dataclass(frozen=True)
class Order:
    """What to send. The URLs are secret. ``expires``: seconds after which nobody waits for a task any more."""

    app: str
    engine: str
    broker_url: str
    queues: Sequence[str]
    result_url: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    count: int = 100
    #: Tasks a second; 0 is as fast as it goes.
    rate: float = 0
    #: Seconds that the last of them may take.
    patience: float = 60
    #: How the names of the app's nodes begin.
    nodes: Sequence[str] = ()

    @property
    def expires(self) -> float:
        """After so many seconds nobody waits for any of them."""
        return (self.count / self.rate if self.rate else 0) + self.patience

    def call(self, canary: str) -> tuple[str, list[Any]]:
        """The task and its arguments, as for a canary."""
        task, args = Request(self.broker_url, task=self.task, args=self.args).call(canary)
        return task, list(args)


@dataclass(frozen=True)
class Outcome:
    """That a task has ended. ``ok`` is ``None`` where it is not told how; ``run``: seconds by the worker's own clock, where it tells."""

    id: str
    ok: bool | None
    run: float | None = None
    reason: str = ""
    #: That its worker has no task of this name.
    unknown: bool = False


class Traffic:
    """Base of what sends for an engine. ``under_way`` are the tasks that were sent and have not been seen to end."""

    #: The task that is sent where none is named.
    canary = ""
    #: Whether outcomes tell how long tasks ran.
    tells_run = False
    #: Why nobody will tell what becomes of a task, where that is so; :meth:`open` finds out.
    untold = ""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.task, self.args = order.call(self.canary)
        self.under_way: dict[str, Any] = {}
        self.ended: list[str] = []
        self._next_look = 0.0

    @property
    def answer(self) -> Any:
        """What a canary returns."""
        return self.args

    def open(self) -> None:
        """Reach everything that is needed before anything is sent; raises where something is missing."""
        raise NotImplementedError

    def check(self, queue: str) -> None:
        """Raise where nothing may be sent to a queue."""

    def send(self, queue: str, count: int) -> list[str]:
        """Send so many, and return their ids."""
        raise NotImplementedError

    def look(self, seconds: float) -> list[Outcome]:
        """Return what has ended; of one task it may be told twice, the second time with more. Waits about so long for the first."""
        raise NotImplementedError

    def take_back(self) -> dict[str, str]:
        """Remove what no worker has taken; say of all that are under way where they were last seen."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing behind of what has ended."""
        raise NotImplementedError

    def returned(self, identity: str, value: Any, run: float | None = None) -> Outcome:
        """A task that ended well: a canary returns what it was given."""
        if self.task == self.canary and value != self.answer:
            return Outcome(identity, False, run, "it returned something else than it was given")
        return Outcome(identity, True, run)

    def unknown(self, identity: str) -> Outcome:
        """A task that its worker does not have."""
        return Outcome(identity, False, None, f"a worker took it, but has no task {self.task}", unknown=True)

    def end(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Take note of what has ended."""
        for outcome in outcomes:
            if self.under_way.pop(outcome.id, None) is not None:
                self.ended.append(outcome.id)
        return list(outcomes)

    def wait(self, seconds: float) -> bool:
        """Wait for the time of the next look, if it comes within so many seconds; return whether it has come."""
        left = self._next_look - time.monotonic()
        time.sleep(max(0.0, min(seconds, left)))
        return left <= seconds

    def looked(self, begun: float) -> None:
        """Settle when the next look may be, by what this one took."""
        now = time.monotonic()
        self._next_look = now + max(_SHORTEST_WAIT, _PART_OF_THE_TIME * (now - begun))


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield parts that fit into one command."""
    for start in range(0, len(items), CHUNK):
        yield items[start:start + CHUNK]


def delete(client: resp.Client, keys: Sequence[str]) -> None:
    """Delete keys, part by part."""
    for part in chunks(keys):
        client.call("DEL", *part)
