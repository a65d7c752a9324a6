"""Send a mix of tasks and print their results as they come: ``python -m app.send --cpu 20 --io 20 --retry 2``.

Exits with 1 if a task did not end as it should within ``--timeout``; the failing tasks should fail.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import Any

from celery.exceptions import TimeoutError as NoResult
from celery.result import AsyncResult, ResultSet

from app import tasks
from app.celery_app import celery_app, health_check

KINDS = {
    "cpu": ("tasks that burn CPU", lambda: tasks.count_primes.s(20_000)),
    "io": ("tasks that wait", lambda: tasks.fetch.s(round(random.uniform(0.1, 0.5), 1))),  # noqa: S311 - no secret
    "retry": ("tasks that succeed at the third attempt", lambda: tasks.flaky.s(2)),
    "fail": ("tasks that fail", lambda: tasks.fail.s()),
    "chord": ("reports of four parts", lambda: tasks.build_report.s(20_000)),
    "health": ("health checks", lambda: health_check.s()),
}
DEFAULTS = {"cpu": 4, "io": 4, "retry": 1, "fail": 1, "chord": 1, "health": 1}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m app.send", description=(__doc__ or "").partition(":")[0])
    for kind, (what, _) in KINDS.items():
        parser.add_argument(f"--{kind}", type=int, metavar="N", help=f"{what} ({DEFAULTS[kind]} if no kind is given)")
    parser.add_argument("--queue", help="send all to this queue, whatever the app's routes say")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for all results (default 60)")
    return parser.parse_args(argv)


def mix(options: argparse.Namespace) -> list[str]:
    """The kinds to send, shuffled."""
    numbers = {kind: getattr(options, kind) for kind in KINDS}
    if all(number is None for number in numbers.values()):
        numbers = dict(DEFAULTS)
    kinds = [kind for kind, number in numbers.items() for _ in range(number or 0)]
    random.shuffle(kinds)
    return kinds


def say(line: str) -> None:
    """Show a line at once, into a pipe too."""
    print(line, flush=True)  # noqa: T201 - a command


def main(argv: list[str] | None = None) -> int:
    """Send, then print a line for each result."""
    options = arguments(argv)
    begun = time.monotonic()
    sent: dict[str, tuple[str, str]] = {}
    results: list[AsyncResult[Any]] = []
    for kind in mix(options):
        signature = KINDS[kind][1]()
        results.append(signature.apply_async(queue=options.queue))
        sent[results[-1].id] = kind, f"{signature.task.rpartition('.')[2]}{signature.args}".replace(",)", ")")
    say(f"{len(sent)} tasks sent in {time.monotonic() - begun:.2f} s")
    wrong = 0
    try:
        for task_id, meta in ResultSet(results, app=celery_app).iter_native(timeout=options.timeout):
            kind, call = sent.pop(task_id)
            right = meta["status"] == ("FAILURE" if kind == "fail" else "SUCCESS")
            wrong += not right
            value = repr(meta["result"]) if isinstance(meta["result"], Exception) else meta["result"]
            say(f"{time.monotonic() - begun:7.2f} s  {meta['status']:8}{'' if right else '!'}  {call}  {value}")
    except NoResult:
        pass
    for _, call in sent.values():
        print(f"no result within {options.timeout:g} s: {call}", file=sys.stderr)  # noqa: T201
    back = len(results) - len(sent)
    say(f"{back} of {len(results)} came back in {time.monotonic() - begun:.2f} s, {wrong} not as they should")
    return 1 if wrong or sent else 0


if __name__ == "__main__":
    sys.exit(main())
