"""A canary job through each arq queue and back.

Jobs and results are pickles. What comes back is read without running any code of it.
"""

from __future__ import annotations

import pickle
import time
import uuid

from ... import redis_url, resp
from ...decode import BadEntry
from .. import pickled
from ..verbs.probe import Proof, Request, not_proved

CANARY = "workfleet.probe"
JOB, RESULT, IN_PROGRESS, RETRY = "arq:job:", "arq:result:", "arq:in-progress:", "arq:retry:"
_GRACE = 60.0  # seconds that a canary outlives our patience, if we are killed before we take it back
_PAUSE = 0.02


def probe(request: Request) -> list[Proof]:
    """Send a canary through each queue and say what became of it, in the order of the queues."""
    if not redis_url.is_redis(request.broker_url):
        return not_proved(request.queues, "the broker is not given as a redis:// URL")
    with resp.connect(request.broker_url) as broker:
        return _Flight(request, broker).proofs()


class _Flight:
    """All canaries of one request, by queue."""

    def __init__(self, request: Request, broker: resp.Client) -> None:
        self.request, self.broker = request, broker
        self.task, args = request.call(CANARY)
        self.args = list(args)
        self.jobs = {queue: f"workfleet-{uuid.uuid4().hex}" for queue in request.queues}
        self.proved: dict[str, Proof] = {}
        self.sent = 0.0

    def proofs(self) -> list[Proof]:
        """Send, wait, and take back those that were not taken."""
        self.sent = time.monotonic()
        try:
            self._send()
            self._wait()
        finally:
            self._take_back()
        return [self.proved[queue] for queue in self.jobs]

    def _send(self) -> None:
        now = int(time.time() * 1000)
        job = pickle.dumps({"t": None, "f": self.task, "a": tuple(self.args), "k": dict(self.request.kwargs), "et": now}, protocol=4)
        expires = int((self.request.timeout + _GRACE) * 1000)
        self.broker.pipeline([("PSETEX", JOB + job_id, str(expires), job) for job_id in self.jobs.values()])
        added = self.broker.pipeline([("ZADD", queue, str(now), job_id) for queue, job_id in self.jobs.items()], raise_errors=False)
        for queue, reply in zip(self.jobs, added):
            if isinstance(reply, resp.RespError):
                self._prove(queue, False, f"the key of that name is no queue of arq's: {reply}")

    def _prove(self, queue: str, ok: bool | None, reason: str | None = None, *, begun: bool = True) -> None:
        state = {True: "ok", False: "failed", None: "not proved"}[ok]
        self.proved[queue] = Proof(queue, ok, state, round(time.monotonic() - self.sent, 3), reason, begun)

    def _pending(self) -> dict[str, str]:
        return {queue: job_id for queue, job_id in self.jobs.items() if queue not in self.proved}

    def _wait(self) -> None:
        deadline = self.sent + self.request.timeout
        while self._pending() and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            self._look()

    def _look(self) -> None:
        """Judge the results that are there, and the jobs that are gone without one."""
        pending = self._pending()
        looks = [words for queue, job_id in pending.items() for words in (("ZSCORE", queue, job_id), ("GET", RESULT + job_id))]
        replies = self.broker.pipeline(looks)
        # The place in the queue is read before the result, and both leave in one transaction: gone without one is gone.
        for queue, place, result in zip(pending, replies[::2], replies[1::2]):
            if result is not None:
                self._prove(queue, *self._judge(result))
            elif place is None:
                self._prove(queue, None, f"a worker took it and ended it; {self.task} keeps no result that could be read")

    def _judge(self, stored: bytes) -> tuple[bool | None, str | None]:
        try:
            result = pickled.read(stored)
            succeeded, value = result.flag("s"), result.told.get("r")
        except BadEntry:
            return None, "a worker took it and ended it, but its result is no pickle: does the app set job_serializer?"
        if succeeded and (self.task != CANARY or value == self.args):
            return True, None
        if succeeded:
            return False, f"{CANARY} returned something else than it was given"
        if f"function {self.task!r} not found" in str(value):
            return None, f"a worker took it, but has no function {self.task}"
        return False, f"the job {self.task} failed: {value}"

    def _take_back(self) -> None:
        """Leave nothing behind, and say of the rest where it was last seen."""
        if self._pending():
            self._look()  # one may have come back between the last look and now
        pending = self._pending()
        waiting = {queue: self.broker.call("ZREM", queue, job_id) for queue, job_id in pending.items()
                   if not self.broker.call("EXISTS", IN_PROGRESS + job_id)}
        within = f"within {self.request.timeout:g} s"
        for queue in pending:
            if queue in waiting:
                jobs = self.broker.call("ZCARD", queue)
                why = f"not taken by a worker {within}; {jobs} other jobs are in the queue: is a node running, are its places all taken?"
            else:
                why = f"begun by a worker, but {self.task} has not ended {within}"
            self._prove(queue, False, why, begun=queue not in waiting)
        running = pending.keys() - waiting.keys()
        ended = [job_id for queue, job_id in self.jobs.items() if queue not in running]
        if ended:
            self.broker.call("DEL", *(prefix + job_id for job_id in ended for prefix in (JOB, RETRY, RESULT)))
