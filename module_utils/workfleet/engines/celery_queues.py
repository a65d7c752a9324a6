"""The figures of Celery's queues, from one transaction: list lengths, both ends of each list, and what workers hold.

Waiting messages carry no time of their own, so an age is exact only where the app stamps its messages. Else it is
known from below: the message that is next was next already when somebody looked before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .. import resp
from ..errors import WorkfleetError
from . import queues
from .celery_wire import Wire, foreign, inspect_all, report
from .queues import Figures, Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .base import Report

#: Headers or properties by which an app may say when a message was sent, as seconds since 1970 or in ISO 8601.
STAMPS = ("sent_at", "timestamp")
_WAIT_FOR_NODES = 1.0
_FARTHEST_MARK = 200_000
_REMEMBERED = 86400
_METHODS: dict[str, dict[str, Any]] = {"stats": {}, "active": {}, "active_queues": {}}

# Counts what is held by where it came from: [all, is complete, {tail of the entry, number, number retried, etas}…].
# The tail of an entry is its exchange and routing key, as JSON. No payload leaves the server.
_HELD = """
local all = redis.call('HLEN', KEYS[1])
if all > tonumber(ARGV[1]) then return {all, 0} end
local found, order, cursor = {}, {}, '0'
repeat
  local page = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', 200)
  cursor = page[1]
  for i = 2, #page[2], 2 do
    local entry = page[2][i]
    local tail = string.match(entry, '^.*}(.*)$') or ''
    local told = found[tail]
    if not told then
      told = {tail, 0, 0}
      found[tail] = told
      order[#order + 1] = told
    end
    told[2] = told[2] + 1
    if string.find(entry, '"retries": [1-9]') then told[3] = told[3] + 1 end
    local eta = string.match(entry, '"eta": "([^"]*)"')
    if eta then told[#told + 1] = eta end
  end
until cursor == '0'
return {all, 1, unpack(order)}
"""


@dataclass
class Held:
    """What workers hold of a queue."""

    count: int = 0
    retrying: int = 0
    scheduled: int = 0


@dataclass
class Mark:
    """What a later look compares with: the newest message of each list and its length then, what nodes had begun."""

    newest: dict[str, bytes | None] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    finished: dict[str, int] | None = None


def figures(question: Question) -> list[Figures]:
    """Return the figures of the declared queues, and with ``all_of_it`` of all others that there are."""
    wire = Wire.parse(question.options)
    with resp.connect(question.url) as client:
        return _Look(client, question, wire).figures()


class _Look:
    """One look at all queues of a broker."""

    def __init__(self, client: resp.Client, question: Question, wire: Wire) -> None:
        self.client, self.question, self.wire = client, question, wire
        self.reports: dict[str, Report] = dict(question.reports)
        self.found = [Figures(queue) for queue in dict.fromkeys([*question.queues, *self._dead_letters()])]
        self.complete = self.heard_all = True

    def _dead_letters(self) -> list[str]:
        return [self.wire.deadletter_queue] if self.wire.deadletter_queue else []

    def figures(self) -> list[Figures]:
        """Find the queues, read all figures at once, and fill in what the nodes told."""
        if self.question.all_of_it:
            self._ask()
            known = {figures.queue for figures in self.found}
            self.found += [Figures(queue, declared=False) for queue in self._others() if queue not in known]
        self._read()
        return self.found

    def _ask(self) -> None:
        """Ask all that listen. Who is silent may consume any queue and run any task, as a busy node of the solo pool does."""
        asked, listening = inspect_all(self.client, _METHODS, _WAIT_FOR_NODES, self.wire)
        self.reports = {node: report(answers) for node, answers in asked.items() if answers}
        answered = {node for node, answers in asked.items() if len(answers) == len(_METHODS)}
        self.heard_all = len(answered) >= listening
        if not self.heard_all:
            pidbox = f"{self.wire.control_exchange}.pidbox"
            bound = self.client.call("SMEMBERS", self.wire.key(f"_kombu.binding.{pidbox}"))
            silent = sorted({resp.text(member).rpartition(self.wire.sep)[2][:-len(pidbox) - 1] for member in bound} - answered)
            named = f" ({', '.join(silent)} did not)" if len(silent) == listening - len(answered) else ""
            self.question.problems.append(
                f"{listening} Celery workers listen on the broker, and {len(answered)} answered within {_WAIT_FOR_NODES:g} s{named}: "
                "who consumes and what runs is not told. A busy node of the solo pool is silent, and so is one that hangs")

    def _others(self) -> list[str]:
        """Queues that hold messages, and those that nodes consume."""
        names, self.complete = queues.keys(self.client, self.wire.key("*"), "list")
        if not self.complete:
            self.question.problems.append(queues.CUT)
        prefix = len(self.wire.global_keyprefix)
        ends = {name[prefix:]: self.wire.key(name[prefix:]) for name in names}
        tails = self.client.pipeline([("LINDEX", key, "-1") for key in ends.values()], raise_errors=False)
        found = {name.partition(self.wire.sep)[0] for name, tail in zip(ends, tails)
                 if not name.startswith("workfleet:") and _is_task(tail)}
        return sorted(found | {queue for report in self.reports.values() for queue in report.queues or ()})

    def _read(self) -> None:
        lists = {figures.queue: self.wire.lists(figures.queue) for figures in self.found}
        every = [key for keys in lists.values() for key in keys]
        marks = [(key, newest) for queue in lists for key, newest in self._newest(queue).items() if newest is not None]
        now, held, seen, *rest = queues.transaction(self.client, [
            ("TIME",), ("EVAL", _HELD, 1, self.wire.key(self.wire.unacked_key), queues.MOST_HELD),
            ("HGETALL", self._memory),
            *((word, key, *more) for key in every for word, *more in (("LLEN",), ("LINDEX", "0"), ("LINDEX", "-1"))),
            *(("LPOS", key, newest, "MAXLEN", _FARTHEST_MARK) for key, newest in marks),
        ])
        ends = {key: rest[place * 3:place * 3 + 3] for place, key in enumerate(every)}
        places = dict(zip((key for key, _ in marks), rest[3 * len(every):]))
        at = queues.seconds(now)
        by_queue = self._held(held, at)
        asked = None if self.question.all_of_it and self.complete else every
        ages = _Ages(seen, at, asked)
        for figures in self.found:
            figures.at = at
            self._fill(figures, {key: ends[key] for key in lists[figures.queue]}, by_queue, ages, places)
        self._remember(ages)

    def _newest(self, queue: str) -> dict[str, bytes | None]:
        earlier = self.question.earlier(queue)
        return earlier.mark.newest if earlier and earlier.mark else {}

    def _fill(
        self, figures: Figures, ends: dict[str, list[resp.Reply]], held: dict[str, Held] | None, ages: _Ages, places: dict[str, resp.Reply],
    ) -> None:
        wrong = next((key for key, (length, _, _) in ends.items() if isinstance(length, resp.RespError)), None)
        if wrong is not None:
            figures.exists, figures.problem = True, foreign(figures.queue, wrong, ends[wrong][0])
            return
        lengths = {key: int(length) for key, (length, _, _) in ends.items()}
        figures.waiting = sum(lengths.values())
        figures.priorities = {str(step): length for step, length in zip(self.wire.priority_steps, lengths.values())}
        if held is not None:
            mine = held.get(figures.queue, Held())
            figures.unacknowledged, figures.scheduled, figures.retrying = mine.count, mine.scheduled, mine.retrying
        figures.of_nodes(self.reports, whole=self.heard_all)
        figures.exists = bool(figures.waiting or figures.unacknowledged or figures.consumers) or (False if self.heard_all else None)
        if figures.queue == self.wire.deadletter_queue:
            figures.dead, figures.waiting = figures.waiting, 0
        figures.oldest_age_seconds, figures.oldest_age_is = ages.oldest([(key, tail) for key, (_, _, tail) in ends.items() if tail])
        begun = queues.finished(self.reports, figures.queue) if self.heard_all else None
        figures.mark = Mark({key: head for key, (_, head, _) in ends.items()}, lengths, begun)
        earlier = self.question.earlier(figures.queue)
        if earlier is not None and earlier.mark is not None:
            figures.came, figures.went = _flow(earlier.mark, figures.mark, places)

    def _held(self, reply: resp.Reply, at: float) -> dict[str, Held] | None:
        if isinstance(reply, resp.RespError):
            raise WorkfleetError(f"the key {self.wire.key(self.wire.unacked_key)} cannot be read as what Celery's workers hold: {reply}")
        _, complete, *told = reply
        if not complete:
            return None
        places = [(_origin(tail), count, retrying, etas) for tail, count, retrying, *etas in told]
        bindings = self._bindings({exchange for (exchange, _), *_ in places if exchange})
        found: dict[str, Held] = {}
        for (exchange, key), count, retrying, etas in places:
            for queue in bindings.get((exchange, key)) or ([key] if key else []):
                mine = found.setdefault(queue, Held())
                mine.count += count
                mine.retrying += retrying
                mine.scheduled += sum(_time(resp.text(eta), 0.0) > at for eta in etas)
        return found

    def _bindings(self, exchanges: set[str]) -> dict[tuple[str, str], list[str]]:
        """Which queues an exchange and a routing key lead to, where they are not simply the queue's name."""
        names = sorted(exchanges)
        members = self.client.pipeline([("SMEMBERS", self.wire.key(f"_kombu.binding.{name}")) for name in names], raise_errors=False)
        found: dict[tuple[str, str], list[str]] = {}
        for name, bindings in zip(names, members):
            for binding in bindings if isinstance(bindings, list) else ():
                key, *rest = resp.text(binding).split(self.wire.sep)
                if len(rest) >= 2:  # with another sep it is another app's
                    found.setdefault((name, key), []).append(rest[1])
        return found

    @property
    def _memory(self) -> str:
        return self.wire.key(f"workfleet:{self.question.app}:oldest")

    def _remember(self, ages: _Ages) -> None:
        """Who may not write sees no ages; the figures are told all the same."""
        commands: list[Sequence[resp.Argument]] = [("HDEL", self._memory, *ages.gone)] if ages.gone else []
        if ages.new:
            commands += [("HSET", self._memory, *(word for pair in ages.new.items() for word in pair)),
                         ("EXPIRE", self._memory, _REMEMBERED)]
        self.client.pipeline(commands, raise_errors=False)


class _Ages:
    """How old the next message of each list is, and since when it has been seen there."""

    def __init__(self, seen: resp.Reply, at: float, asked: Sequence[str] | None) -> None:
        """``asked`` are the lists that this look is about; what is remembered of others stays. None for all that there are."""
        self.seen = dict(zip(seen[::2], seen[1::2])) if isinstance(seen, list) else {}
        self.at = at
        self.new: dict[bytes, bytes] = {}
        self.gone: set[bytes] = set(self.seen)
        if asked is not None:
            self.gone &= {key.encode(errors="surrogateescape") for key in asked}

    def oldest(self, tails: Sequence[tuple[str, bytes]]) -> tuple[float | None, str]:
        """The age of the oldest of some lists, and how far that holds."""
        told = [self._age(key.encode(errors="surrogateescape"), tail) for key, tail in tails]
        known = [age for age, _ in told if age is not None]
        if not known:
            return None, "unknown"
        return max(known), "exact" if all(exact for _, exact in told) else "at_least"

    def _age(self, key: bytes, tail: bytes) -> tuple[float | None, bool]:
        self.gone.discard(key)
        sent = sent_at(tail)
        if sent is not None:
            return self.at - sent, True
        identity = hashlib.sha256(tail).hexdigest()[:16].encode()
        known, _, since = self.seen.get(key, b"").partition(b" ")
        if known == identity:
            with contextlib.suppress(ValueError):
                return max(0.0, self.at - float(since)), False
        self.new[key] = identity + b" %.3f" % self.at
        return None, False


def _flow(before: Mark, after: Mark, places: dict[str, resp.Reply]) -> tuple[int | None, int | None]:
    """What came and went: new messages stand before the one that was the newest; once that has gone only the nodes know."""
    change = sum(after.lengths.values()) - sum(before.lengths.values())
    used = [key for key, newest in before.newest.items() if newest is not None or after.lengths[key]]
    came = queues.total(places.get(key) for key in used)
    if came is not None and any(before.lengths.values()):
        return came, max(0, came - change)
    begun = queues.grown(before.finished, after.finished)
    return (None, None) if begun is None else (max(0, begun + change), begun)


def _origin(tail: bytes) -> tuple[str, str]:
    """The exchange and the routing key of what is held; empty where they cannot be read."""
    try:
        exchange, key = json.loads("[" + resp.text(tail).lstrip(", "))
        return (exchange, key) if isinstance(exchange, str) and isinstance(key, str) else ("", "")
    except (ValueError, TypeError, RecursionError):
        return "", ""


def _is_task(message: resp.Reply) -> bool:
    """Whether a list's element is a task of Celery's; pidbox and result messages are none."""
    try:
        return "task" in json.loads(message)["headers"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def sent_at(message: bytes) -> float | None:
    """When a message was sent, where the app says so."""
    try:
        told = json.loads(message)
        stamps = [told[where].get(name) for name in STAMPS for where in ("headers", "properties")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    times = [_time(stamp, None) for stamp in stamps if stamp is not None]
    return next((time for time in times if time is not None), None)


def _time(stamp: Any, otherwise: Any) -> Any:
    try:
        if isinstance(stamp, (int, float)) and not isinstance(stamp, bool):
            found = float(stamp)
        else:
            moment = datetime.fromisoformat(str(stamp).replace("Z", "+00:00"))
            found = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError, RecursionError):
        return otherwise
    return found if math.isfinite(found) else otherwise


def task_of(message: bytes) -> tuple[str | None, str | None]:
    """The name and the id of a message's task; ``None`` where it is none of Celery's."""
    try:
        headers = json.loads(message)["headers"]
        return headers.get("task"), headers.get("id")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, None
