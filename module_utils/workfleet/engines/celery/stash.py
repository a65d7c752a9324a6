"""Celery's queues emptied and filled: each list of a priority is a place, its oldest message at the right end.

A whole list is taken by renaming it, so a worker gets a message or the dump does, and it takes no time. Of a part of a
queue the others come back when the dump is safe, behind nothing that was sent later. What workers held comes to the
messages of its priority as the first to be read, as if they had given it back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ... import resp
from ...decode import BadEntry
from ...errors import WorkfleetError
from ..verbs import figures as queues
from ..verbs.stash import DONE, MOST_RECORDS, Choice, Stash
from . import held as celery_held
from .message import STAMPS, Message
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Both in one step with what is noted in the hash KEYS[1]. KEYS[2…]: pairs of lists.
_TAKE = """
for i = 2, #KEYS, 2 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= 'list' then return KEYS[i] end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('SET', ARGV[3], ARGV[4]) end
for i = 2, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('RENAME', KEYS[i], KEYS[i + 1]) end
end
return ''
"""
# Puts older messages to the right of what is there; the shorter of two lists is moved, one by one.
_JOIN = """
for i = 4, #KEYS, 2 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= 'list' then return KEYS[i] end
end
for i = 3, #KEYS, 2 do
  local older, queue = KEYS[i], KEYS[i + 1]
  if redis.call('EXISTS', older) == 1 then
    if redis.call('EXISTS', queue) == 0 then
      redis.call('RENAME', older, queue)
    elseif redis.call('LLEN', older) <= redis.call('LLEN', queue) then
      while redis.call('LMOVE', older, queue, 'LEFT', 'RIGHT') do end
    else
      while redis.call('LMOVE', queue, older, 'RIGHT', 'LEFT') do end
      redis.call('RENAME', older, queue)
    end
  end
