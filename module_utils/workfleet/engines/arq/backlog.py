"""The names of the functions that wait in arq's queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import resp
from ...decode import Unread
from ..pickled import text_of
from ..verbs.backlog import MOST, PAGE, Backlog
from ..verbs.figures import strings
from .queues import IN_PROGRESS, JOB

if TYPE_CHECKING:
    from collections.abc import Sequence


def read(url: str, queues: Sequence[str]) -> dict[str, Backlog]:
    """Return what waits in each queue, jobs whose time has not come too. Those that run stay in the queue, and do not count."""
    with resp.connect(url) as client:
        return {queue: read_queue(client, queue) for queue in queues}


def read_queue(client: resp.Client, queue: str) -> Backlog:
    """Count one queue, the next jobs first. A job whose data has expired is no task for anybody."""
    backlog = Backlog()
    for start in range(0, MOST, PAGE):
        jobs = client.call("ZRANGE", queue, str(start), str(start + PAGE - 1))
        runs = client.pipeline([("EXISTS", IN_PROGRESS.encode() + job) for job in jobs])
        waiting = [JOB.encode() + job for job, is_run in zip(jobs, runs) if not is_run]
        unread = Unread()
        backlog.take(text_of(data, "f") for _, data in strings(client, waiting, unread) if data is not None)
        backlog.unreadable += unread.total
        if len(jobs) < PAGE:
            return backlog
    backlog.is_cut = client.call("ZCARD", queue) > MOST
    return backlog
