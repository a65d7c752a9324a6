"""Send a mix of jobs and print their results: ``python -m app.send --flow 20 --seconds 2 --flaky 2``.

Exits with 1 if a job did not end as it should within ``--timeout``; the failing jobs should fail.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

from arq import create_pool
from arq.jobs import Job

from app.worker import REDIS

DEFAULTS = {"flow": 4, "flaky": 1, "fail": 1, "where": 1}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m app.send", description=(__doc__ or "").partition(":")[0])
    for kind, number in DEFAULTS.items():
        parser.add_argument(f"--{kind}", type=int, metavar="N", help=f"jobs of this kind ({number} if no kind is given)")
    parser.add_argument("--seconds", type=float, default=0.3, help="how long a flow takes (default 0.3)")
    parser.add_argument("--queue", default="arq:queue", help="the queue (default arq:queue)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for all results (default 60)")
    return parser.parse_args(argv)


def calls(options: argparse.Namespace) -> list[tuple[str, list[Any]]]:
    """The jobs to send: the function's name and its arguments."""
    numbers = {kind: getattr(options, kind) for kind in DEFAULTS}
    if all(number is None for number in numbers.values()):
        numbers = dict(DEFAULTS)
    kinds: dict[str, Any] = {
        "flow": lambda number: ("run_flow", [f"flow-{number}", options.seconds]), "flaky": lambda _: ("flaky", [2]),
        "fail": lambda _: ("fail", []), "where": lambda _: ("where", []),
    }
    return [kinds[kind](number) for kind, count in numbers.items() for number in range(count or 0)]


async def ended(job: Job, name: str, timeout: float) -> tuple[bool, str]:
    """Whether a job ended as it should, and how it ended."""
    try:
        result = await job.result(timeout=timeout, poll_delay=0.05)
    except asyncio.TimeoutError:
        return False, f"no result within {timeout:g} s"
    except Exception as error:  # a job's own error, whatever it is
        return name == "fail", repr(error)
    return name != "fail", repr(result)


async def send(options: argparse.Namespace) -> int:
    """Send, then print a line for each result."""
    begun = time.monotonic()
    redis = await create_pool(REDIS)
    sent = []
    for name, args in calls(options):
        job = await redis.enqueue_job(name, *args, _queue_name=options.queue)
        if job is not None:
            sent.append((Job(job.job_id, redis, options.queue), name, args))
    print(f"{len(sent)} jobs sent in {time.monotonic() - begun:.2f} s", flush=True)  # noqa: T201 - a command
    results = await asyncio.gather(*(ended(job, name, options.timeout) for job, name, _ in sent))
    for (_, name, args), (right, said) in zip(sent, results):
        print(f"{'ok ' if right else 'BAD'} {name}{tuple(args)}  {said}", flush=True)  # noqa: T201
    await redis.aclose()
    return 0 if all(right for right, _ in results) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(send(arguments())))