end
if ARGV[1] ~= '' then redis.call('HDEL', KEYS[1], ARGV[1]) end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) end
for i = 4, #ARGV do redis.call('UNLINK', ARGV[i]) end
return ''
"""

_SINCE = "since"


class _Meant:
    """Whether a message is meant. ``before`` is when it has to be sent at the latest."""

    def __init__(self, choice: Choice, before: float | None) -> None:
        self.choice, self.before, self.ids = choice, before, frozenset(choice.ids)
        self.seen = self.dated = 0

    def __call__(self, message: bytes) -> bool:
        """Look at its headers, where that is needed."""
        self.seen += 1
        if self.choice.task_name is None and not self.ids and self.before is None:
            return True
        try:
            told = Message(message)
            if self.choice.task_name not in (None, told.task) or (self.ids and told.id not in self.ids):
                return False
        except BadEntry:
            return False  # what cannot be read is no task that was named
        if self.before is None:
            return True
        sent = told.sent_at
        self.dated += sent is not None
        return sent is not None and sent <= self.before

    def refuse(self) -> None:
        """Raise where an age is asked of messages of which none tells its own."""
        if self.before is not None and self.seen and not self.dated:
            raise WorkfleetError(f"older_than: queue {self.choice.queue}: no message that is meant says when it was sent (by a header "
                                 f"{' or '.join(STAMPS)}); use priority or task_name, or leave it out. Nothing was purged")


class CeleryStash(Stash):
    """A Celery queue; a dead-letter queue is one too."""


    @property
    def wire(self) -> Wire:
        """Where things stand in Redis."""
        return Wire.parse(self.options)

    @property
    def lists(self) -> dict[str, str]:
        """The lists of the chosen priorities, by place."""
        found = {str(step): key for step, key in zip(self.wire.priority_steps, self.wire.lists(self.choice.queue))}
        return found if self.choice.priority is None else {str(self.choice.priority): found[str(self.choice.priority)]}

    def check(self) -> None:
        """Celery's lists have only some priorities; keys of another kind are left alone."""
        steps = self.wire.priority_steps
        if self.choice.priority is not None and self.choice.priority not in steps:
            raise WorkfleetError(f"priority = {self.choice.priority}: there are lists for {', '.join(map(str, steps))}; "
                                 "what is between two of them waits in the lower one")
        lists = self.wire.lists(self.choice.queue)
        for key, kind in zip(lists, self.client.pipeline([("TYPE", key) for key in lists])):
            if kind not in (b"list", b"none"):
                self._refuse(key)

    def _refuse(self, key: str) -> None:
        raise WorkfleetError(f"queue {self.choice.queue}: the key {key!r} in Redis is no queue of Celery's (a list); nothing was touched")

    def take(self) -> None:
        """Rename the lists; what is old is told by the time when this was done."""
        pairs = [key for place, queue in self.lists.items() for key in (queue, self.own(place))]
        _, purges, identity, said = self.note("taken")
        dated = [] if self.choice.older_than is None else [self.own(_SINCE), f"{self._now():.3f}"]
        wrong = self.script(_TAKE, [str(purges), *pairs], identity, said, *(dated or ("", "")))
        if wrong:
            self._refuse(resp.text(wrong))
        if self.choice.whole:
            self._take_held()

    def _take_held(self) -> None:
        wire = self.wire
        tables = celery_held.tables(self.client, wire, self.unread)
        for page in celery_held.read(self.client, wire, self.unread):
            mine = []
            for held in page:
                with self.unread.entry(wire.key(wire.unacked_key), held.tag):
                    if celery_held.origins(held.exchange, held.key, tables) == [self.choice.queue]:
                        entry = held.entry(wire, self.choice.queue)
                        mine.append((entry, self.own(str(entry.step))))
            celery_held.give_back(self.client, wire, self.options, mine)

    def taken(self) -> Iterator[tuple[str, list[bytes]]]:
        """Read from the right."""
        meant = self._meant(self._since())
        for place in self.lists:
            for block in self._read(self.own(place)):
                yield place, [message for message in block if meant(message)]
        meant.refuse()

    def count(self) -> int:
        """Read what waits, where its number is not enough."""
        if not self._is_part:
            return int(sum(self.client.pipeline([("LLEN", key) for key in self.lists.values()])))
        meant = self._meant(self._now())
        found = sum(meant(message) for key in self.lists.values() for block in self._read(key) for message in block)
        meant.refuse()
        return found

    def away(self) -> int:
        """The lengths of the lists."""
        return int(sum(self.client.pipeline([("LLEN", self.own(place)) for place in self.lists])))

    def _now(self) -> float:
        return queues.seconds(self.client.call("TIME"))

    def _since(self) -> float:
        """When it was taken: what is older than asked for goes. Where no time stands there nothing is old enough.

        It is not compared with the time of now: what is dumped and what is deleted are to be the same, whatever the clock does in between.
        """
        said = self.client.call("GETRANGE", self.own(_SINCE), 0, 40)
        try:
            found = float(said or 0)
        except ValueError:
            found = 0.0
        return found if math.isfinite(found) else 0.0

    def _read(self, key: str) -> Iterator[list[bytes]]:
        done = 0
        while block := queues.page(self.client, "LRANGE", key, -done - MOST_RECORDS, -done - 1, stride=-1):
            yield block
            done += len(block)

    def _meant(self, now: float) -> _Meant:
        return _Meant(self.choice, None if self.choice.older_than is None else now - self.choice.older_than)

    @property
    def _is_part(self) -> bool:
        return self.choice.task_name is not None or bool(self.choice.ids) or self.choice.older_than is not None

    def drop(self) -> None:
        """Delete what was taken; where that was more than was meant, the rest comes back."""
        rest = []
        if self._is_part:
            meant = self._meant(self._since())
            for place, queue in self.lists.items():
                kept = self.own(f"{place}:kept")
                self.client.call("UNLINK", kept)
                for block in self._read(self.own(place)):
                    others = [message for message in block if not meant(message)]
                    if others:
                        self.client.call("LPUSH", kept, *others, timeout=60.0)
                rest += [kept, queue]
        self._join(rest, forget=self.id, mark="", unlink=[self.own(place) for place in (*self.lists, _SINCE)])

    def put_back(self) -> None:
        """Join what was taken to what has come since."""
        pairs = [key for place, queue in self.lists.items() for key in (self.own(place), queue)]
        self._join(pairs, forget=self.id, mark=self.id, unlink=[self.own(_SINCE), *(self.own(f"{place}:kept") for place in self.lists)])

    def _join(self, pairs: Sequence[str], forget: str, mark: str, unlink: Sequence[str] = ()) -> None:
        wrong = self.script(_JOIN, [self.key("purges"), self.key("restored"), *pairs], forget, mark, DONE, *unlink)
        if wrong:
            self._refuse(resp.text(wrong))

    def examine(self, place: str, record: bytes) -> None:
        """A message may be anything; it is of one of the queue's lists."""
        if place not in self.lists:
            raise BadEntry(f"the queue has no list {place}")

    def add(self, place: str, records: Sequence[bytes], note: Sequence[resp.Argument]) -> None:
        """Gather them beside the queue, or workers would begin with the wrong end."""
        self.together(("LPUSH", self._staged(place), *records), note)

    def _staged(self, place: str) -> str:
        return self.key(f"restore:{self.id}:{place}")

    def added(self, note: Sequence[resp.Argument]) -> None:
        """Join what was gathered to the queue."""
        self._join([key for place, queue in self.lists.items() for key in (self._staged(place), queue)], forget="", mark=self.id)
