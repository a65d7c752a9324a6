"""Run an arq worker whose settings are the app's class with a group's options over it.

    python workfleet_arq.py --node NAME --queue NAME --drain-seconds N [--check | --tasks] app.worker.WorkerSettings [OPTION=JSON ...]

``arq app.worker.WorkerSettings`` reads the class's own attributes and nothing else: no inherited ones, no flags, no
environment. This runner takes inherited attributes too, puts the given options over them, and hands over the broker's
URL of ``WORKFLEET_BROKER_URL`` where there is one. It tells when the worker has polled its queue for the first time and
when it stops, keeps a health-check key of this node's own, lets jobs finish at a stop, and registers the function
``workfleet.probe``. The user's code is not touched.

Python 3.9 or newer, arq 0.26 or newer, and the standard library.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import importlib
import inspect
import json
import logging.config
import os
import sys
import time
from datetime import datetime
from signal import Signals
from typing import Any

import arq.worker
import workfleet_redis_url
import workfleet_tell
from arq.connections import RedisSettings
from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.jobs import DeserializationError, deserialize_job_raw
from arq.logs import default_log_config
from arq.utils import to_seconds
from redis.exceptions import RedisError, ResponseError

BROKER_URL = "WORKFLEET_BROKER_URL"
HEALTH_CHECK_KEY = "arq:health-check:"  # and the node's name; arq's own default is a key of the queue, shared by its workers
HEALTH_CHECK_SECONDS = 10  # arq's own is an hour, for which a killed worker would pass for a healthy one
PROBE = "workfleet.probe"
PROBE_RESULT_SECONDS = 60
LONGEST_PICK = 5.0
#: Options of arq's command, not of its worker.
COMMAND = ("verbose", "custom_log_dict")


class Unusable(Exception):
    """What was asked for cannot be run; one sentence for people."""


async def probe(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> list[Any]:
    """Return what it was given: the canary of ``verify.yml``."""
    return list(args)


class Worker(arq.worker.Worker):
    """arq's worker, which also tells how it is, and whose stop loses no job."""

    allow_pick_jobs: bool
    node = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._told: tuple[Any, ...] = ()
        self._told_at = 0.0
        self._picking = asyncio.Lock()
        self._quiet = False
        self._begun: dict[str, dict[str, Any]] = {}

    async def main(self) -> None:
        """Take jobs, unless the node has its mark."""
        self._quiet = workfleet_tell.is_held()
        watcher = self.loop.create_task(self._watch())
        try:
            await super().main()
        finally:
            watcher.cancel()

    async def _watch(self) -> None:
        """Do as the mark says; while it is there, tell what still runs."""
        while True:
            self._quiet = workfleet_tell.is_held()
            if self._quiet:
                async with self._picking:  # a job that is half taken is taken whole
                    pass
                await self._tell_names()
                workfleet_tell.quiesced([dict(self._begun.get(job_id) or job(job_id)) for job_id, running in self.tasks.items()
                                         if not running.done()])
            await asyncio.sleep(workfleet_tell.LOOK_SECONDS)

    async def _tell_names(self) -> None:
        """Look up what the running jobs are called: only their message tells."""
        for job_id, told in list(self._begun.items()):
            if told["task"] is None:
                with contextlib.suppress(RedisError, DeserializationError):
                    said = await self.pool.get(job_key_prefix + job_id)
                    told["task"] = deserialize_job_raw(said or b"", deserializer=self.job_deserializer)[0]

    async def run_job(self, job_id: str, score: int) -> None:
        """Run a job, and know since when."""
        self._begun[job_id] = job(job_id)
        try:
            await self._sign(job_id)
            await super().run_job(job_id, score)
        finally:
            del self._begun[job_id]

    async def _sign(self, job_id: str) -> None:
        """Write whose job it is into its mark, which by itself names nobody: reap.yml takes away those of the dead."""
        owner = f"{self.node} {os.getpid()} {self.queue_name}"
        with contextlib.suppress(RedisError):  # arq needs no more than that the mark is there
            await self.pool.set(in_progress_key_prefix + job_id, owner, xx=True, keepttl=True)

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start jobs one by one, so that a stop is heard between two of them."""
        for job_id in job_ids:
            async with self._picking:
                if not self.allow_pick_jobs or self._quiet or self.job_counter >= self.max_jobs:
                    return
                await super().start_jobs([job_id])

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """Stop taking jobs; the drain begins when a job that is half taken is taken whole.

        arq itself may cancel between a job's in-progress key and its start, and the job then waits for the key to expire.
        """
        if not self.allow_pick_jobs:
            return
        self.allow_pick_jobs = False
        workfleet_tell.stopping()
        self._drain = self.loop.create_task(self._drain_when_picked(signum))

    async def _drain_when_picked(self, signum: Signals) -> None:
        with contextlib.suppress(asyncio.TimeoutError):  # where the broker is silent, the stop goes on
            await asyncio.wait_for(self._picking.acquire(), LONGEST_PICK)
            self._picking.release()
        super().handle_sig_wait_for_completion(signum)

    async def record_health(self) -> None:
        """Write the health-check key after each change and each interval, in arq's words and some more.

        Called at the end of each poll: the first time tells that the worker consumes.
        """
        if not self._quiet:
            workfleet_tell.resumed(self.queue_name)
        running = sum(not task.done() for task in self.tasks.values())
        figures = (self.jobs_complete, self.jobs_failed, self.jobs_retried, running)
        now = time.monotonic()
        if figures == self._told and now - self._told_at < self.health_check_interval:
            return
        queued = await self.pool.zcard(self.queue_name)
        words = "{:%b-%d %H:%M:%S} j_complete={} j_failed={} j_retried={} j_ongoing={} queued={} pid={} max_jobs={} queue={}"
        said = words.format(datetime.now(), *figures, queued, os.getpid(), self.max_jobs, self.queue_name)
        lasts = 2 * (self.health_check_interval + self.poll_delay_s)  # a late poll is no death
        await self.pool.psetex(self.health_check_key, int(lasts * 1000), said.encode())
        if not self._told:
            workfleet_tell.ready(self.queue_name)
        self._told, self._told_at = figures, now


def job(job_id: str) -> dict[str, Any]:
    """Return what is told of a job that begins. One that dies with us is run again, so it counts as not acknowledged."""
    return {"id": job_id, "task": None, "since": time.time(), "acked": False}


def arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("settings", help="dotted path of the settings class")
    parser.add_argument("--node", required=True, help="name of this node, in its health-check key")
    parser.add_argument("--queue", help="name of the queue, over the class's own")
    parser.add_argument("--drain-seconds", type=int, required=True, help="how long running jobs may go on after a stop")
    parser.add_argument("--log-format", help="format of log lines, over arq's own")
    parser.add_argument("--check", action="store_true", help="make the worker, but do not run it")
    parser.add_argument("--tasks", action="store_true", help="print the names of the functions as JSON, and end")
    parser.add_argument("options", nargs="*", metavar="OPTION=JSON", help="option of arq's worker, over the class's own")
    given = parser.parse_args(argv)
    try:
        given.options = {name: json.loads(value) for name, _, value in (word.partition("=") for word in given.options)}
    except ValueError:
        parser.error("an option is not of the form NAME=JSON")
    return given


def imported(path: str) -> Any:
    """Return what a dotted path (or ``module:name``) names."""
    module, _, name = path.replace(":", ".").rpartition(".")
    if not module:
        raise Unusable(f"{path}: must be a dotted path, such as app.worker.WorkerSettings")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise Unusable(f"{path}: there is no module {error.name} in {os.getcwd()} or the virtualenv") from error
        raise
    try:
        return getattr(found, name)
    except AttributeError:
        raise Unusable(f"{path}: the module {module} has no {name}") from None


def attributes(path: str, names: set[str]) -> dict[str, Any]:
    """Return the worker's arguments that a settings class sets, itself or by inheritance; a dict is taken as arq takes it."""
    settings = imported(path)
    if isinstance(settings, dict):
        return {name: settings[name] for name in names if name in settings}
    found = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    if not found.get("functions") and not found.get("cron_jobs"):
        raise Unusable(f"{path}: it has neither functions nor cron_jobs: is this the settings class?")
    return found


