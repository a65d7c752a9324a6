"""Many rq jobs, and what became of each, as their hashes and results tell."""

from __future__ import annotations

import pickle
import time
import uuid
import zlib
from typing import TYPE_CHECKING, Any

from ... import decode, redis_url, resp
from ...decode import BadEntry
from ...errors import WorkfleetError
from .. import pickled
from ..verbs.letters import moment
from ..verbs.traffic import NOT_TAKEN, Outcome, Traffic, chunks, delete
from .keys import FAILED, JOB, QUEUE, QUEUES, RESULTS, iso, refuse, unpacked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LIVES = 60  # seconds that a result is kept, and that a job outlives our patience if we are killed
_UNKNOWN = ("ValueError: Invalid attribute name", "ModuleNotFoundError", "AttributeError: module")


def job(queue: str, task: str, args: Sequence[Any], kwargs: Mapping[str, Any], lives: int) -> list[resp.Argument]:
    """Return the names and values of a job's hash; what it leaves is kept for so many seconds."""
    now, data = iso(time.time()), zlib.compress(pickle.dumps((task, None, tuple(args), dict(kwargs)), protocol=4))
    return ["created_at", now, "enqueued_at", now, "data", data, "status", "queued", "origin", queue, "description", task, "timeout", 180,
            "result_ttl", lives, "failure_ttl", lives]


class RqTraffic(Traffic):
    """rq's. ``under_way``: the queue of each job. The canary is a function that every Python has, so any worker can run it."""

    canary = "builtins.list"
    tells_run = True

    def open(self) -> None:
        """Results are in the broker itself."""
        if not redis_url.is_redis(self.order.broker_url):
            raise WorkfleetError("the broker is not given as a redis:// URL. Nothing was sent")
        self.broker = resp.connect(self.order.broker_url)

    def check(self, queue: str) -> None:
        """A key of another kind is no queue."""
        refuse(queue, self.broker.pipeline([("LLEN", QUEUE + queue)], raise_errors=False)[0])

    def send(self, queue: str, count: int) -> list[str]:
        """As rq's own client does."""
        args = (tuple(self.args),) if self.task == self.canary else tuple(self.args)
        ids = [f"workfleet-{uuid.uuid4().hex}" for _ in range(count)]
        lives = int((self.order.expires + _LIVES) * 1000)
        self.under_way.update(dict.fromkeys(ids, queue))
        words = job(queue, self.task, args, self.order.kwargs, _LIVES)
        self.broker.pipeline([("HSET", JOB + identity, *words) for identity in ids])
        self.broker.pipeline([("PEXPIRE", JOB + identity, lives) for identity in ids])
        self.broker.pipeline([("SADD", QUEUES, QUEUE + queue), ("RPUSH", QUEUE + queue, *ids)])
        return ids

    def look(self, seconds: float) -> list[Outcome]:
        """Read hashes and results, which change in one step."""
        if not self.wait(seconds):
            return []
        begun, found = time.monotonic(), []
        for part in chunks(list(self.under_way)):
            told = self.broker.pipeline([command for identity in part for command in (
                ("HMGET", JOB + identity, "status", "started_at", "ended_at"), ("XREVRANGE", RESULTS + identity, "+", "-", "COUNT", 1))])
            for identity, (status, *times), results in zip(part, told[::2], told[1::2]):
                run = [moment(resp.text(said)) for said in times]
                took = None if None in run else max(0.0, run[1] - run[0])  # type: ignore[operator]
                if status in (b"finished", b"failed", b"stopped"):
                    found.append(self._judge(identity, status, results, took))
                elif status is None:
                    found.append(Outcome(identity, None, reason="its job is gone, and nothing tells how it ended"))
        self.looked(begun)
        return self.end(found)

    def _judge(self, identity: str, status: bytes, results: Any, run: float | None) -> Outcome:
        try:
            said = dict(zip(results[0][1][::2], results[0][1][1::2])) if results else {}
            if status == b"finished":
                value = said.get(b"return_value")
                return self.returned(identity, None if value is None else pickled.whole(decode.base64(resp.text(value))), run)
            lines = unpacked(decode.base64(resp.text(said.get(b"exc_string", b"")))).decode(errors="replace").strip().splitlines()
        except BadEntry:
            return Outcome(identity, None, run, "it came back, but its result is no pickle: does the app set a serializer?")
        why = lines[-1] if lines else resp.text(status)
        return self.unknown(identity) if why.startswith(_UNKNOWN) else Outcome(identity, False, run, why)

    def take_back(self) -> dict[str, str]:
        """What runs is left to its end."""
        gone = [identity for identity, queue in self.under_way.items() if self.broker.call("LREM", QUEUE + queue, 1, identity)]
        said = {identity: NOT_TAKEN if identity in gone else "begun, and not ended" for identity in self.under_way}
        delete(self.broker, [JOB + identity for identity in gone])
        for identity in gone:
            del self.under_way[identity]
        self._next_look = 0.0
        return said

    def close(self) -> None:
        """Delete what rq keeps of a job."""
        delete(self.broker, [start + identity for identity in self.ended for start in (JOB, RESULTS)])
        registries = [start + queue for start in ("rq:finished:", FAILED) for queue in self.order.queues]
        self.broker.pipeline([("ZREM", key, *part) for key in registries for part in chunks(self.ended)])
