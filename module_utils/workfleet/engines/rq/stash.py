"""rq's queues emptied and filled: a job is an id in a list or a sorted set, a hash, and the set of jobs that wait for it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ... import decode, resp
from ...decode import BadEntry
from ...dump import fields, unfields
from ..verbs.figures import each
from ..verbs.letters import moment, now
from ..verbs.stash import PATIENCE, TAKE_KEY, Stash, chunks, refuse_priority
from .keys import DEFERRED, FAILED, JOB, QUEUE, SCHEDULED, WIP, intermediate, name_of, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Where jobs are, by the key's beginning; the first is a list. What begun and popped ones dead workers held goes with the first.
PLACES = {"jobs": QUEUE, "scheduled": SCHEDULED, "deferred": DEFERRED, "failed": FAILED}
_PAGE = 50
_MOST_FIELDS = 200
# KEYS: the place, ours. ARGV: ids. A list has no scores.
_TAKE = """
local is_list, taken = redis.call('TYPE', KEYS[1]).ok == 'list', 0
for _, job in ipairs(ARGV) do
  local score = not is_list and redis.call('ZSCORE', KEYS[1], job)
  if score then redis.call('ZREM', KEYS[1], job) redis.call('ZADD', KEYS[2], score, job) taken = taken + 1 end
  if is_list and redis.call('LREM', KEYS[1], 1, job) == 1 then redis.call('RPUSH', KEYS[2], job) taken = taken + 1 end
end
return taken
"""
# KEYS: the queue, what its dead workers began and popped, ours. They were taken first.
_TAKE_HELD = """
for _, member in ipairs(redis.call('ZREVRANGE', KEYS[2], 0, -1)) do
  local job = string.match(member, '^[^:]*')
  redis.call('LREM', KEYS[3], 0, job)
  redis.call('LPUSH', KEYS[1], job)
end
while redis.call('EXISTS', KEYS[3]) == 1 do redis.call('LMOVE', KEYS[3], KEYS[1], 'RIGHT', 'LEFT') end
redis.call('DEL', KEYS[2])
"""
_PUT_BACK = """
if redis.call('TYPE', KEYS[1]).ok == 'list' then
  for _ = 1, 1000 do if not redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT') then break end end
else
  local some = redis.call('ZPOPMIN', KEYS[1], 1000)
  for i = 1, #some, 2 do redis.call('ZADD', KEYS[2], 'NX', some[i + 1], some[i]) end
