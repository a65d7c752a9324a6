"""arq's queues emptied and filled: a job is a member of a sorted set, and its own key.

A running job stays in its queue, so jobs are taken one by one: those that nobody runs. A worker that is about to begin
one watches the job's in-progress key; that is touched in the same step, which makes the worker leave it. A whole queue,
at which nobody works, is taken by renaming it; marks of jobs that dead workers ran go with the jobs.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ... import decode, resp
from ...decode import BadEntry
from ...dump import fields, unfields
from .. import pickled
from ..verbs import figures as queues
from ..verbs.stash import DONE, MOST_RECORDS, TAKE_KEY, Stash, chunks, refuse_priority
from .queues import IN_PROGRESS, JOB, RESULT, RETRY, of_jobs, refuse, results

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

ABORT = "arq:abort"
JOBS, FAILED = "jobs", "failed"
_MOST_PASSES = 20
#: Queues of the database in which a job may be too.
_MOST_QUEUES = 1000

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
_AMONG = """
local found = {}
for _, job in ipairs(ARGV) do
  if redis.call('ZSCORE', KEYS[1], job) then found[#found + 1] = job end
end
return found
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
    if tries ~= '' then redis.call('SET', 'arq:retry:' .. job, tries, 'EX', 88400, 'NX') end
  end
end
"""


class ArqStash(Stash):
    """An arq queue, or the failed results of its jobs."""


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
        if not self._of_results:
            self._queues()  # where they cannot be told, what is taken could not be deleted
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
        if self.choice.results:
            return sum(1 for _ in self._all_results())
        if self.choice.dead:
            return int(sum(self.client.pipeline([("EXISTS", RESULT + job) for job in self.choice.ids])))
        self._queues()
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
        payloads = queues.strings(self.client, [JOB.encode() + job for job in found], self.unread)
        return [job for job, (_, data) in zip(found, payloads) if data is not None and pickled.text_of(data, "f") == self.choice.task_name]

    def _take_results(self) -> None:
        ids = self._all_results() if self.choice.results else iter(self.choice.ids)
        while some := list(itertools.islice(ids, MOST_RECORDS)):
            self.client.call("SADD", self.own(FAILED), *some)

    def _all_results(self) -> Iterator[str]:
        return (job for job, told, _ in results(self.client, self.unread) if told.told.get("q") == self.choice.queue)

    def taken(self) -> Iterator[tuple[str, list[bytes]]]:
        """Read jobs in the order in which they are due."""
        records = self._results() if self._of_results else self._jobs()
        yield from ((self.place, block) for block in chunks(records))

    def _jobs(self) -> Iterator[bytes]:
        offset = 0
        while page := self.client.call("ZRANGE", self.own(JOBS), offset, offset + MOST_RECORDS - 1, "WITHSCORES"):
            read, offset = list(zip(page[::2], page[1::2])), offset + len(page) // 2
            told = self.client.pipeline([command for job, _ in read for command in (
                ("PTTL", JOB.encode() + job), ("GETRANGE", RETRY.encode() + job, 0, 20))], timeout=60.0)
            payloads = queues.strings(self.client, [JOB.encode() + job for job, _ in read])
            for (job, score), life, tries, (_, data) in zip(read, told[::2], told[1::2], payloads):
                yield fields(job, score, b"%d" % life, tries or b"", data or b"")

    def _results(self) -> Iterator[bytes]:
        for jobs in self._noted():
            lives = self.client.pipeline([("PTTL", RESULT.encode() + job) for job in jobs])
            for job, life, (_, data) in zip(jobs, lives, queues.strings(self.client, [RESULT.encode() + job for job in jobs])):
                if data is not None:
                    yield fields(job, b"%d" % life, data)

    def _noted(self) -> Iterator[list[bytes]]:
        yield from queues.members(self.client, self.own(FAILED))

    def drop(self) -> None:
        """Delete the jobs' keys, and then that they were taken."""
        if self._of_results:
            for noted in self._noted():
                names = [RESULT.encode() + job for job in noted]
                told = queues.strings(self.client, names, self.unread)
                failed = [name for name, data in told if data is not None and self._is_ours(name, data)]
                if failed:
                    self.client.call("UNLINK", *failed)
            self.together(("UNLINK", self.own(FAILED)), self.forget)
            return
        beside = (JOB, RETRY, IN_PROGRESS) if self.choice.whole else (JOB, RETRY)
        others = self._queues()
        while jobs := self.client.call("ZRANGE", self.own(JOBS), 0, MOST_RECORDS - 1):
            mine = self._of_no_other(jobs, others)
            gone: list[Sequence[resp.Argument]] = [("ZREM", self.own(JOBS), *jobs)]
            if mine:
                gone.append(("UNLINK", *(prefix.encode() + job for job in mine for prefix in beside)))
                gone += [("ZREM", ABORT, *mine)] if self.choice.whole else []
            self.together(*gone)
        self.client.call(*self.forget)

    def _is_ours(self, name: str | bytes, data: bytes) -> bool:
        """Whether a result is of a job of the queue; whoever may write to the broker may have noted another's."""
        try:
            self._result(data)
        except BadEntry as error:
            self.unread.add(self.own(FAILED), name, error)
            return False
        return True

    def _result(self, data: bytes) -> None:
        """Raise on what is no result of a job of this queue, or of one that has not failed where only those are meant."""
        told = pickled.read(data)
        if told.text("q") != self.choice.queue or (self.choice.dead and told.flag("s")):
            raise BadEntry(f"it is no {'failed ' if self.choice.dead else ''}result of the queue {self.choice.queue}")

    def _queues(self) -> set[str]:
        """Return this queue, and all others of the database that hold jobs. Raises on more than can be looked at."""
        found = {self.choice.queue}
        for names in queues.pages(self.client, "*", "zset"):
            found.update(of_jobs(self.client, [name for name in names if name != ABORT and not name.startswith(self.key(""))]))
            if len(found) > _MOST_QUEUES:
                raise BadEntry(f"the database has more than {_MOST_QUEUES} queues of arq's: whether another one has a job too is not "
                               "looked for in so many, and no job is deleted")
        return found

    def _of_no_other(self, jobs: Sequence[bytes], others: Collection[str]) -> list[bytes]:
        """The jobs that are in no other queue: a job is in one, unless somebody else has put its name among those that were taken."""
        looks = self.client.pipeline([("EVAL", _AMONG, 1, name, *jobs) for name in others], raise_errors=False, timeout=60.0)
        shared = {job for look in looks if isinstance(look, list) for job in look}
        for job in sorted(shared):
            self.unread.add(self.own(JOBS), job, BadEntry("it is a job of another queue, or was sent anew"))
        return [job for job in jobs if job not in shared]

    def put_back(self) -> None:
        """Return the jobs with the times they had."""
        while not self._of_results and self.script(_PUT_BACK, [self.own(JOBS), self.choice.queue]):
            pass
        self.together(("UNLINK", self.own(FAILED)), self.progress(DONE), self.forget)

    def examine(self, place: str, record: bytes) -> None:
        """Results tell their queue; jobs do not, and are not put over others."""
        told = unfields(record)
        if place != self.place or len(told) != (3 if place == FAILED else 5):
            raise BadEntry(f"{place}, {len(told)}: it is no job or result of an arq queue")
        if place == FAILED:
            self._result(told[2])
        else:
            decode.number(decode.document(told[1], largest=40))
        decode.integer(decode.document(told[1 if place == FAILED else 2], largest=20))

    def add(self, place: str, records: Sequence[bytes], note: Sequence[resp.Argument]) -> None:
        """A job's key lives as long as it had to live when it was dumped."""
        _, restored, identity, count = note
        told = [unfields(record) for record in records]
        if place == FAILED:
            self.together(*(("SET", RESULT.encode() + job, data, "NX", *(("PX", life) if int(life) > 0 else ()))
                            for job, life, data in told), note)
            return
        self.script(_ADD, [self.choice.queue, str(restored)], identity, count, *(value for record in told for value in record))
