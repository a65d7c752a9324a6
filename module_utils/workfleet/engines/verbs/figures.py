"""What can be told of a queue, whatever its engine: the figures, and what is asked to get them.

A figure that cannot be told is ``None``, never 0; one that would need the payloads of a whole queue is not told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ... import resp
from ...decode import LARGEST, BadEntry, Unread
from ...errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from .report import Report

#: Keys of a database that are looked through for queues and workers that nobody declared; beyond these it is said that there are more.
MOST_KEYS = 200_000
#: Messages that workers hold whose queue is looked up one by one.
MOST_HELD = 10_000
#: Names that are held at once where all have to be known.
MOST_NAMES = 1_000_000
#: Bytes of payloads that are read in one go, if a single one is not larger.
AT_ONCE = 8 << 20
_KEYS_A_LOOK = 2000
_PAGE = 200
# What a command answers, as far as it is not too large; the first of it in any case. ARGV: how much that is, how many values
# belong together (negative: the last are the first), the command and its words without the key.
_BOUNDED = """
local page = redis.call(ARGV[3], KEYS[1], unpack(ARGV, 4))
local most, stride, found, size = tonumber(ARGV[1]), tonumber(ARGV[2]), {}, 0
local first, last, step = 1, #page, 1
if stride < 0 then first, last, step, stride = #page, 1, -1, -stride end
for i = first, last, step do
  local value = page[i]
  local words = type(value) == 'table' and value[2] or {value}
  for _, word in ipairs(words) do size = size + #word end
  if size > most and #found > 0 and #found % stride == 0 then break end
  found[#found + 1] = value
end
return found
"""
# What a command answers of each key, of as many keys as is not too much at once. ARGV: how much that is, and of one key; the command.
_EACH = """
local function size_of(reply)
  local size = type(reply) == 'table' and 0 or #tostring(reply or '')
  for _, word in ipairs(type(reply) == 'table' and reply or {}) do size = size + size_of(word) end
  return size
end
local found, size = {}, 0
for i, key in ipairs(KEYS) do
  local reply = redis.pcall(ARGV[3], key, unpack(ARGV, 4))
  if type(reply) == 'table' and reply.err then reply = '' end
  local here = size_of(reply)
  if here > tonumber(ARGV[2]) then reply, here = '', 0 end
  size = size + here
  if size > tonumber(ARGV[1]) and i > 1 then break end
  found[i] = reply
end
return found
"""
# A page of a hash, with the sizes of its values in place of them.
_SIZES = """
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
for i = 2, #page[2], 2 do page[2][i] = #page[2][i] end
return page
"""
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
    #: What all nodes have told that were asked by the engine itself, by name.
    heard: dict[str, Report] = field(default_factory=dict)
    #: What could not be read as what it has to be.
    unread: Unread = field(default_factory=Unread)

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


def look(
    question: Question,
    others: Callable[[resp.Client], tuple[list[str], bool]],
    nodes: Callable[[resp.Client], dict[str, Report] | None],
    command: Callable[[str], Sequence[resp.Argument]],
    fill: Callable[[Figures, Any, dict[str, Report] | None], None],
    flow: Callable[[Figures, Figures], None],
) -> list[Figures]:
    """Return the figures of the declared queues, and with ``all_of_it`` of all others, of an engine whose nodes have heartbeats in Redis.

    ``others`` and ``nodes`` tell what queues and nodes there are (whether these are all; ``None`` where there are too many keys),
    ``command`` is the one look at a queue, ``fill`` puts its answer and what nodes tell into the figures, and ``flow`` what came and
    went since earlier ones.
    """
    found = [Figures(queue) for queue in dict.fromkeys(question.queues)]
    reports: dict[str, Report] | None = dict(question.reports)
    with resp.connect(question.url) as client:
        if question.all_of_it:
            names, complete = others(client)
            question.problems.extend([] if complete else [CUT])
            found += [Figures(queue, declared=False) for queue in names if queue not in question.queues]
            reports = nodes(client)
            question.heard.update(reports or {})
        clock, *replies = transaction(client, [("TIME",), *(command(item.queue) for item in found)])
    for item, reply in zip(found, replies):
        item.at = seconds(clock)
        fill(item, reply, reports)
        earlier = question.earlier(item.queue)
        if earlier is not None and item.problem is None:
            flow(earlier, item)
    return found


def beats(
    client: resp.Client, start: str, read: Callable[[bytes], Report | None], largest: int, kind: str = ""
) -> dict[str, Report] | None:
    """Return what the heartbeats of all nodes tell, by the names behind ``start``; ``None`` where there are too many keys to find them."""
    names, complete = keys(client, f"{start}*", kind)
    if not complete:
        return None
    told = {resp.text(name)[len(start):]: read(beat) for name, beat in strings(client, names, Unread(), largest) if beat is not None}
    return {name: report for name, report in told.items() if report is not None}


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


def pages(client: resp.Client, pattern: str, kind: str = "") -> Iterator[list[str]]:
    """Yield the names of all keys look by look, however many there are; one may come again in a later look."""
    words = ["MATCH", pattern, "COUNT", str(_KEYS_A_LOOK), *(["TYPE", kind] if kind else [])]
    cursor = b"0"
    while True:
        cursor, names = client.call("SCAN", cursor, *words)
        if names:
            yield sorted({resp.text(name) for name in names})
        if cursor == b"0":
            return


def every(client: resp.Client, pattern: str, kind: str = "") -> Iterator[str]:
    """Yield the names of all keys, each once; raises where these are too many to be held at once."""
    found: set[str] = set()
    for names in pages(client, pattern, kind):
        fresh = set(names) - found
        found |= fresh
        if len(found) > MOST_NAMES:
            raise WorkfleetError(f"the database has more than {MOST_NAMES} keys {pattern}: too many to look at each; nothing was touched")
        yield from sorted(fresh)


def literal(name: str) -> str:
    """Return a name as a pattern that nothing else fits."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", name)


