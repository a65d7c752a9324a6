"""One job of each kind that a fleet has to live with."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from typing import Any

from arq import Retry
from redis.asyncio import Redis

BEGUN, DONE = "flow:begun", "flow:done"  # the names of flows, in the order in which they began and ended


class FlowError(Exception):
    """A flow that cannot be run."""


async def run_flow(ctx: dict[str, Any], name: str, seconds: float = 0.3, steps: int = 3) -> str:
    """Run a flow: each of its steps waits as for a slow service. Its begin and its end are written down."""
    await ctx["redis"].rpush(BEGUN, name)
    for _ in range(steps):
        await asyncio.sleep(seconds / steps)
    await ctx["redis"].rpush(DONE, name)
    return f"{name}: {steps} steps at try {ctx['job_try']}"


async def fail(ctx: dict[str, Any], why: str = "no such flow") -> None:
    """End in an error."""
    raise FlowError(why)


async def flaky(ctx: dict[str, Any], failures: int) -> str:
    """Ask for another try that many times, then succeed."""
    if ctx["job_try"] <= failures:
        raise Retry(defer=0.2)
    return f"done at try {ctx['job_try']}"


async def where(ctx: dict[str, Any]) -> dict[str, Any]:
    """Say that a worker is there, and where."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


async def record(ctx: dict[str, Any], name: str, seconds: float, last: bool = False) -> None:
    """Wait so long, with ``last`` from the moment on in which the worker is told to stop; its begin and end are written down."""
    await mark(ctx, "begin", name)
    while last and not is_told():
        await asyncio.sleep(0.05)
    await asyncio.sleep(seconds)
    await mark(ctx, "end", name)


async def mark(ctx: dict[str, Any], what: str, name: str) -> None:
    """Put a begin or an end behind the others, with the time and, where Workfleet has started it, the node.

    ``EXECUTIONS_URL`` names a Redis for them beside the broker, so that what happens to that is written down too.
    """
    url = os.environ.get("EXECUTIONS_URL")
    node = os.path.basename(os.environ.get("WORKFLEET_RECORD", "")).removesuffix(".json")
    entry = json.dumps({"task": name, "what": what, "at": time.time(), "node": node})
    if not url:
        await ctx["redis"].rpush("executions", entry)
        return
    client = Redis.from_url(url)
    try:
        await client.rpush("executions", entry)
    finally:
        await client.aclose()


def is_told() -> bool:
    """Whether this worker has been told to stop, or to take no new tasks: its run record says so, where Workfleet has started it."""
    try:
        with open(os.environ.get("WORKFLEET_RECORD", ""), encoding="utf-8") as file:
            return bool({"stopping", "quiesced"} & set(json.load(file)))
    except (OSError, ValueError):
        return False
