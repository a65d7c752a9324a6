"""Many arq jobs, and what became of each, as their results tell."""

from __future__ import annotations

import pickle
import time
import uuid

from ... import redis_url, resp
from ...decode import BadEntry
from ...errors import WorkfleetError
from .. import pickled
from ..verbs.traffic import NOT_TAKEN, Outcome, Traffic, chunks, delete
from .queues import IN_PROGRESS, JOB, RESULT, RETRY, refuse

CANARY = "workfleet.probe"
_GRACE = 60.0  # seconds that a task outlives our patience, if we are killed before we take it back


class ArqTraffic(Traffic):
    """arq's. ``under_way``: the queue of each job."""

    canary = CANARY
    tells_run = True

    def open(self) -> None:
        """Results are in the broker itself."""
        if not redis_url.is_redis(self.order.broker_url):
            raise WorkfleetError("the broker is not given as a redis:// URL. Nothing was sent")
        self.broker = resp.connect(self.order.broker_url)

    def check(self, queue: str) -> None:
        """A key of another kind is no queue."""
        refuse(queue, self.broker.pipeline([("ZCARD", queue)], raise_errors=False)[0])

    def send(self, queue: str, count: int) -> list[str]:
        """As arq's own client does, without the promise of a place in time."""
        now = int(time.time() * 1000)
        job = pickle.dumps({"t": None, "f": self.task, "a": tuple(self.args), "k": dict(self.order.kwargs), "et": now}, protocol=4)
        ids = [f"workfleet-{uuid.uuid4().hex}" for _ in range(count)]
        lives = str(int((self.order.expires + _GRACE) * 1000))
        self.under_way.update(dict.fromkeys(ids, queue))
        self.broker.pipeline([("PSETEX", JOB + job_id, lives, job) for job_id in ids])
        self.broker.call("ZADD", queue, *(word for job_id in ids for word in (str(now), job_id)))
        return ids

    def look(self, seconds: float) -> list[Outcome]:
        """Read results. The place in the queue is read before the result, and both leave in one step: gone without one is gone."""
        if not self.wait(seconds):
            return []
        begun, found = time.monotonic(), []
        for queue in dict.fromkeys(self.under_way.values()):
            for part in chunks([job_id for job_id, its in self.under_way.items() if its == queue]):
                places, results = self.broker.pipeline([("ZMSCORE", queue, *part), ("MGET", *(RESULT + job_id for job_id in part))])
                for job_id, place, result in zip(part, places, results):
                    if result is not None:
                        found.append(self._judge(job_id, result))
                    elif place is None:
                        found.append(Outcome(job_id, None, reason="it ended; its function keeps no result that could be read"))
        self.looked(begun)
        return self.end(found)

    def _judge(self, job_id: str, stored: bytes) -> Outcome:
        try:
            result = pickled.read(stored)
            ok, value, run = result.flag("s"), result.told.get("r"), max(0, result.count("ft") - result.count("st")) / 1000
        except BadEntry:
            return Outcome(job_id, None, reason="it came back, but its result is no pickle: does the app set job_serializer?")
        if not ok and f"function {self.task!r} not found" in str(value):
            return self.unknown(job_id)
        return self.returned(job_id, value, run) if ok else Outcome(job_id, False, run, str(value))

    def take_back(self) -> dict[str, str]:
        """What runs is left to its end."""
        said = {}
        for part in chunks(list(self.under_way)):
            running = self.broker.pipeline([("EXISTS", IN_PROGRESS + job_id) for job_id in part])
            waiting = [job_id for job_id, is_begun in zip(part, running) if not is_begun]
            removed = self.broker.pipeline([("ZREM", self.under_way[job_id], job_id) for job_id in waiting])
            said.update(dict.fromkeys(part, "begun, and not ended"))
            said.update({job_id: NOT_TAKEN for job_id, was_there in zip(waiting, removed) if was_there})
        gone = [job_id for job_id, why in said.items() if why == NOT_TAKEN]
        delete(self.broker, [prefix + job_id for job_id in gone for prefix in (JOB, RETRY)])
        for job_id in gone:
            del self.under_way[job_id]  # that it is in the queue no more tells nothing of its end now
        self._next_look = 0.0
        return said

    def close(self) -> None:
        """Delete what arq keeps of a job."""
        delete(self.broker, [prefix + job_id for job_id in self.ended for prefix in (JOB, RETRY, RESULT)])
