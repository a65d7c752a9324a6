"""Run an rq worker of one queue, with a worker class whose stop loses no job.

    python workfleet_rq.py --node NAME --queue NAME [--check] app.tasks [OPTION=JSON ...]

rq's own worker leaves its loop at a signal wherever it is: a job that was popped and not begun is then run by nobody
(rq/rq#2236). This one only takes note, and looks between two reads of a second each: for a stop, for the node's drain
mark, for ``rq suspend``. It tells when it consumes and when it stops, keeps its name free for its successor after a
kill, takes its children with it when it is killed, and keeps a scheduler running, of which rq's lock allows one a queue.

``rq worker -P DIRECTORY -w workfleet_rq.Worker`` has the class too. Python 3.10 or newer, rq 2.12 or newer.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import pickletools
import signal
import sys
import threading
import time
from typing import Any

import redis
import rq
import workfleet_tell
from rq.suspension import is_suspended

BROKER_URL = "WORKFLEET_BROKER_URL"
#: A sign of life stays for a minute longer than this.
WORKER_TTL = 16
PR_SET_PDEATHSIG = 1
_SCHEDULER_SECONDS = 15.0
_MAIN = os.getpid()
_libc = ctypes.CDLL(None)


class Unusable(Exception):
    """What was asked for cannot be run; one sentence for people."""


def _die_with_worker() -> None:
    """A job, or the scheduler, that outlives its worker is seen by nobody, and would write its worker's name into Redis again."""
    if os.getppid() == _MAIN:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


os.register_at_fork(after_in_child=_die_with_worker)


class Worker(rq.Worker):
    """rq's worker, which stops and rests between two jobs only, and tells how it is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._job: dict[str, Any] | None = None
        self._reads: float | None = None  # a first read does not wait
        self._has_scheduler_at = time.monotonic()

    def request_stop(self, signum: Any, frame: Any) -> None:
        """Take note, of the second signal too: nothing but a kill ends a job."""
        self._stop_requested = True
        workfleet_tell.stopping()

    def register_birth(self) -> None:
        """Take the name: a node has it alone, and what a killed predecessor left in Redis is no reason to refuse."""
        self.connection.delete(self.key, f"{self.key}:executions")
        super().register_birth()
        threading.Thread(target=self._watch, daemon=True).start()

    def check_for_suspension(self, burst: bool) -> None:
        """That is looked at with the mark."""

    def dequeue_job_and_maintain_ttl(self, timeout: Any, max_idle_time: Any = None) -> Any:
        """Return the next job; nothing ends a read but a job or its second."""
        while not self._stop_requested:
            self._keep_scheduler()
            if workfleet_tell.is_held() or is_suspended(self.connection, self):
                self._rest()
                continue
            found = super().dequeue_job_and_maintain_ttl(self._reads, 1)
            self._live()
            if found:
                return found
        return None

    def execute_job(self, job: Any, queue: Any) -> None:
        """Run a job, and know since when. One that dies with us fails, unless it has retries left."""
        self._job = {"id": job.id, "task": name_of(job.data), "since": time.time(), "acked": not job.retries_left}
        try:
            super().execute_job(job, queue)
        finally:
            self._job = None

    def _live(self) -> None:
        """A read was answered: we consume. Who emptied the database has not ended us."""
        if self._reads is None:
            self._reads = 1
            workfleet_tell.ready(self.queues[0].name)
        workfleet_tell.resumed(self.queues[0].name)
        if not self.connection.hexists(self.key, "birth"):
            self.connection.delete(self.key)
            super().register_birth()

    def _rest(self) -> None:
        if workfleet_tell.is_held():
            workfleet_tell.quiesced([])
        if self._reads is None:
            workfleet_tell.ready(self.queues[0].name)
        self.heartbeat()
        time.sleep(workfleet_tell.LOOK_SECONDS)

    def _watch(self) -> None:
        """Tell what runs while the mark is there: no other job comes before the mark was looked at again."""
        while True:
            job = self._job
            if job and workfleet_tell.is_held():
                workfleet_tell.quiesced([job])
            time.sleep(workfleet_tell.LOOK_SECONDS)

    def _keep_scheduler(self) -> None:
        """Take the lock of a scheduler that is gone; rq itself looks every ten minutes."""
        if self.scheduler and time.monotonic() - self._has_scheduler_at > _SCHEDULER_SECONDS:
            self._has_scheduler_at = time.monotonic()
            if not self.scheduler._process or not self.scheduler._process.is_alive():
                self.scheduler.acquire_locks(auto_start=True)


def name_of(data: bytes) -> str | None:
    """Return a job's function, the first text of its pickle, which is not loaded here: it may do anything."""
    try:
        return next(said for _, said, _ in pickletools.genops(data) if isinstance(said, str))
    except Exception:  # a message may be anything
        return None


def arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("module", help="module with job functions, imported before the first job")
    parser.add_argument("--node", required=True, help="name of this node, and of its worker")
    parser.add_argument("--queue", required=True, help="name of the queue")
    parser.add_argument("--log-format", help="format of log lines, over rq's own")
    parser.add_argument("--check", action="store_true", help="import all that is needed, but do not run")
    parser.add_argument("options", nargs="*", metavar="OPTION=JSON", help="option of rq worker")
    given = parser.parse_args(argv)
    try:
        given.options = {name: json.loads(value) for name, _, value in (word.partition("=") for word in given.options)}
    except ValueError:
        parser.error("an option is not of the form NAME=JSON")
    return given


def imported(path: str) -> Any:
    """Return the module or the part of one that a dotted path names."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if not error.name or not f"{path}.".startswith(f"{error.name}."):
            raise
    module, _, name = path.rpartition(".")
    found = getattr(imported(module), name, None) if module else None
    if found is None:
        raise Unusable(f"{path}: there is no module or name {name or path} in {module or os.getcwd()} or the virtualenv")
    return found


def main(argv: list[str]) -> None:
    """Make the worker as told and run it to its end."""
    given, url = arguments(argv), os.environ.pop(BROKER_URL, "") or os.environ.get("RQ_REDIS_URL", "")
    if os.environ.get("RQ_KEY_PREFIX", "rq") != "rq":
        raise Unusable("RQ_KEY_PREFIX is set: the toolkit looks at keys that begin with rq: only; use a database of the app's own")
    options = given.options
    imported(given.module)
    classes = {name: imported(options.pop(name)) for name in ("job_class", "queue_class") if name in options}
    handlers = [imported(path) for path in options.pop("exception_handler", ())]
    if given.check:
        return
    if not url:
        raise Unusable("there is no broker; set app_broker_url")
    worker = Worker(
        [given.queue], name=given.node, connection=redis.Redis.from_url(url), worker_ttl=WORKER_TTL, exception_handlers=handlers or None,
        default_result_ttl=options.get("results_ttl", 500), maintenance_interval=options.get("maintenance_interval", 600),
        job_monitoring_interval=options.get("job_monitoring_interval", 30),
        log_job_description=not options.get("disable_job_desc_logging"),
        disable_default_exception_handler=options.get("disable_default_exception_handler", False), **classes,
    )
    told = {name: value for name, value in (("log_format", given.log_format), ("date_format", options.get("date_format"))) if value}
    worker.work(with_scheduler=options.get("with_scheduler", True), logging_level=options.get("logging_level", "INFO"), **told)
    if not worker._stop_requested:
        raise Unusable("the worker has ended by itself; its log says why")


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # the app's modules are found as with `rq worker`, and none of the toolkit's
    try:
        main(sys.argv[1:])
    except (Unusable, redis.RedisError) as error:
        sys.exit(f"workfleet_rq: {error}")
