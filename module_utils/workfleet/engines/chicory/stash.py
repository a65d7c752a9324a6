"""Chicory's queues emptied and filled: messages that no worker was given, delayed tasks; and dead letters.

Of a whole queue also what workers were given and have not acknowledged. What they have acknowledged stays in the stream
until it is trimmed, and is no task any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import decode, resp
from ...decode import BadEntry
from ...dump import fields, unfields
from ...errors import WorkfleetError
from ..pickled import text_of
from ..verbs import figures as queues
from ..verbs.stash import DONE, MOST_RECORDS, TAKE_KEY, Stash, chunks, refuse_priority
from .wire import DEAD, DELAYED, STREAM, consumer_group

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WAITING, LATER, LETTERS = "waiting", "delayed", "dead"
_PAGE = 500

# ARGV: the group, then the messages. One that a worker has been given meanwhile stays.
_TAKE = """
local function place(id)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  return tonumber(ms), tonumber(seq)
end
local last = '0-0'
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  if group['name'] == ARGV[1] then last = group['last-delivered-id'] end
end
local ms, seq = place(last)
for i = 2, #ARGV do
  local a, b = place(ARGV[i])
  if a > ms or (a == ms and b > seq) then
    local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
    if found[1] then
      redis.call('XADD', KEYS[2], ARGV[i], unpack(found[1][2]))
      redis.call('XDEL', KEYS[1], ARGV[i])
    end
  end
end
"""
# ARGV: the group, then messages that its workers were given; one that was trimmed since is no task any more.
_TAKE_HELD = """
for i = 2, #ARGV do
  local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
  if found[1] then
    redis.call('XADD', KEYS[2], ARGV[i], unpack(found[1][2]))
    redis.call('XDEL', KEYS[1], ARGV[i])
  end
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
end
"""
# Where nothing is left ahead of the workers they are told so, or the server would count what was taken as waiting.
_SETTLE = """
local stream = {}
local flat = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #flat, 2 do stream[flat[i]] = flat[i + 1] end
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  if group['name'] == ARGV[1] and #redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 1) == 0 then
    if stream['entries-added'] then
      redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], stream['last-generated-id'], 'ENTRIESREAD', stream['entries-added'])
    else
      redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], stream['last-generated-id'])
    end
  end
end
"""
_TAKE_LATER = """
for _, data in ipairs(ARGV) do
  local due = redis.call('ZSCORE', KEYS[1], data)
  if due then
    redis.call('ZREM', KEYS[1], data)
    redis.call('ZADD', KEYS[2], due, data)
  end
end
"""
_TAKE_LETTERS = """
for _, id in ipairs(ARGV) do
  local found = redis.call('XRANGE', KEYS[1], id, id)
  if found[1] then
    redis.call('XADD', KEYS[2], id, unpack(found[1][2]))
    redis.call('XDEL', KEYS[1], id)
  end
end
"""
_PUT_BACK = """
local some = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 500)
for _, entry in ipairs(some) do
  redis.call('XADD', KEYS[2], '*', unpack(entry[2]))
  redis.call('XDEL', KEYS[1], entry[1])
end
return #some
"""
_PUT_BACK_LATER = """
local some = redis.call('ZRANGE', KEYS[1], 0, 499, 'WITHSCORES')
for i = 1, #some, 2 do
  redis.call('ZADD', KEYS[2], some[i + 1], some[i])
  redis.call('ZREM', KEYS[1], some[i])
