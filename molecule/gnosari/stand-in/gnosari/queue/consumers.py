"""What the stand-in's workers do: run tools."""

from __future__ import annotations

import socket
import time
from typing import Any

from gnosari.queue.app import celery_app


class ToolError(Exception):
    """A tool that failed."""


@celery_app.task
def run_tool(name: str, seconds: float = 0) -> str:
    """Take that long, and say which host did it."""
    time.sleep(seconds)
    return f"{name} on {socket.gethostname()}"


@celery_app.task
def break_tool(name: str) -> None:
    """Fail."""
    raise ToolError(f"{name} is broken")


@celery_app.task(bind=True, max_retries=3, default_retry_delay=0.2)
def flaky_tool(self: Any, name: str, failures: int) -> str:
    """Fail that many times, retried by Celery, then succeed."""
    if self.request.retries < failures:
        raise self.retry(exc=ToolError(f"{name} failed"))
    return f"{name} at attempt {self.request.retries + 1}"