def page(client: resp.Client, command: str, key: str, *words: resp.Argument, stride: int = 1) -> list[Any]:
    """Return what a command answers, and less of it where that would be too much at once; nothing only where there is nothing.

    ``stride`` values belong together, and where it is negative the last come first.
    """
    return list(client.call("EVAL", _BOUNDED, 1, key, AT_ONCE, stride, command, *words, timeout=60.0))


def each(client: resp.Client, command: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield what a command answers of each key, so many at once as can be borne; nothing of what is too large, or of another kind."""
    start = 0
    while start < len(names):
        replies = client.call("EVAL", _EACH, len(names[start:start + _PAGE]), *names[start:start + _PAGE], AT_ONCE, LARGEST, *command,
                              timeout=60.0)
        yield from zip(names[start:start + len(replies)], replies)
        start += len(replies)


def strings(
    client: resp.Client, names: Sequence[str | bytes], unread: Unread | None = None, largest: int = LARGEST
) -> Iterator[tuple[str | bytes, bytes | None]]:
    """Yield what stands under keys, so many at once as can be borne; of what is larger or of another kind ``None``, as a bad entry.

    Without ``unread`` all is wanted, however large.
    """
    for start in range(0, len(names), _PAGE):
        some = names[start:start + _PAGE]
        sizes = client.pipeline([("STRLEN", name) for name in some], raise_errors=unread is None)
        good: list[tuple[str | bytes, int]] = []
        for name, size in zip(some, sizes):
            if unread is not None and (isinstance(size, resp.RespError) or size > largest):
                why = "it is of another kind" if isinstance(size, resp.RespError) else f"it has {size} bytes, more than {largest}"
                unread.add(resp.text(name).rpartition(":")[0] or resp.text(name), resp.text(name), BadEntry(why))
                yield name, None
            else:
                good.append((name, size))
        for part in _parts(good):
            yield from zip(part, client.call("MGET", *part, timeout=60.0))


def hash_entries(client: resp.Client, key: str, unread: Unread, largest: int = LARGEST) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield the fields of a hash with their values, so many at once as can be borne; one that is larger is a bad entry."""
    cursor = b"0"
    while True:
        cursor, found = client.call("EVAL", _SIZES, 1, key, cursor, _PAGE, timeout=60.0)
        good = []
        for name, size in zip(found[::2], found[1::2]):
            if size > largest:
                unread.add(key, name, BadEntry(f"it has {size} bytes, more than {largest}"))
            else:
                good.append((name, size))
        for part in _parts(good):
            values = client.call("HMGET", key, *part, timeout=60.0)
            yield [(name, value) for name, value in zip(part, values) if value is not None]
        if cursor == b"0":
            return


def members(client: resp.Client, key: str) -> Iterator[list[bytes]]:
    """Yield the members of a set page by page."""
    cursor = b"0"
    while True:
        cursor, found = client.call("SSCAN", key, cursor, "COUNT", _PAGE)
        yield list(dict.fromkeys(found))
        if cursor == b"0":
            return


def _parts(sized: Iterable[tuple[Any, int]]) -> Iterator[list[Any]]:
    """Yield names in parts whose values can be borne at once."""
    part: list[Any] = []
    total = 0
    for name, size in sized:
        if part and total + size > AT_ONCE:
            yield part
            part, total = [], 0
        part.append(name)
        total += size
    if part:
        yield part


def transaction(client: resp.Client, commands: Sequence[Sequence[resp.Argument]]) -> list[resp.Reply]:
    """Run commands as one step and return their replies; an error reply stands in its command's place."""
    replies = client.pipeline([("MULTI",), *commands, ("EXEC",)])
    return list(replies[-1])
