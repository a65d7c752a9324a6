"""The figures of rq's queues: a list of ids, and sorted sets beside it. Nothing here has rq's own cleaning run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ... import resp
from ..verbs import figures as queues
from ..verbs.backlog import MOST, PAGE, Backlog
from ..verbs.figures import Figures, Question, each, finished, look
from ..verbs.letters import moment
from .keys import DEFERRED, FAILED, JOB, QUEUE, QUEUES, SCHEDULED, WIP, everybody, foreign, name_of

if TYPE_CHECKING:
    from ..verbs.report import Report

# [waiting, begun, popped and not begun, scheduled, deferred, failed and not expired, when the first was enqueued].
_LOOK = """
local list, begun, popped = 'rq:queue:' .. KEYS[1], {}, 0
local function key(name) return 'rq:' .. name .. ':' .. KEYS[1] end
for _, member in ipairs(redis.call('ZRANGE', key('wip'), 0, ARGV[1])) do begun[string.match(member, '^[^:]*')] = true end
for _, job in ipairs(redis.call('LRANGE', list .. ':intermediate', 0, ARGV[1])) do if not begun[job] then popped = popped + 1 end end
local first = redis.call('LINDEX', list, 0)
local failed = redis.call('ZCARD', key('failed')) - redis.call('ZCOUNT', key('failed'), 0, redis.call('TIME')[1])
return {redis.call('LLEN', list), redis.call('ZCARD', key('wip')), popped, redis.call('ZCARD', key('scheduled')),
  redis.call('ZCARD', key('deferred')), failed, first and redis.call('HGET', 'rq:job:' .. first, 'enqueued_at') or ''}
"""


def figures(question: Question) -> list[Figures]:
    """Return the figures of the declared queues, and with ``all_of_it`` of all others that hold something."""
    return look(question, others, everybody, lambda queue: ("EVAL", _LOOK, 1, queue, queues.MOST_HELD),
                partial(fill, of_all=question.all_of_it), flow)


def fill(item: Figures, reply: resp.Reply, reports: dict[str, Report] | None, *, of_all: bool) -> None:
    """Put what the server and the nodes told into the figures. What waits for another job is scheduled too: its time has not come."""
    if isinstance(reply, resp.RespError):
        if "WRONGTYPE" not in str(reply):
            raise reply
        item.exists, item.problem = True, foreign(item.queue)
        return
    waiting, begun, popped, scheduled, deferred, dead, since = reply
    if reports is not None:
        item.of_nodes(reports)
    item.running = begun if of_all or item.running is None else item.running
    item.waiting, item.unacknowledged, item.scheduled, item.dead = waiting, begun + popped, scheduled + deferred, dead
    item.exists = any((waiting, begun, popped, scheduled, deferred, dead, item.consumers))
    item.mark = (waiting + begun + popped, finished(reports or {}, item.queue))
    enqueued = moment(resp.text(since)) if waiting else None
    if enqueued is not None:
        item.oldest_age_seconds, item.oldest_age_is = item.at - enqueued, "exact"


def flow(earlier: Figures, item: Figures) -> None:
    """What came and went between two looks; what was retried came and went again."""
    ended = queues.grown(earlier.mark[1], item.mark[1])
    if ended is not None:
        item.came, item.went = max(0, item.mark[0] - earlier.mark[0] + ended), ended


def others(client: resp.Client) -> tuple[list[str], bool]:
    """Queues that hold something; rq itself remembers each name for ever."""
    names = sorted(resp.text(key)[len(QUEUE):] for key in client.call("SMEMBERS", QUEUES))
    held = client.pipeline([("EXISTS", *(start + name for start in (QUEUE, WIP, SCHEDULED, DEFERRED, FAILED))) for name in names])
    return [name for name, count in zip(names, held) if count], True


def backlog(client: resp.Client, queue: str) -> Backlog:
    """Count the functions that wait, the next first; a job that has expired is no task for anybody."""
    found = Backlog()
    for start in range(0, MOST, PAGE):
        ids = client.call("LRANGE", QUEUE + queue, start, start + PAGE - 1)
        told: list[Any] = [data for _, data in each(client, ("HGET", "data"), [JOB + resp.text(job) for job in ids])]
        found.take(name_of(data) for data in told if data)
        if len(ids) < PAGE:
            return found
    found.is_cut = client.call("LLEN", QUEUE + queue) > MOST
    return found