def redis_settings(url: str, base: RedisSettings) -> RedisSettings:
    """Return ``base`` (timeouts, retries) with the address of ``url``; arq's own reader of URLs leaves %-escapes in passwords."""
    try:
        read = workfleet_redis_url.parse(url)
    except ValueError as error:
        raise Unusable(f"{BROKER_URL}: {error}") from error
    address: dict[str, Any] = {
        "host": read.host, "port": read.port, "database": read.db, "unix_socket_path": read.path, "sentinel": False,
        "ssl": read.tls is not None, "username": read.username, "password": read.password,
    }
    if read.tls:
        given = {"ca_certs": read.tls.ca_certs, "certfile": read.tls.certfile, "keyfile": read.tls.keyfile}
        address.update(ssl_cert_reqs=read.tls.cert_reqs, ssl_check_hostname=read.tls.check_hostname)
        address.update({f"ssl_{name}": value for name, value in given.items() if value is not None})
    return dataclasses.replace(base, **address)


def timezone(name: str) -> Any:
    """Return the time zone of that name."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Unusable(f"timezone = {name}: this host knows no such time zone") from error


def worker_arguments(given: argparse.Namespace, broker_url: str) -> dict[str, Any]:
    """Return the arguments of the worker: the class's, the group's over them, ours over both."""
    known = set(inspect.signature(arq.worker.Worker.__init__).parameters) - {"self"}
    strange = sorted(set(given.options) - known - set(COMMAND))
    if strange:
        raise Unusable(f"the installed arq has no option {', '.join(strange)}")
    own = attributes(given.settings, known)
    options = {name: value for name, value in given.options.items() if name not in COMMAND}
    if "timezone" in options:
        options["timezone"] = timezone(options["timezone"])
    interval = min(to_seconds(own.get("health_check_interval", HEALTH_CHECK_SECONDS)), HEALTH_CHECK_SECONDS)
    whole = {**own, "health_check_interval": interval, **options}
    if given.queue:
        whole["queue_name"] = given.queue
    if broker_url:
        whole["redis_settings"] = redis_settings(broker_url, whole.get("redis_settings") or RedisSettings())
        whole["redis_pool"] = None
    canary = arq.worker.func(probe, name=PROBE, keep_result=PROBE_RESULT_SECONDS, max_tries=1)
    whole.update(
        functions=[*(whole.get("functions") or ()), canary], burst=False, handle_signals=True,
        job_completion_wait=given.drain_seconds, health_check_key=HEALTH_CHECK_KEY + given.node,
    )
    return whole


def logs(options: dict[str, Any], log_format: str | None) -> None:
    """Set logging up as arq's command does."""
    path = options.get("custom_log_dict")
    config = imported(path) if path else default_log_config(bool(options.get("verbose")))
    if log_format:
        config = {**config, "formatters": {name: {"format": log_format} for name in config["formatters"]}}
    logging.config.dictConfig(config)


