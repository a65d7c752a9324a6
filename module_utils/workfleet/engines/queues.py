"""What can be told of a queue, whatever its engine: the figures, and what is asked to get them.

A figure that cannot be told is ``None``, never 0; one that would need the payloads of a whole queue is not told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import resp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .base import Report

#: Keys of a database that are looked through for queues and workers that nobody declared; beyond these it is said that there are more.
MOST_KEYS = 200_000
#: Messages that workers hold whose queue is looked up one by one.
MOST_HELD = 10_000
_KEYS_A_LOOK = 2000
CUT = f"the database has more than {MOST_KEYS} keys, and not all were looked through: queues that nobody declared may be missing"


@dataclass(frozen=True)
class Question:
    """What to look at; ``url`` is secret.

    ``reports`` are the answers of the nodes that were asked already. With ``all_of_it`` the engine itself asks all
    nodes that there are, and looks for queues that are not declared. ``before`` are the figures of an earlier look,
    for what came and went since. ``problems`` is where the look puts what keeps it from being whole, sentences for people.
    """

    url: str
    app: str
    queues: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    all_of_it: bool = False
    before: Sequence[Figures] = ()
    problems: list[str] = field(default_factory=list)

    def earlier(self, queue: str) -> Figures | None:
        """The earlier figures of a queue, if they can be compared with."""
        return next((figures for figures in self.before if figures.queue == queue and figures.problem is None), None)


@dataclass
class Figures:
    """One queue.

    ``waiting``: no worker has taken them, and their time has come. ``unacknowledged``: taken, and not done with as far
    as the broker knows. ``scheduled``: their time has not come, as far as that is known. ``retrying``: those among
    them that have failed before. ``dead``: kept after they failed for good. ``consumers``: nodes that say they consume
    it. ``came`` and ``went``: since the look before.
    """

    queue: str
    declared: bool = True
    exists: bool | None = None
    waiting: int | None = None
    priorities: dict[str, int] | None = None
    unacknowledged: int | None = None
    running: int | None = None
    scheduled: int | None = None
    retrying: int | None = None
    dead: int | None = None
    consumers: int | None = None
    oldest_age_seconds: float | None = None
    oldest_age_is: str = "unknown"
    came: int | None = None
    went: int | None = None
    problem: str | None = None
    #: When this was so, by the server's clock, in seconds; and what a later look compares with.
    at: float = 0.0
    mark: Any = None

    def entry(self, engine: str) -> dict[str, Any]:
        """The queue in the form of the status JSON."""
        return {
            "queue": self.queue, "engine": engine, "declared": self.declared, "exists": self.exists, "waiting": self.waiting,
            "priorities": self.priorities, "unacknowledged": self.unacknowledged, "running": self.running, "scheduled": self.scheduled,
            "retrying": self.retrying, "dead": self.dead, "consumers": self.consumers,
            "oldest_age_seconds": None if self.oldest_age_seconds is None else round(max(0.0, self.oldest_age_seconds), 1),
            "oldest_age_is": self.oldest_age_is,
        }

    def of_nodes(self, reports: Mapping[str, Report], *, whole: bool = True) -> None:
        """Fill in what the nodes tell; where some have not answered, the others are no measure."""
        if not whole:
            self.consumers = self.running = None
            return
        told = [report for report in reports.values() if report.queues is not None and self.queue in report.queues]
        self.consumers = len(told)
        self.running = total(running(report, self.queue) for report in told)


def running(report: Report, queue: str) -> int | None:
    """How many tasks of a queue a node runs."""
    if report.busy is not None:
        return report.busy.get(queue, 0)
    return report.running if list(report.queues or ()) == [queue] else None


def total(values: Iterator[int | None]) -> int | None:
    """The sum; what one part cannot tell, the sum cannot."""
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)


def finished(reports: Mapping[str, Report], queue: str) -> dict[str, int] | None:
    """How many tasks each consumer has begun or ended so far; ``None`` where one consumes other queues too, or does not tell."""
    told = {node: report for node, report in reports.items() if report.queues is not None and queue in report.queues}
    counts = {node: report.processed for node, report in told.items() if list(report.queues or ()) == [queue]}
    if len(counts) < len(told) or None in counts.values():
        return None
    return {node: count for node, count in counts.items() if count is not None}


def grown(before: Any, after: Any) -> int | None:
    """By how much the nodes' counts have grown in all; ``None`` where a node has come or gone, or has begun anew."""
    if before is None or after is None or before.keys() != after.keys():
        return None
    grown_by = [after[node] - before[node] for node in after]
    return None if any(count < 0 for count in grown_by) else sum(grown_by)


def seconds(clock: Sequence[bytes]) -> float:
    """The server's ``TIME``."""
    return int(clock[0]) + int(clock[1]) / 1e6


def keys(client: resp.Client, pattern: str = "*", kind: str = "") -> tuple[list[str], bool]:
    """The names of keys, and whether these are all; each look takes a moment, so that others are served in between."""
    words = ["MATCH", pattern, "COUNT", str(_KEYS_A_LOOK), *(["TYPE", kind] if kind else [])]
    found: dict[str, None] = {}
    cursor = b"0"
    for _ in range(MOST_KEYS // _KEYS_A_LOOK):
        cursor, names = client.call("SCAN", cursor, *words)
        found.update(dict.fromkeys(resp.text(name) for name in names))
        if cursor == b"0":
            return sorted(found), True
    return sorted(found), False


def every(client: resp.Client, pattern: str, kind: str = "") -> Iterator[str]:
    """Yield the names of all keys, however many there are, each once."""
    words = ["MATCH", pattern, "COUNT", str(_KEYS_A_LOOK), *(["TYPE", kind] if kind else [])]
    found: set[str] = set()
    cursor = b"0"
    while True:
        cursor, names = client.call("SCAN", cursor, *words)
        fresh = {resp.text(name) for name in names} - found
        found |= fresh
        yield from sorted(fresh)
        if cursor == b"0":
            return


def transaction(client: resp.Client, commands: Sequence[Sequence[resp.Argument]]) -> list[resp.Reply]:
    """Run commands as one step and return their replies; an error reply stands in its command's place."""
    replies = client.pipeline([("MULTI",), *commands, ("EXEC",)])
    return list(replies[-1])
