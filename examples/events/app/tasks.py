"""The Chicory app, ``app.tasks:app``, and one task of each kind that a fleet has to live with.

Chicory itself reads ``CHICORY_BROKER_REDIS_URL`` and ``CHICORY_BACKEND_REDIS_URL``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time

from chicory import BackendType, BrokerType, Chicory, DeliveryMode, RetryBackoff, RetryPolicy, TaskContext
from redis.asyncio import Redis

app = Chicory(broker=BrokerType.REDIS, backend=BackendType.REDIS)
AGAIN_SOON = RetryPolicy(max_retries=3, retry_delay=0.2, backoff=RetryBackoff.FIXED, jitter=False)


class EventError(Exception):
    """An event that cannot be passed on."""


def note(line: str) -> None:
    """Write a line to the file that ``EVENTS_LOG`` names, so that a test can count what was really done."""
    path = os.environ.get("EVENTS_LOG")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")


@app.task()
async def deliver(seconds: float, event: str = "event") -> str:
    """Wait as for a slow receiver, on the event loop beside others."""
    note(f"begin {event}")
    await asyncio.sleep(seconds)
    note(f"end {event}")
    return f"{event} delivered"


@app.task()
def digest(seconds: float, event: str = "event") -> str:
    """Burn CPU in a thread for so long."""
    note(f"begin {event}")
    begun, value = time.monotonic(), event.encode()
    while time.monotonic() - begun < seconds:
        value = hashlib.sha256(value * 5000).digest()
    note(f"end {event}")
    return value.hex()[:8]


@app.task(delivery_mode=DeliveryMode.AT_MOST_ONCE)
async def notify(event: str = "event") -> str:
    """Acknowledged before it runs: never done twice, and lost when the worker dies."""
    note(f"end {event}")
    return f"told of {event}"


@app.task()
async def reject(event: str = "event") -> None:
    """End in an error; kept in the dead-letter queue where the worker has one."""
    note(f"end {event}")
    raise EventError(f"{event} is not understood")


@app.task(retry_policy=AGAIN_SOON)
async def flaky(context: TaskContext, failures: int, event: str = "event") -> str:
    """Fail that many times, retried by Chicory, then succeed."""
    note(f"try {context.retries} {event}")
    if context.retries < failures:
        raise EventError(f"attempt {context.retries + 1} failed")
    return f"{event} delivered at attempt {context.retries + 1}"


@app.task()
async def record(name: str, seconds: float, last: bool = False) -> None:
    """Wait so long, with ``last`` from the moment on in which the worker is told to stop; its begin and end are written down."""
    async with Redis.from_url(os.environ.get("EXECUTIONS_URL") or app.broker.dsn) as redis:
        await mark(redis, "begin", name)
        while last and not is_told():
            await asyncio.sleep(0.05)
        await asyncio.sleep(seconds)
        await mark(redis, "end", name)


async def mark(redis: Redis, what: str, name: str) -> None:
    """Put a begin or an end behind the others, with the time and, where Workfleet has started it, the node.

    ``EXECUTIONS_URL`` names a Redis for them beside the broker, so that what happens to that is written down too.
    """
    node = os.path.basename(os.environ.get("WORKFLEET_RECORD", "")).removesuffix(".json")
    await redis.rpush("executions", json.dumps({"task": name, "what": what, "at": time.time(), "node": node}))


def is_told() -> bool:
    """Whether this worker has been told to stop, or to take no new tasks: its run record says so, where Workfleet has started it."""
    try:
        with open(os.environ.get("WORKFLEET_RECORD", ""), encoding="utf-8") as file:
            return bool({"stopping", "quiesced"} & set(json.load(file)))
    except (OSError, ValueError):
        return False
