"""arq's queues emptied and filled: a job is a member of a sorted set, and its own key.

A running job stays in its queue, so jobs are taken one by one: those that nobody runs. A worker that is about to begin
one watches the job's in-progress key; that is touched in the same step, which makes the worker leave it. A whole queue,
at which nobody works, is taken by renaming it; marks of jobs that dead workers ran go with the jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import resp
from ..dump import fields, unfields
from . import queues
from .arq_probe import IN_PROGRESS, JOB, RESULT, RETRY
from .arq_queues import refuse, results
from .pickled import text_of
from .stash import DONE, MOST_BYTES, MOST_RECORDS, TAKE_KEY, Stash, chunks, refuse_priority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ABORT = "arq:abort"
JOBS, FAILED = "jobs", "failed"
_MOST_PASSES = 20

_TAKE = """
local taken = 0
for _, job in ipairs(ARGV) do
  local progress, score = 'arq:in-progress:' .. job, redis.call('ZSCORE', KEYS[1], job)
  if score and redis.call('EXISTS', progress) == 0 then
    redis.call('SET', progress, '')
    redis.call('DEL', progress)
    redis.call('ZREM', KEYS[1], job)
    redis.call('ZADD', KEYS[2], score, job)
    taken = taken + 1
  end
end
return taken
"""
_PUT_BACK = """
local some = redis.call('ZRANGE', KEYS[1], 0, 999, 'WITHSCORES')
for i = 1, #some, 2 do
  if redis.call('EXISTS', 'arq:job:' .. some[i]) == 1 then redis.call('ZADD', KEYS[2], 'NX', some[i + 1], some[i]) end
  redis.call('ZREM', KEYS[1], some[i])
end
return #some
"""
# A job whose key is there has been sent anew since; five arguments each after the note's three.
_ADD = """
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for i = 3, #ARGV, 5 do
  local job, score, life, tries, data = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4]
  local set = data == '' or (life > 0 and redis.call('SET', 'arq:job:' .. job, data, 'NX', 'PX', life))
    or (life <= 0 and redis.call('SET', 'arq:job:' .. job, data, 'NX'))
  if set then
    redis.call('ZADD', KEYS[1], 'NX', score, job)
    if tries ~= '' then redis.call('SET', 'arq:retry:' .. job, tries, 'EX', 88400) end
  end
