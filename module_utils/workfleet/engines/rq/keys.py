"""What rq 2.12 and 3.0 keep in Redis, as far as it is read or changed here; with the prefix ``rq``, which is rq's own."""

from __future__ import annotations

import contextlib
import itertools
import pickletools
import zlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ... import resp
from ...decode import LARGEST
from ...errors import WorkfleetError
from ..verbs.letters import number
from ..verbs.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

QUEUE, JOB, WORKER, RESULTS, WIP = "rq:queue:", "rq:job:", "rq:worker:", "rq:results:", "rq:wip:"
#: Sorted sets of job ids beside a queue's list, by what they hold.
FAILED, SCHEDULED, DEFERRED = "rq:failed:", "rq:scheduled:", "rq:deferred:"
QUEUES, WORKERS = "rq:queues", "rq:workers"
_FIRST, _LONGEST_NAME, _INSTRUCTIONS = 16 << 10, 1000, 20
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
    return f"queue {queue}: the key {QUEUE}{queue} in Redis is no queue of rq's (a list): does something else use its name?"


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


def everybody(client: resp.Client) -> dict[str, Report]:
    """Return what all workers of the database tell."""
    return nodes(client, sorted(resp.text(key)[len(WORKER):] for key in client.call("SMEMBERS", WORKERS)))


def unpacked(data: Any, most: int = LARGEST) -> bytes:
    """Return the first bytes of what rq has compressed, or left as it is."""
    raw = data if isinstance(data, bytes) else b""
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj().decompress(raw, most)
    return raw[:most]


def name_of(data: Any) -> str | None:
    """Return a job's function: the first text of its pickle, of which only the first instructions are read, and none is carried out."""
    with contextlib.suppress(Exception):  # whoever may write to the broker may have written anything
        for _, said, _ in itertools.islice(pickletools.genops(unpacked(data, _FIRST)), _INSTRUCTIONS):
            if isinstance(said, str):
                return said if 0 < len(said) <= _LONGEST_NAME else None
    return None


def iso(seconds: float) -> str:
    """Return a time as rq writes it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
