"""The figures of Celery's queues, from one transaction: list lengths, both ends of each list, and what workers hold.

Waiting messages carry no time of their own, so an age is exact only where the app stamps its messages. Else it is
known from below: the message that is next was next already when somebody looked before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ... import decode, resp
from ...decode import BadEntry
from ...errors import WorkfleetError
from ..verbs import figures as queues
from ..verbs.figures import Figures, Question
from . import held as celery_held
from .message import Message, sent_at
from .wire import Wire, foreign, inspect_all, report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..verbs.report import Report

_WAIT_FOR_NODES = 1.0
_FARTHEST_MARK = 200_000
#: Exchanges of held messages whose bindings are looked up.
_MOST_EXCHANGES = 1000
_REMEMBERED = 86400
#: What is remembered of more lists is forgotten as a whole.
_MOST_REMEMBERED = 10_000
#: Bytes of a message by which it is found again.
_LARGEST_MARK = 64 << 10
_METHODS: dict[str, dict[str, Any]] = {"stats": {}, "active": {}, "active_queues": {}}

# Of each list its length, its newest message if that is small, and of the next one a digest and, as long as it is not too
# much, the message. ARGV: the largest newest, the largest next, and how much of these.
_ENDS = """
local found, left = {}, tonumber(ARGV[3])
for i, key in ipairs(KEYS) do
  local length = redis.pcall('LLEN', key)
  if type(length) == 'table' then
    found[i] = length
  else
    local newest, tail = redis.call('LINDEX', key, 0), redis.call('LINDEX', key, -1)
    local digest = tail and redis.sha1hex(tail)
    if newest and #newest > tonumber(ARGV[1]) then newest = false end
    if tail and (#tail > tonumber(ARGV[2]) or #tail > left) then tail = '' end
    if tail then left = left - #tail end
    found[i] = {length, newest, tail, digest}
  end
end
return found
"""
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
    if #tail > 1000 then tail = '' end
    local told = found[tail]
    if not told then
      told = {tail, 0, 0}
      found[tail] = told
      order[#order + 1] = told
    end
    told[2] = told[2] + 1
    if string.find(entry, '"retries": [1-9]') then told[3] = told[3] + 1 end
    local eta = string.match(entry, '"eta": "([^"]*)"')
    if eta and #eta < 100 then told[#told + 1] = eta end
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
        self.question.problems.extend(self.question.unread.said())
        return self.found

    def _ask(self) -> None:
        """Ask all that listen. Who is silent may consume any queue and run any task, as a busy node of the solo pool does."""
        asked, listening = inspect_all(self.client, _METHODS, _WAIT_FOR_NODES, self.wire)
        self.reports = {node: report(answers) for node, answers in asked.items() if answers}
        self.question.heard.update(self.reports)
        answered = {node for node, answers in asked.items() if len(answers) == len(_METHODS)}
        self.heard_all = len(answered) >= listening
        if not self.heard_all:
            pidbox = f"{self.wire.control_exchange}.pidbox"
            bound = celery_held.table(self.client, self.wire, pidbox, self.question.unread)
            silent = sorted({binding.queue[:-len(pidbox) - 1] for binding in bound} - answered)
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
        tails = queues.each(self.client, ("LINDEX", "-1"), list(ends.values()))
        found = {name.partition(self.wire.sep)[0] for name, (_, tail) in zip(ends, tails)
                 if not name.startswith("workfleet:") and tail and _is_task(tail)}
        return sorted(found | {queue for report in self.reports.values() for queue in report.queues or ()})

    def _read(self) -> None:
        lists = {figures.queue: self.wire.lists(figures.queue) for figures in self.found}
        every = [key for keys in lists.values() for key in keys]
        marks = [(key, newest) for queue in lists for key, newest in self._newest(queue).items() if newest is not None]
        now, held, remembered, seen, lists_told, *rest = queues.transaction(self.client, [
            ("TIME",), ("EVAL", _HELD, 1, self.wire.key(self.wire.unacked_key), queues.MOST_HELD),
            ("HLEN", self._memory), ("HMGET", self._memory, "", *every),
            ("EVAL", _ENDS, len(every), *every, _LARGEST_MARK, decode.LARGEST, queues.AT_ONCE),
            *(("LPOS", key, newest, "MAXLEN", _FARTHEST_MARK) for key, newest in marks),
        ])
        for reply in (remembered, seen, lists_told):
            if isinstance(reply, resp.RespError) and (reply is lists_told or reply.code != "WRONGTYPE"):
                raise reply
        ends = dict(zip(every, lists_told))
        places = dict(zip((key for key, _ in marks), rest))
        at = queues.seconds(now)
        by_queue = self._held(held, at)
        ages = _Ages(dict(zip(every, seen[1:])) if isinstance(seen, list) else {}, at)
        for figures in self.found:
            figures.at = at
            self._fill(figures, {key: ends[key] for key in lists[figures.queue]}, by_queue, ages, places)
        is_full = isinstance(remembered, int) and remembered > _MOST_REMEMBERED
        if self.question.all_of_it and self.complete and isinstance(remembered, int) and not is_full and remembered > ages.known:
            known = {key.encode(errors="surrogateescape") for key in every}
            ages.gone.update(key for key in self.client.call("HKEYS", self._memory) if key not in known)
        self._remember(ages, is_full=is_full)

    def _newest(self, queue: str) -> dict[str, bytes | None]:
        earlier = self.question.earlier(queue)
        return earlier.mark.newest if earlier and earlier.mark else {}

    def _fill(
        self, figures: Figures, ends: dict[str, Any], held: dict[str, Held] | None, ages: _Ages, places: dict[str, resp.Reply],
    ) -> None:
        wrong = next((key for key, told in ends.items() if isinstance(told, resp.RespError)), None)
        if wrong is not None:
            figures.exists, figures.problem = True, foreign(figures.queue, wrong, ends[wrong])
            return
        lengths = {key: int(length) for key, (length, *_) in ends.items()}
        figures.waiting = sum(lengths.values())
        figures.priorities = {str(step): length for step, length in zip(self.wire.priority_steps, lengths.values())}
        if held is not None:
            mine = held.get(figures.queue, Held())
            figures.unacknowledged, figures.scheduled, figures.retrying = mine.count, mine.scheduled, mine.retrying
        figures.of_nodes(self.reports, whole=self.heard_all)
        figures.exists = bool(figures.waiting or figures.unacknowledged or figures.consumers) or (False if self.heard_all else None)
        if figures.queue == self.wire.deadletter_queue:
            figures.dead, figures.waiting = figures.waiting, 0
        figures.oldest_age_seconds, figures.oldest_age_is = ages.oldest(
            [(key, tail, digest) for key, (_, _, tail, digest) in ends.items() if digest])
        begun = queues.finished(self.reports, figures.queue) if self.heard_all else None
        ages.gone.update(key for key, (length, *_) in ends.items() if not length and ages.seen.get(key))
        figures.mark = Mark({key: head for key, (_, head, *_) in ends.items()}, lengths, begun)
        earlier = self.question.earlier(figures.queue)
        if earlier is not None and earlier.mark is not None:
            figures.came, figures.went = _flow(earlier.mark, figures.mark, places)

    def _held(self, reply: resp.Reply, at: float) -> dict[str, Held] | None:
        if isinstance(reply, resp.RespError):
            raise WorkfleetError(f"the key {self.wire.key(self.wire.unacked_key)} cannot be read as what Celery's workers hold: {reply}")
        _, complete, *told = reply
        if not complete:
            return None
        unacked, places = self.wire.key(self.wire.unacked_key), []
        for tail, count, retrying, *etas in told:
            try:
                places.append((_origin(tail), count, retrying, etas))
            except BadEntry as error:
                self.question.unread.add(unacked, tail, error)
        bindings = self._bindings({exchange for (exchange, _), *_ in places if exchange})
        found: dict[str, Held] = {}
        for (exchange, key), count, retrying, etas in places:
            for queue in bindings.get((exchange, key)) or ([key] if key else []):
                mine = found.setdefault(queue, Held())
                mine.count += count
                mine.retrying += retrying
                mine.scheduled += sum(_is_later(eta, at) for eta in etas)
        return found

    def _bindings(self, exchanges: set[str]) -> dict[tuple[str, str], list[str]]:
        """Which queues an exchange and a routing key lead to, where they are not simply the queue's name."""
        found: dict[tuple[str, str], list[str]] = {}
        for exchange in sorted(exchanges)[:_MOST_EXCHANGES]:
            for binding in celery_held.table(self.client, self.wire, exchange, self.question.unread):
                found.setdefault((exchange, binding.key), []).append(binding.queue)
        return found

    @property
    def _memory(self) -> str:
        return self.wire.key(f"workfleet:{self.question.app}:oldest")

    def _remember(self, ages: _Ages, *, is_full: bool) -> None:
        """Who may not write sees no ages; the figures are told all the same."""
        commands: list[Sequence[resp.Argument]] = [("UNLINK", self._memory)] if is_full else []
        if ages.gone:
            commands.append(("HDEL", self._memory, *ages.gone))
        if ages.new:
            commands += [("HSET", self._memory, *(word for pair in ages.new.items() for word in pair)),
                         ("EXPIRE", self._memory, _REMEMBERED)]
        self.client.pipeline(commands, raise_errors=False)


class _Ages:
    """How old the next message of each list is, and since when it has been seen there."""

    def __init__(self, seen: dict[str, bytes | None], at: float) -> None:
        """``seen`` is what is remembered of the lists that this look is about."""
        self.seen, self.at = seen, at
        self.new: dict[str, bytes] = {}
        #: Lists of which nothing is to be remembered any more.
        self.gone: set[str | bytes] = set()

    @property
    def known(self) -> int:
        """Of how many lists something is remembered."""
        return sum(told is not None for told in self.seen.values())

    def oldest(self, tails: Sequence[tuple[str, bytes, bytes]]) -> tuple[float | None, str]:
        """The age of the oldest of some lists, and how far that holds. Each with its next message and that one's digest."""
        told = [self._age(key, tail, digest[:16]) for key, tail, digest in tails]
        known = [age for age, _ in told if age is not None]
        if not known:
            return None, "unknown"
        return max(known), "exact" if all(exact for _, exact in told) else "at_least"

    def _age(self, key: str, tail: bytes, identity: bytes) -> tuple[float | None, bool]:
        sent = sent_at(tail)
        if sent is not None:
            return self.at - sent, True
        known, _, since = (self.seen.get(key) or b"").partition(b" ")
        if known == identity and (then := _seconds(since)) is not None:
            return max(0.0, self.at - then), False
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


def _seconds(said: bytes) -> float | None:
    """The time since when a message has been seen, as it is remembered; ``None`` where somebody else wrote there."""
    try:
        found = float(said[:40])
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def _is_later(eta: bytes, at: float) -> bool:
    try:
        return decode.moment(resp.text(eta)) > at
    except BadEntry:
        return False


def _origin(tail: bytes) -> tuple[str, str]:
    """The exchange and the routing key of what is held."""
    exchange, key = decode.parts(decode.document(b"[" + tail.lstrip(b", ")), 2)
    return decode.text(exchange), decode.text(key)


def _is_task(message: bytes) -> bool:
    """Whether a list's element is a task of Celery's; pidbox and result messages are none."""
    try:
        return Message(message).is_task
    except BadEntry:
        return False
