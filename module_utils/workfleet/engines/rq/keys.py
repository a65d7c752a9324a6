"""What rq 2.12 and 3.0 keep in Redis, as far as it is read or changed here; with the prefix ``rq``, which is rq's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import resp
from ...errors import WorkfleetError
from ..verbs.letters import number
from ..verbs.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

QUEUE, JOB, WORKER, RESULTS, WIP = "rq:queue:", "rq:job:", "rq:worker:", "rq:results:", "rq:wip:"
#: Sorted sets of job ids beside a queue's list, by what they hold.
FAILED, SCHEDULED, DEFERRED = "rq:failed:", "rq:scheduled:", "rq:deferred:"
QUEUES, WORKERS = "rq:queues", "rq:workers"
_ASKED = ("pid", "queues", "successful_job_count", "failed_job_count", "current_job", "death", "birth")


def intermediate(queue: str) -> str:
    """Jobs that a worker has popped and not begun."""
    return f"{QUEUE}{queue}:intermediate"


def refuse(queue: str, reply: resp.Reply) -> None:
    """Raise where a queue's key cannot be read as rq's."""
    if isinstance(reply, resp.RespError):
        if reply.code != "WRONGTYPE":
            raise reply
        raise WorkfleetError(foreign(queue), queue=queue)


def foreign(queue: str) -> str:
    """Say that a queue's key is of another kind."""
    return f"queue {queue}: the key {QUEUE}{queue} in Redis is no queue of rq's (a list): does something else use the name in this database?"


def nodes(client: resp.Client, names: Sequence[str]) -> dict[str, Report]:
    """Return what workers tell of themselves; those of which nothing is there, or that have ended, are left out."""
    asked = [command for name in names for command in (("HMGET", WORKER + name, *_ASKED), ("SCARD", f"{WORKER}{name}:executions"))]
    told = client.pipeline(asked, raise_errors=False)
    found = {name: report(said, runs) for name, said, runs in zip(names, told[::2], told[1::2])}
    return {name: each for name, each in found.items() if each is not None}


def report(said: Any, runs: Any) -> Report | None:
    """Return what a worker's hash tells; 2.x has the running job in it, 3.0 in a set of its own."""
    if not isinstance(said, list) or said[6] is None or said[5] is not None:
        return None
    pid, queues, good, bad, current, _, _ = said
    running = int(current is not None or (isinstance(runs, int) and runs > 0))
    done = (number(good or b"0"), number(bad or b"0"))
    return Report(
        pid=number(pid), concurrency=1, running=running, reserved=running,
        processed=None if None in done else sum(filter(None, done)), failed=done[1],
        queues=resp.text(queues).split(",") if queues else None,
    )
