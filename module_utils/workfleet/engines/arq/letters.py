"""arq's dead letters: the results of jobs that failed, for as long as arq keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..verbs.letters import LONGEST, MOST_BYTES, Letter, Letters, moment, now
from .queues import RESULT, results

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...resp import Argument

_JOB_LIVES_MS = 86_400_000  # arq's own for a job that is due now
# A result serves as a job: arq reads the same five names of it. ARGV: now, how long a job lives, then id and job each.
_REPLAY = """
local sent = 0
for i = 3, #ARGV, 2 do
  local job = ARGV[i]
  if redis.call('EXISTS', 'arq:result:' .. job) == 1 and redis.call('EXISTS', 'arq:job:' .. job) == 0 then
    redis.call('SET', 'arq:job:' .. job, ARGV[i + 1], 'PX', ARGV[2])
    redis.call('DEL', 'arq:result:' .. job, 'arq:retry:' .. job)
    redis.call('ZADD', KEYS[1], ARGV[1], job)
    sent = sent + 1
  end
end
return sent
"""


class ArqLetters(Letters):
    """Results of jobs that failed. They are read without running any code of theirs."""

    def read(self) -> Iterator[Letter]:
        """Look through all results of the database."""
        found: dict[str, Letter] = {}
        size = 0
        for job, told, data in results(self.client, self.unread):
            with self.unread.entry(RESULT, job):
                if told.text("q") == self.queue and not told.flag("s"):
                    found[job] = Letter(job, told.text("f"), str(told.told.get("r"))[:LONGEST], moment(told.count("ft") / 1000),
                                        told.count("t"), data=data)
                    size += len(data)
            if size > MOST_BYTES:
                self.is_cut = True
                break
        yield from sorted(found.values(), key=lambda letter: (letter.failed_at or 0, letter.id))

    def again(self, letter: Letter) -> Argument:
        """A result keeps the number of the job's tries."""
        return self.numbered(letter, "t", 1)

    def replay(self, letters: Sequence[Letter]) -> int:
        """Enqueue them as due now, at their first try."""
        words = [word for letter in letters for word in (letter.id, self.again(letter))]
        return int(self.client.call("EVAL", _REPLAY, 1, self.queue, int(now(self.client) * 1000), _JOB_LIVES_MS, *words))