end
return #some
"""


class ChicoryStash(Stash):
    """A Chicory queue, or its dead letters."""


    @property
    def group(self) -> str:
        """The workers of the queue."""
        return consumer_group(self.options)

    def source(self, place: str) -> str:
        """Where a place's tasks are while they wait."""
        return {WAITING: STREAM, LATER: DELAYED, LETTERS: DEAD}[place] + self.choice.queue

    def check(self) -> None:
        """There are no priorities; keys of another kind are left alone."""
        refuse_priority(self.choice, "chicory")
        for place, kind in ((WAITING, b"stream"), (LATER, b"zset"), (LETTERS, b"stream")):
            found = self.client.call("TYPE", self.source(place))
            if found not in (kind, b"none"):
                raise WorkfleetError(f"queue {self.choice.queue}: the key {self.source(place)} in Redis is not of Chicory's kind; "
                                     "nothing was touched")

    def take(self) -> None:
        """Move messages page by page, those that no worker has been given."""
        self.client.call(*self.note("taken"))
        if self.choice.dead:
            self._take_letters()
            return
        if self.choice.whole:
            self._take_held()
            self.script(TAKE_KEY, [self.source(LETTERS), self.own(LETTERS)])
        if self.client.call("EXISTS", self.source(WAITING)):
            self._take_waiting()
            self.script(_SETTLE, [self.source(WAITING)], self.group)
        if self.choice.older_than is None:  # a delayed task tells when it is due, not when it was sent
            self._take_later()

    def _take_held(self) -> None:
        words = ("XPENDING", self.source(WAITING), self.group, "-", "+", _PAGE)
        while page := self._replies(words):
            self.script(_TAKE_HELD, [self.source(WAITING), self.own(WAITING)], self.group, *(entry[0] for entry in page))

    def _replies(self, words: Sequence[resp.Argument]) -> list[resp.Reply]:
        """What the server answers; nothing where there is no such stream or group."""
        reply = self.client.pipeline([words], raise_errors=False, timeout=60.0)[0]
        if not isinstance(reply, resp.RespError):
            return list(reply)
        if reply.code == "NOGROUP" or "no such key" in str(reply):
            return []
        raise reply

    def count(self) -> int:
        """Look at the messages as they are."""
        if self.choice.dead:
            looks = [("XRANGE", self.source(LETTERS), tag, tag) for tag in self.choice.ids]
            return sum(map(len, self.client.pipeline(looks, timeout=60.0)))
        found = 0
        if self.client.call("EXISTS", self.source(WAITING)):
            found += sum(map(len, self._waiting()))
        if self.choice.older_than is None:
            found += sum(map(len, self._later(stays=True)))
        return found

    def away(self) -> int:
        """What was taken."""
        return int(sum(self.client.pipeline([("XLEN", self.own(WAITING)), ("ZCARD", self.own(LATER)), ("XLEN", self.own(LETTERS))])))

    def _waiting(self) -> Iterator[list[bytes]]:
        """Yield what is meant of each page of what no worker has been given."""
        last, now = self._delivered(), queues.seconds(self.client.call("TIME"))
        while page := queues.page(self.client, "XRANGE", self.source(WAITING), f"({last}", "+", "COUNT", _PAGE):
            last = resp.text(page[-1][0])
            yield [tag for tag, told in page if self._is_meant(told) and self._is_old(tag, now)]

    def _take_waiting(self) -> None:
        for meant in filter(None, self._waiting()):
            self.script(_TAKE, [self.source(WAITING), self.own(WAITING)], self.group, *meant)

    def _delivered(self) -> str:
        for flat in self.client.call("XINFO", "GROUPS", self.source(WAITING)):
            told = {resp.text(name): value for name, value in zip(flat[::2], flat[1::2])}
            if resp.text(told["name"]) == self.group:
                return resp.text(told["last-delivered-id"])
        return "0-0"

    def _is_meant(self, told: Sequence[bytes]) -> bool:
        return self.choice.task_name is None or text_of(dict(zip(told[::2], told[1::2])).get(b"data", b""), "name") == self.choice.task_name

    def _is_old(self, tag: bytes, now: float) -> bool:
        return self.choice.older_than is None or now - int(tag.partition(b"-")[0]) / 1000 >= self.choice.older_than

    def _later(self, *, stays: bool) -> Iterator[list[bytes]]:
        """Yield what is meant of each page of delayed tasks; what is taken from one moves the next, unless it ``stays``."""
        offset = 0
        while page := queues.page(self.client, "ZRANGE", self.source(LATER), offset, offset + _PAGE - 1):
            meant = [data for data in page if self.choice.task_name is None or text_of(data, "name") == self.choice.task_name]
            yield meant
            offset += len(page) - (0 if stays else len(meant))

    def _take_later(self) -> None:
        for meant in filter(None, self._later(stays=False)):
            self.script(_TAKE_LATER, [self.source(LATER), self.own(LATER)], *meant)

    def _take_letters(self) -> None:
        for start in range(0, len(self.choice.ids), _PAGE):
            self.script(_TAKE_LETTERS, [self.source(LETTERS), self.own(LETTERS)], *sorted(self.choice.ids[start:start + _PAGE], key=_order))

    def taken(self) -> Iterator[tuple[str, list[bytes]]]:
        """Read each place from its oldest."""
        for place in (LETTERS,) if self.choice.dead else (WAITING, LATER, LETTERS):
            records = self._delayed() if place == LATER else self._entries(place)
            yield from ((place, block) for block in chunks(records))

    def _entries(self, place: str) -> Iterator[bytes]:
        last = "-"
        while page := queues.page(self.client, "XRANGE", self.own(place), last, "+", "COUNT", MOST_RECORDS):
            last = f"({resp.text(page[-1][0])}"
            yield from (fields(tag, *told) for tag, told in page)

    def _delayed(self) -> Iterator[bytes]:
        offset = 0
        while page := queues.page(self.client, "ZRANGE", self.own(LATER), offset, offset + MOST_RECORDS - 1, "WITHSCORES", stride=2):
            yield from (fields(due, data) for data, due in zip(page[::2], page[1::2]))
            offset += len(page) // 2

    def drop(self) -> None:
        """Delete what was taken."""
        self.together(("UNLINK", *map(self.own, (WAITING, LATER, LETTERS))), self.forget)

    def put_back(self) -> None:
        """Return the messages; they get new numbers, behind those that came since."""
        for place, text in ((WAITING, _PUT_BACK), (LETTERS, _PUT_BACK), (LATER, _PUT_BACK_LATER)):
            while self.script(text, [self.own(place), self.source(place)]):
                pass
        self.together(("UNLINK", *map(self.own, (WAITING, LATER, LETTERS))), self.progress(DONE), self.forget)

    def examine(self, place: str, record: bytes) -> None:
        """A message is a number and pairs of words, a delayed task its time and its words."""
        told = unfields(record)
        is_right = len(told) == 2 if place == LATER else len(told) > 2 and len(told) % 2 == 1
        if place not in (WAITING, LATER, LETTERS) or not is_right:
            raise BadEntry(f"{place}, {len(told)}: it is no message of a Chicory queue")
        if place == LATER:
            decode.number(decode.document(told[0], largest=40))

    def add(self, place: str, records: Sequence[bytes], note: Sequence[resp.Argument]) -> None:
        """Messages get new numbers, in their order."""
        told = [unfields(record) for record in records]
        commands: list[Sequence[resp.Argument]] = [("XADD", self.source(place), "*", *content) for _, *content in told]
        if place == LATER:
            commands = [("ZADD", self.source(LATER), due, data) for due, data in told]
        self.together(*commands, note)


def _order(tag: str) -> tuple[int, int]:
    milliseconds, _, number = tag.partition("-")
    return int(milliseconds), int(number or 0)
