"""Send a mix of tasks to one queue and print their results as they come: ``python -m app.send --deliver 20 --queue slow``.

Exits with 1 if a task did not end as it should within ``--timeout``; the rejected events should fail.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
import uuid
from typing import Any

from chicory import AsyncResult, Task, TaskMessage

from app import tasks
from app.tasks import app

KINDS: dict[str, tuple[str, Task[Any, Any], list[Any]]] = {
    "deliver": ("tasks that wait", tasks.deliver, [0.2]),
    "digest": ("tasks that burn CPU in a thread", tasks.digest, [0.1]),
    "notify": ("tasks that are done at most once", tasks.notify, []),
    "flaky": ("tasks that succeed at the third attempt", tasks.flaky, [2]),
    "reject": ("tasks that fail", tasks.reject, []),
}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m app.send", description=(__doc__ or "").partition(":")[0])
    for kind, (what, _, _) in KINDS.items():
        parser.add_argument(f"--{kind}", type=int, metavar="N", help=f"{what} (1 if no kind is given)")
    parser.add_argument("--queue", default="default", help="where to send all (default)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for all results (default 60)")
    return parser.parse_args(argv)


def mix(options: argparse.Namespace) -> list[str]:
    """The kinds to send, shuffled."""
    numbers = {kind: getattr(options, kind) for kind in KINDS}
    if all(number is None for number in numbers.values()):
        numbers = dict.fromkeys(KINDS, 1)
    kinds = [kind for kind, number in numbers.items() for _ in range(number or 0)]
    random.shuffle(kinds)
    return kinds


async def send(task: Task[Any, Any], args: list[Any], queue: str) -> str:
    """Send a task to a queue; Chicory's own ``task.delay()`` knows ``default`` only."""
    message = TaskMessage(id=str(uuid.uuid4()), name=task.name, args=args, kwargs={})
    await app.broker.publish(message, queue)
    return message.id


async def run(options: argparse.Namespace) -> int:
    """Send, then print a line for each result."""
    await app.connect()
    begun = time.monotonic()

    async def outcome(kind: str) -> bool:
        _, task, args = KINDS[kind]
        call = f"{task.name.rpartition('.')[2]}({', '.join(map(repr, args))})"
        task_id = await send(task, args, options.queue)
        right = kind != "reject"
        try:
            value, ended = await AsyncResult[Any](task_id, app.backend).get(options.timeout), "SUCCESS"
        except TimeoutError:
            print(f"no result within {options.timeout:g} s: {call}", file=sys.stderr)  # noqa: T201 - a command
            return False
        except Exception as error:  # Chicory raises a plain Exception with the task's last words
            value, ended, right = error, "FAILURE", not right
        print(f"{time.monotonic() - begun:7.2f} s  {ended:8}{'' if right else '!'}  {call}  {value}", flush=True)  # noqa: T201
        return right

    try:
        ends = await asyncio.gather(*(outcome(kind) for kind in mix(options)))
    finally:
        await app.disconnect()
    print(f"{sum(ends)} of {len(ends)} ended as they should in {time.monotonic() - begun:.2f} s")  # noqa: T201
    return 0 if all(ends) else 1


def main(argv: list[str] | None = None) -> int:
    """Read the command line and run."""
    return asyncio.run(run(arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
