"""The figures of arq's queues: sorted sets of job ids by the time they are due, in milliseconds.

arq leaves a running job in its queue. It takes jobs from the front only, so those that run are looked for there.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING

from ... import resp
from ...decode import Fields, Unread
from ...errors import WorkfleetError
from .. import pickled
from ..verbs import figures as queues
from ..verbs.figures import MOST_HELD, Figures, Question, beats, finished, look
from ..verbs.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

JOB, RESULT, IN_PROGRESS, RETRY = "arq:job:", "arq:result:", "arq:in-progress:", "arq:retry:"
#: The runner writes a node's figures here; the node's name follows.
HEALTH_CHECK_KEY = "arq:health-check:"
#: Bytes of what a node tells.
LARGEST_BEAT = 64 << 10
_FIGURE = re.compile(r"(\w+)=(\d{1,18})\b")

# [jobs, due, running, due at that is the oldest not running or '', retrying or -1]. Looks at the first pages until one
# has no running job in it; and at no more than ARGV[1] of them.
_LOOK = """
local clock, most, page = redis.call('TIME'), tonumber(ARGV[1]), 1000
local now = clock[1] .. string.format('%03d', math.floor(clock[2] / 1000))
local jobs = redis.call('ZCARD', KEYS[1])
local due = redis.call('ZCOUNT', KEYS[1], '-inf', now)
local running, first, retrying, place = 0, '', 0, 0
while place < jobs and place < most do
  local some = redis.call('ZRANGE', KEYS[1], place, place + page - 1, 'WITHSCORES')
  local here = 0
  for i = 1, #some, 2 do
    local runs = redis.call('EXISTS', 'arq:in-progress:' .. some[i])
    here = here + runs
    if runs == 0 and first == '' then first = some[i + 1] end
    if runs == 0 then retrying = retrying + redis.call('EXISTS', 'arq:retry:' .. some[i]) end
  end
  running = running + here
  place = place + page
  if here == 0 and jobs > most then break end
end
if jobs > most then retrying = -1 end
return {jobs, due, running, first, retrying}
"""


def figures(question: Question) -> list[Figures]:
    """Return the figures of the declared queues, and with ``all_of_it`` of all others that there are."""
    return look(question, others, nodes, lambda queue: ("EVAL", _LOOK, 1, queue, MOST_HELD), partial(fill, of_all=question.all_of_it), flow)


def fill(item: Figures, reply: resp.Reply, reports: dict[str, Report] | None, *, of_all: bool) -> None:
    """Put what the server and the nodes told into the figures; what runs is what Redis says where all nodes were asked."""
    if isinstance(reply, resp.RespError):
        if "WRONGTYPE" not in str(reply):
            raise reply
        item.exists, item.problem = True, foreign(item.queue)
        return
    jobs, due, runs, first, retrying = reply
    item.exists, item.retrying, item.mark = jobs > 0, None if retrying < 0 else retrying, (jobs, None)
    item.waiting, item.scheduled, item.unacknowledged, item.running = max(0, due - runs), jobs - due, runs, runs
    if first and item.waiting and math.isfinite(float(first)):
        item.oldest_age_seconds, item.oldest_age_is = item.at - float(first) / 1000, "exact"
    if reports is not None:
        item.of_nodes(reports)
        item.running = runs if of_all else item.running
        item.exists = item.exists or bool(item.consumers)
        # A job leaves its queue when it ends, so what went is what the nodes ended.
        item.mark = (jobs, finished(reports, item.queue))


def flow(earlier: Figures, item: Figures) -> None:
    """What came and went between two looks."""
    ended = queues.grown(earlier.mark[1], item.mark[1])
    if ended is not None:
        item.came, item.went = max(0, item.mark[0] - earlier.mark[0] + ended), ended


def others(client: resp.Client) -> tuple[list[str], bool]:
    """Queues that hold jobs, sorted sets whose first member has a job's key; and whether all keys were looked through."""
    names, complete = queues.keys(client, "*", "zset")
    return of_jobs(client, names), complete


def of_jobs(client: resp.Client, names: Sequence[str]) -> list[str]:
    """Return those of some sorted sets that are queues that hold jobs; what lies in our own keys is in none."""
    firsts = queues.each(client, ("ZRANGE", "0", "0"), names)
    members = [(name, first[0]) for name, first in firsts if first and not name.startswith("workfleet:")]
    known = client.pipeline([("EXISTS", JOB.encode() + member) for _, member in members])
    return [name for (name, _), is_job in zip(members, known) if is_job]


def nodes(client: resp.Client) -> dict[str, Report] | None:
    """What all nodes of the database tell."""
    return beats(client, HEALTH_CHECK_KEY, lambda said: report(resp.text(said)), LARGEST_BEAT, "string")


def results(client: resp.Client, unread: Unread) -> Iterator[tuple[str, Fields, bytes]]:
    """Yield the results of the database, by their jobs, with their bytes; none of an app that has a serializer of its own."""
    for names in queues.pages(client, f"{RESULT}*"):
        for name, data in queues.strings(client, names, unread):
            told = None
            with unread.entry(RESULT, resp.text(name)):
                told = None if data is None else pickled.read(data)
            if told is not None and data is not None:
                yield resp.text(name)[len(RESULT):], told, data


def refuse(queue: str, reply: resp.Reply) -> None:
    """Raise where a queue's key cannot be read as arq's."""
    if isinstance(reply, resp.RespError):
        if reply.code != "WRONGTYPE":
            raise reply
        raise WorkfleetError(foreign(queue), queue=queue)


def foreign(queue: str) -> str:
    """Say that a queue's key is of another kind."""
    return (f"queue {queue}: the key of that name in Redis is no queue of arq's (a sorted set): "
            "does another engine use the name in this database?")


def report(said: str) -> Report:
    """Return what a node tells in its health-check key: arq's words, then pid, max_jobs and, to the end, its queue."""
    words, _, queue = said.partition(" queue=")
    figures = {name: int(value) for name, value in _FIGURE.findall(words)}
    done = [figures[name] for name in ("j_complete", "j_failed") if name in figures]
    return Report(
        pid=figures.get("pid"), concurrency=figures.get("max_jobs"), running=figures.get("j_ongoing"),
        reserved=0,  # arq takes a job only to run it
        processed=sum(done) if done else None, failed=figures.get("j_failed"), queues=[queue] if queue else None,
    )