end
"""


class ArqStash(Stash):
    """An arq queue, or the failed results of its jobs."""

    engine = "arq"

    @property
    def place(self) -> str:
        """The only place there is."""
        return FAILED if self._of_results else JOBS

    @property
    def _of_results(self) -> bool:
        return self.choice.dead or self.choice.results

    def check(self) -> None:
        """There are no priorities."""
        refuse_priority(self.choice, "arq")
        refuse(self.choice.queue, self.client.pipeline([("ZCARD", self.choice.queue)], raise_errors=False)[0])

    def take(self) -> None:
        """Move jobs that do not run; jobs are pushed and end meanwhile, so it is looked until there is none left."""
        self.client.call(*self.note("taken"))
        if self._of_results:
            self._take_results()
            return
        if self.choice.whole:
            self.script(TAKE_KEY, [self.choice.queue, self.own(JOBS)])
            return
        now = queues.seconds(self.client.call("TIME"))
        for _ in range(_MOST_PASSES):
            if not self._pass(now):
                return

    def _pass(self, now: float) -> int:
        offset = moved = 0
        while True:
            page = self.client.call("ZRANGE", self.choice.queue, offset, offset + MOST_RECORDS - 1, "WITHSCORES")
            if not page:
                return moved
            jobs = self._meant(list(zip(page[::2], map(float, page[1::2]))), now)
            here = self.script(_TAKE, [self.choice.queue, self.own(JOBS)], *jobs) if jobs else 0
            moved += here
            offset += len(page) // 2 - here

    def count(self) -> int:
        """Look at the jobs as they are; those that run stay."""
        if self.choice.dead:
            return int(sum(self.client.pipeline([("EXISTS", RESULT + job) for job in self.choice.ids])))
        offset = found = 0
        now = queues.seconds(self.client.call("TIME"))
        while page := self.client.call("ZRANGE", self.choice.queue, offset, offset + MOST_RECORDS - 1, "WITHSCORES"):
            jobs = self._meant(list(zip(page[::2], map(float, page[1::2]))), now)
            running = self.client.call("EXISTS", *(IN_PROGRESS.encode() + job for job in jobs)) if jobs else 0
            found, offset = found + len(jobs) - running, offset + len(page) // 2
        return found

    def away(self) -> int:
        """What was taken; results are where they were."""
        return 0 if self.choice.dead else int(self.client.call("ZCARD", self.own(JOBS)))

    def _meant(self, jobs: Sequence[tuple[bytes, float]], now: float) -> list[bytes]:
        found = [job for job, due in jobs if self.choice.older_than is None or now - due / 1000 >= self.choice.older_than]
        if self.choice.task_name is None or not found:
            return found
        payloads = self.client.call("MGET", *(JOB.encode() + job for job in found), timeout=60.0)
        return [job for job, data in zip(found, payloads) if data is not None and text_of(data, "f") == self.choice.task_name]

    def _take_results(self) -> None:
        ids = self._all_results() if self.choice.results else self.choice.ids
        for start in range(0, len(ids), MOST_RECORDS):
            self.client.call("SADD", self.own(FAILED), *ids[start:start + MOST_RECORDS])

    def _all_results(self) -> list[str]:
        return [job for job, told, _ in results(self.client) if told.get("q") == self.choice.queue]

    def taken(self) -> Iterator[tuple[str, list[bytes]]]:
        """Read jobs in the order in which they are due."""
        records = self._results() if self._of_results else self._jobs()
        yield from ((self.place, block) for block in chunks(records))

    def _jobs(self) -> Iterator[bytes]:
        offset, step = 0, MOST_RECORDS // 10
        while page := self.client.call("ZRANGE", self.own(JOBS), offset, offset + step - 1, "WITHSCORES"):
            read, offset, size = list(zip(page[::2], page[1::2])), offset + len(page) // 2, 1
            told = self.client.pipeline([command for job, _ in read for command in (
                ("GET", JOB.encode() + job), ("PTTL", JOB.encode() + job), ("GET", RETRY.encode() + job))], timeout=60.0)
            for (job, score), data, life, tries in zip(read, told[::3], told[1::3], told[2::3]):
                size += len(data or b"")
                yield fields(job, score, b"%d" % life, tries or b"", data or b"")
            step = max(1, min(MOST_RECORDS, MOST_BYTES * len(read) // size))

    def _results(self) -> Iterator[bytes]:
        for job in sorted(self.client.call("SMEMBERS", self.own(FAILED))):
            data, life = self.client.pipeline([("GET", RESULT.encode() + job), ("PTTL", RESULT.encode() + job)])
            if data is not None:
                yield fields(job, b"%d" % life, data)

    def drop(self) -> None:
        """Delete the jobs' keys, and then that they were taken."""
        if self._of_results:
            jobs = self.client.call("SMEMBERS", self.own(FAILED))
            self.together(*[("UNLINK", RESULT.encode() + job) for job in jobs], ("UNLINK", self.own(FAILED)), self.forget)
            return
        beside = (JOB, RETRY, IN_PROGRESS) if self.choice.whole else (JOB, RETRY)
        while jobs := self.client.call("ZRANGE", self.own(JOBS), 0, MOST_RECORDS - 1):
            keys = [prefix.encode() + job for job in jobs for prefix in beside]
            self.together(("UNLINK", *keys), *([("ZREM", ABORT, *jobs)] if self.choice.whole else []), ("ZREM", self.own(JOBS), *jobs))
        self.client.call(*self.forget)

    def put_back(self) -> None:
        """Return the jobs with the times they had."""
        while not self._of_results and self.script(_PUT_BACK, [self.own(JOBS), self.choice.queue]):
            pass
        self.together(("UNLINK", self.own(FAILED)), self.progress(DONE), self.forget)

    def add(self, place: str, records: Sequence[bytes], note: Sequence[resp.Argument]) -> None:
        """A job's key lives as long as it had to live when it was dumped."""
        _, restored, identity, count = note
        told = [unfields(record) for record in records]
        if place == FAILED:
            self.together(*(("SET", RESULT.encode() + job, data, *(("PX", life) if int(life) > 0 else ()))
                            for job, life, data in told), note)
            return
        self.script(_ADD, [self.choice.queue, str(restored)], identity, count, *(value for record in told for value in record))
