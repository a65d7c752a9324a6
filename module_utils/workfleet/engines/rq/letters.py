"""rq's dead letters: the registry of failed jobs, for as long as rq keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import decode, resp
from ...decode import BadEntry
from ..verbs.figures import each
from ..verbs.letters import LONGEST, PAGE, Letter, Letters, moment, now, number
from .keys import FAILED, JOB, RESULTS, iso, name_of, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...resp import Argument

# A job that was failed, as never begun, behind the others; rq does not tell how often it was to be tried. ARGV: queue, now, ids.
_REPLAY = """
local sent = 0
for i = 3, #ARGV do
  local job = 'rq:job:' .. ARGV[i]
  if redis.call('ZREM', 'rq:failed:' .. ARGV[1], ARGV[i]) == 1 and redis.call('HEXISTS', job, 'data') == 1 then
    redis.call('HDEL', job, 'started_at', 'ended_at', 'exc_info', 'worker_name', 'last_heartbeat', 'number_of_retries')
    redis.call('HSET', job, 'status', 'queued', 'enqueued_at', ARGV[2])
    redis.call('PERSIST', job)
    redis.call('RPUSH', 'rq:queue:' .. ARGV[1], ARGV[i])
    sent = sent + 1
  end
end
return sent
"""


class RqLetters(Letters):
    """Jobs that failed, looked at without running anything of theirs."""

    def read(self) -> Iterator[Letter]:
        """Page by page; one whose hash has expired, or cannot be read, is counted."""
        start = 0
        while ids := [resp.text(job) for job in self.client.call("ZRANGE", FAILED + self.queue, start, start + PAGE - 1)]:
            told = each(self.client, ("HMGET", "data", "ended_at", "number_of_retries"), [JOB + job for job in ids])
            results = each(self.client, ("XREVRANGE", "+", "-", "COUNT", "1"), [RESULTS + job for job in ids])
            for job, (_, said), (_, result) in zip(ids, told, results):
                with self.unread.entry(FAILED + self.queue, job):
                    yield letter(job, said, result)
            start += PAGE

    def again(self, letter: Letter) -> Argument:
        """The job itself is sent."""
        return letter.id

    def replay(self, letters: Sequence[Letter]) -> int:
        """Enqueue those that are still there."""
        return int(self.client.call("EVAL", _REPLAY, 0, self.queue, iso(now(self.client)), *(letter.id for letter in letters)))


def letter(job: str, said: object, result: object) -> Letter:
    """Return what a failed job and its last result tell."""
    if not isinstance(said, list) or not isinstance(said[0], bytes):
        raise BadEntry("its job is gone, or too large to be read")
    data, ended, retries = said
    lines: list[str] = []
    if isinstance(result, list) and result:
        fields = dict(zip(result[0][1][::2], result[0][1][1::2]))
        text = unpacked(decode.base64(resp.text(fields.get(b"exc_string")))).decode(errors="replace")
        lines = text.strip().splitlines()
    return Letter(job, name_of(data), lines[-1][:LONGEST] if lines else None, moment(resp.text(ended)), (number(retries) or 0) + 1)
