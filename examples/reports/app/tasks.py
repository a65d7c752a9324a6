"""One task of each kind that a fleet has to live with."""

from __future__ import annotations

import math
import time
from typing import Any

from celery import chord
from celery.exceptions import SoftTimeLimitExceeded

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
