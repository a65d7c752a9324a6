"""One job of each kind that a fleet has to live with."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

from redis import Redis

BROKER = os.environ.get("RQ_REDIS_URL", "redis://localhost:6379/0")


class MailError(Exception):
    """A mail that cannot be sent."""


def send_mail(to: str, seconds: float = 0.2) -> str:
    """Wait as for a slow server."""
    time.sleep(seconds)
    return f"sent to {to}"


def fail(why: str = "no such address") -> None:
    """End in an error."""
    raise MailError(why)


def where() -> dict[str, Any]:
    """Say that a worker is there, and where; its parent is the node."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "node": os.getppid()}


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
    node = os.path.basename(os.environ.get("WORKFLEET_RECORD", "")).removesuffix(".json")
    client = Redis.from_url(os.environ.get("EXECUTIONS_URL") or BROKER)
    client.rpush("executions", json.dumps({"task": name, "what": what, "at": time.time(), "node": node}))


def is_told() -> bool:
    """Whether this worker has been told to stop, or to take no new tasks: its run record says so, where Workfleet has started it."""
    try:
        with open(os.environ.get("WORKFLEET_RECORD", ""), encoding="utf-8") as file:
            return bool({"stopping", "quiesced"} & set(json.load(file)))
    except (OSError, ValueError):
        return False
