"""Tell what a Celery app registers: ``python workfleet_celery_tasks.py [--include MODULES] APP [-- SETTINGS]``.

Run by the Python of a release before its nodes start, in their place and with their environment. Prints one line of JSON
behind ``workfleet-tasks:`` and, with ``--drain-seconds``, behind ``workfleet-warning:`` what a stop may cut short; what the app
itself prints does not matter.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from typing import Any

from celery.app.utils import find_app

#: kombu's own, in seconds.
VISIBILITY_TIMEOUT = 3600
_LIMITS_SHOWN = 8


def queue_of(app: Any, name: str, task: Any) -> str | None:
    """Return the queue that a task is sent to where its caller names none; a router of the app's own may want more to tell."""
    own = getattr(task, "queue", None)
    try:
        queue = app.amqp.router.route({"queue": own} if own else {}, name).get("queue")
    except Exception:
        return None
    return None if queue is None else str(getattr(queue, "name", queue))


def own_tasks(app: Any) -> dict[str, Any]:
    """Return the app's tasks without those that Celery brings along."""
    return {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}


def time_limits(app: Any, hard: float | None, soft: float | None) -> dict[str, float]:
    """Return what ends tasks that take too long, and after how many seconds: a hard limit, or the soft one where there is no hard one.

    ``hard`` and ``soft`` are the worker's own. A task's come before them, and since Celery copies ``task_time_limit`` into each task that
    has none, the app's settings do too. What many tasks have by a setting goes by its name.
    """
    conf, found = app.conf, {}
    said = {soft: "--soft-time-limit", hard: "--time-limit",
            conf.task_soft_time_limit: "task_soft_time_limit", conf.task_time_limit: "task_time_limit"}
    for name, task in own_tasks(app).items():
        limit = task.time_limit or hard or conf.task_time_limit or task.soft_time_limit or soft or conf.task_soft_time_limit
        if limit:
            found[said.get(limit, name)] = float(limit)
    return found


def cut_short(limits: dict[str, float], drain_seconds: int) -> list[str]:
    """Say which limits a stop does not wait for, where there are any: only here are all of them known."""
    long = sorted(((limit, what) for what, limit in limits.items() if limit > drain_seconds), reverse=True)
    shown = ", ".join(f"{what} = {limit:g}" for limit, what in long[:_LIMITS_SHOWN])
    more = f" and {len(long) - _LIMITS_SHOWN} more" if len(long) > _LIMITS_SHOWN else ""
    return [f"drain_seconds = {drain_seconds} is below time limits of the app's tasks ({shown}{more}): a stop may kill a task within its "
            "own limit; raise drain_seconds, or lower the limits"] if long else []


def told(app: Any, limits: dict[str, float]) -> dict[str, Any]:
    """Return what the app says of itself."""
    own = own_tasks(app)
    queues: dict[str, list[str]] = {}
    for name in sorted(own):
        queue = queue_of(app, name, own[name])
        if queue:
            queues.setdefault(queue, []).append(name)
    for declared in app.conf.task_queues or ():
        queues.setdefault(getattr(declared, "name", str(declared)), [])
    options = app.conf.broker_transport_options or {}
    return {
        "tasks": sorted(app.tasks), "queues_sent_to": queues, "time_limit": max(limits.values(), default=None),
        "visibility_timeout": float(options.get("visibility_timeout", VISIBILITY_TIMEOUT)),
    }


def main(argv: list[str]) -> None:
    """Import the app as its worker does."""
    parser = argparse.ArgumentParser(prog="workfleet_celery_tasks.py", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("app", help="the value of celery's -A")
    parser.add_argument("--include", default="", help="modules that the worker imports too, with commas between them")
    parser.add_argument("--time-limit", type=float, help="the worker's own")
    parser.add_argument("--soft-time-limit", type=float, help="the worker's own")
    parser.add_argument("--drain-seconds", type=int, help="how long a stop waits for running tasks")
    parser.add_argument("settings", nargs="*", help="what the worker is given behind --")
    given = parser.parse_args(argv)
    app = find_app(given.app)
    if given.settings:
        app.config_from_cmdline(given.settings, namespace="worker")
    app.loader.import_default_modules()
    for module in filter(None, given.include.split(",")):
        importlib.import_module(module)
    app.finalize()
    limits = time_limits(app, given.time_limit, given.soft_time_limit)
    print("workfleet-tasks:", json.dumps(told(app, limits)))  # noqa: T201 - the answer
    for warning in [] if given.drain_seconds is None else cut_short(limits, given.drain_seconds):
        print("workfleet-warning:", warning)  # noqa: T201 - the answer


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as `python -m celery` has it
    main(sys.argv[1:])