end
return redis.call('EXISTS', KEYS[1])
"""
# Deletes those that are still the queue's, and that nobody has sent anew. ARGV: queue, whether begun ones go, ids.
_DROP = """
local strange = {}
for i = 3, #ARGV do
  local id, job = ARGV[i], 'rq:job:' .. ARGV[i]
  local told = redis.call('HMGET', job, 'origin', 'status')
  local is_new = (ARGV[2] == '0' and told[2] == 'started') or redis.call('LPOS', KEYS[1], id)
  if told[1] == ARGV[1] and not is_new then
    redis.call('UNLINK', job, job .. ':dependents', 'rq:job::' .. id .. ':dependencies', 'rq:results:' .. id, 'rq:executions:' .. id)
  elseif told[1] then strange[#strange + 1] = id end
end
return strange
"""
# KEYS: the place, the list of what was restored. ARGV: the note's id and count, queue, then per job id, score, how long it lives, and
# three lists behind their lengths: what depends on it, on what it depends, its hash. What was sent anew meanwhile stays as it is.
_ADD = """
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('SADD', 'rq:queues', 'rq:queue:' .. ARGV[3])
local i = 4
local function some()
  local found, count = {}, tonumber(ARGV[i])
  for k = 1, count do found[k] = ARGV[i + k] end
  i = i + count + 1
  return found
end
while i <= #ARGV do
  local id, score, life = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local job = 'rq:job:' .. id
  i = i + 3
  local dependents, dependencies, hash = some(), some(), some()
  if redis.call('EXISTS', job) == 0 then
    redis.call('HSET', job, unpack(hash))
    if life > 0 then redis.call('PEXPIRE', job, life) end
    for _, other in ipairs(dependents) do redis.call('SADD', job .. ':dependents', other) end
    for _, other in ipairs(dependencies) do redis.call('SADD', 'rq:job::' .. id .. ':dependencies', other) end
    if score == '' then
      redis.call('HSET', job, 'status', 'queued')
      redis.call('RPUSH', KEYS[1], id)
    else redis.call('ZADD', KEYS[1], score, id) end
  end
end
"""


class RqStash(Stash):
    """An rq queue with what waits for its time or for another job, or its failed jobs."""

    @property
    def places(self) -> list[str]:
        """Where the chosen jobs are."""
        return ["failed"] if self.choice.dead else [*PLACES] if self.choice.whole else ["jobs", "scheduled", "deferred"]

    @property
    def _is_all(self) -> bool:
        return self.choice.whole or not (self.choice.dead or self.choice.task_name or self.choice.older_than is not None)

    def there(self, place: str) -> str:
        """The key of a place."""
        return PLACES[place] + self.choice.queue

    def check(self) -> None:
        """There are no priorities."""
        refuse_priority(self.choice, "rq")
        refuse(self.choice.queue, self.client.pipeline([("LLEN", QUEUE + self.choice.queue)], raise_errors=False)[0])

    def take(self) -> None:
        """Move ids to keys of our own; their hashes stay."""
        self.client.call(*self.note("taken"))
        if self.choice.whole:
            queue = self.choice.queue
            self.script(_TAKE_HELD, [QUEUE + queue, WIP + queue, intermediate(queue)])
        for place in self.places:
            if self._is_all:
                self.script(TAKE_KEY, [self.there(place), self.own(place)])
                continue
            for some in _pages(self._meant(place)):
                self.script(_TAKE, [self.there(place), self.own(place)], *some)

    def _meant(self, place: str) -> Iterator[bytes]:
        """The ids of a place that are chosen, as they are now."""
        if self.choice.dead:
            yield from (job.encode() for job in self.choice.ids)
            return
        at = now(self.client)
        for some in list(_pages(job for job, _ in self._ids(self.there(place)))):
            told = each(self.client, ("HMGET", "data", "enqueued_at", "created_at"), [JOB + resp.text(job) for job in some])
            for job, (_, said) in zip(some, told):
                data, *times = said if isinstance(said, list) else (None, None, None)
                since = next((moment(resp.text(time)) for time in times if time), None)
                is_old = self.choice.older_than is None or (since is not None and at - since >= self.choice.older_than)
                if is_old and self.choice.task_name in (None, name_of(data)):
                    yield job

    def _ids(self, key: str) -> Iterator[tuple[bytes, bytes]]:
        """The ids of a list or a sorted set, with their scores."""
        is_list = self.client.call("TYPE", key) == b"list"
        for start in itertools.count(0, 1000):
            words = ("LRANGE", key, start, start + 999) if is_list else ("ZRANGE", key, start, start + 999, "WITHSCORES")
            page = self.client.call(*words)
            yield from ((job, b"") for job in page) if is_list else zip(page[::2], page[1::2])
            if not page:
                return

    def taken(self) -> Iterator[tuple[str, list[bytes]]]:
        """Read jobs place by place, in their order; one whose hash has expired is none."""
        for place in self.places:
            yield from ((place, block) for block in chunks(self._records(place)))

    def _records(self, place: str) -> Iterator[bytes]:
        for some in _pages(self._ids(self.own(place))):
            names = [JOB.encode() + job for job, _ in some]
            told = self.client.pipeline([command for name in names for command in (
                ("PTTL", name), ("SMEMBERS", name + b":dependents"), ("SMEMBERS", b"rq:job::%b:dependencies" % name[len(JOB):]),
                ("HGETALL", name))], timeout=PATIENCE)
            for (job, score), life, after, before, said in zip(some, told[::4], told[1::4], told[2::4], told[3::4]):
                if said:
                    yield fields(job, score, b"%d" % life, fields(*after), fields(*before), *said)

    def drop(self) -> None:
        """Delete the jobs, and then that they were taken."""
        for place in self.places:
            for some in _pages(job for job, _ in self._ids(self.own(place))):
                strange = self.script(_DROP, [QUEUE + self.choice.queue], self.choice.queue, int(self.choice.whole), *some)
                for job in strange:
                    self.unread.add(self.own(place), job, BadEntry("it is a job of another queue, or was sent anew"))
            self.client.call("UNLINK", self.own(place))
        self.client.call(*self.forget)

    def put_back(self) -> None:
        """Return the ids to where they were."""
        for place in self.places:
            while self.script(_PUT_BACK, [self.own(place), self.there(place)]):
                pass
        self.client.call(*self.forget)

    def examine(self, place: str, record: bytes) -> None:
        """A job tells its queue."""
        told = unfields(record)
        said = dict(zip(told[5::2], told[6::2]))
        if place not in PLACES or len(told) % 2 == 0 or len(told) > _MOST_FIELDS or b"data" not in said:
            raise BadEntry(f"{place}, {len(told)}: it is no job of an rq queue")
        if resp.text(said.get(b"origin")) != self.choice.queue:
            raise BadEntry("it is a job of another queue")
        decode.integer(decode.document(told[2], largest=20))
        unfields(told[3]), unfields(told[4])
        if place != "jobs":
            decode.number(decode.document(told[1], largest=40))

    def add(self, place: str, records: Sequence[bytes], note: Sequence[resp.Argument]) -> None:
        """Hashes and ids in one step; a job that waited among the first is queued."""
        _, restored, identity, count = note
        words: list[Any] = []
        for job, score, life, after, before, *said in map(unfields, records):
            lists = (unfields(after), unfields(before), said)
            words += [job, b"" if place == "jobs" else score, life, *(word for words in lists for word in (len(words), *words))]
        self.script(_ADD, [self.there(place), str(restored)], identity, count, self.choice.queue, *words)

    def count(self) -> int:
        """Look at the jobs as they are."""
        if self.choice.dead:
            return sum(found is not None for found in self.client.pipeline(
                [("ZSCORE", self.there("failed"), job) for job in self.choice.ids]))
        return sum(1 for place in self.places for _ in self._meant(place))

    def away(self) -> int:
        """How many were taken."""
        return sum(1 for place in self.places for _ in self._ids(self.own(place)))


def _pages(items: Iterator[Any]) -> Iterator[list[Any]]:
    """Yield items in short lists."""
    while some := list(itertools.islice(items, _PAGE)):
        yield some
