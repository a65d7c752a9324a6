"""One job of each kind that a fleet has to live with."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from arq import Retry

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