def long_jobs(worker: Worker, drain_seconds: int) -> list[str]:
    """Say which functions a stop may cut short, where there are any: only here are all their timeouts known."""
    limits = {name: function.timeout_s or worker.job_timeout_s for name, function in worker.functions.items() if name != PROBE}
    long = sorted(name for name, limit in limits.items() if limit is None or limit > drain_seconds)
    return [f"drain_seconds = {drain_seconds} is below the timeout of {', '.join(long)}: a stop may cancel such a job, which is then run "
            "again as its next try"] if long else []


def main(argv: list[str]) -> None:
    """Make the worker as told and run it to its end."""
    given = arguments(argv)
    url = os.environ.pop(BROKER_URL, "")
    logs(given.options, given.log_format)
    asyncio.set_event_loop(asyncio.new_event_loop())  # arq's worker wants one, and newer Pythons make none by themselves
    worker = Worker(**worker_arguments(given, url))
    worker.node = given.node
    if given.tasks:
        print("workfleet-tasks:", json.dumps({"tasks": sorted(worker.functions)}))  # noqa: T201 - the answer
        return
    for warning in long_jobs(worker, given.drain_seconds):
        if given.check:
            print("workfleet-warning:", warning)  # noqa: T201 - the answer
        else:
            logging.getLogger("arq.worker").warning("%s", warning)
    if given.check:
        return
    try:
        worker.run()
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        raise Unusable(f"the key {worker.queue_name} in Redis is no queue of arq's: {error}") from error
    except RedisError as error:
        raise Unusable(f"the broker is lost: {type(error).__name__}: {error}") from error


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # the app's modules are found as with `python -m arq`, and none of the toolkit's
    try:
        main(sys.argv[1:])
    except Unusable as error:
        sys.exit(f"workfleet_arq: {error}")
