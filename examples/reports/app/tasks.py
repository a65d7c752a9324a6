"""One task of each kind that a fleet has to live with."""

from __future__ import annotations

import json
import math
import os
import time
from typing import Any

from celery import chord
from celery.exceptions import SoftTimeLimitExceeded
from redis import Redis

from app.celery_app import celery_app


class ReportError(Exception):
    """A report that cannot be made."""


@celery_app.task
def count_primes(below: int, start: int = 0) -> int:
    """Burn CPU: how many primes there are from ``start`` to ``below``, the slow way."""
    numbers = range(max(2, start), below)
    return sum(all(number % factor for factor in range(2, math.isqrt(number) + 1)) for number in numbers)


@celery_app.task
def fetch(seconds: float) -> str:
    """Wait as for a slow service; a soft time limit ends it with what there is."""
    begun = time.monotonic()
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return f"given up after {time.monotonic() - begun:.1f} s"
    return f"answered after {time.monotonic() - begun:.1f} s"


@celery_app.task
def fail(why: str = "no such report") -> None:
    """End in an error."""
    raise ReportError(why)


@celery_app.task(bind=True, max_retries=5, default_retry_delay=0.2)
def flaky(self: Any, failures: int) -> str:
    """Fail that many times, retried by Celery, then succeed."""
    if self.request.retries < failures:
        raise self.retry(exc=ReportError(f"attempt {self.request.retries + 1} failed"))
    return f"done at attempt {self.request.retries + 1}"


@celery_app.task
def merge(parts: list[int]) -> int:
    """The end of a report: add up its parts."""
    return sum(parts)


@celery_app.task(bind=True)
def build_report(self: Any, below: int, parts: int = 4) -> None:
    """Count primes in parallel: this task is replaced by a chord, parts first and then their sum."""
    edges = [below * part // parts for part in range(parts + 1)]
    raise self.replace(chord([count_primes.s(end, start) for start, end in zip(edges, edges[1:])], merge.s()))


@celery_app.task
def record(name: str, seconds: float, last: bool = False) -> None:
    """Wait so long, with ``last`` from the moment on in which the worker is told to stop; its begin and end are written down."""
    mark("begin", name)
    while last and not is_told():
        time.sleep(0.05)
    time.sleep(seconds)
    mark("end", name)


def mark(what: str, name: str) -> None:
    """Put a begin or an end behind the others, with the time and, where Workfleet has started it, the node.

    ``EXECUTIONS_URL`` names a Redis for them beside the broker, so that what happens to that is written down too.
    """
    url = os.environ.get("EXECUTIONS_URL")
    client = Redis.from_url(url) if url else celery_app.backend.client
    node = os.path.basename(os.environ.get("WORKFLEET_RECORD", "")).removesuffix(".json")
    client.rpush("executions", json.dumps({"task": name, "what": what, "at": time.time(), "node": node}))


def is_told() -> bool:
    """Whether this worker has been told to stop, or to take no new tasks: its run record says so, where Workfleet has started it."""
    try:
        with open(os.environ.get("WORKFLEET_RECORD", ""), encoding="utf-8") as file:
            return bool({"stopping", "quiesced"} & set(json.load(file)))
    except (OSError, ValueError):
        return False
