"""Tell what a Celery app registers: ``python workfleet_celery_tasks.py [--include MODULES] APP [-- SETTINGS]``.

Run by the Python of a release before its nodes start, in their place and with their environment. Prints one line of JSON
behind ``workfleet-tasks:``; what the app itself prints does not matter.
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


def queue_of(app: Any, name: str, task: Any) -> str | None:
    """Return the queue that a task is sent to where its caller names none; a router of the app's own may want more to tell."""
    own = getattr(task, "queue", None)
    try:
        queue = app.amqp.router.route({"queue": own} if own else {}, name).get("queue")
    except Exception:
        return None
    return None if queue is None else str(getattr(queue, "name", queue))


def told(app: Any) -> dict[str, Any]:
    """Return what the app says of itself."""
    own = {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}
    queues: dict[str, list[str]] = {}
    for name in sorted(own):
        queue = queue_of(app, name, own[name])
        if queue:
            queues.setdefault(queue, []).append(name)
    for declared in app.conf.task_queues or ():
        queues.setdefault(getattr(declared, "name", str(declared)), [])
    limits = [limit for limit in (app.conf.task_time_limit, *(getattr(task, "time_limit", None) for task in own.values())) if limit]
    options = app.conf.broker_transport_options or {}
    return {
        "tasks": sorted(app.tasks), "queues_sent_to": queues, "time_limit": max(map(float, limits), default=None),
        "visibility_timeout": float(options.get("visibility_timeout", VISIBILITY_TIMEOUT)),
    }


def main(argv: list[str]) -> None:
    """Import the app as its worker does."""
    parser = argparse.ArgumentParser(prog="workfleet_celery_tasks.py", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("app", help="the value of celery's -A")
    parser.add_argument("--include", default="", help="modules that the worker imports too, with commas between them")
    parser.add_argument("settings", nargs="*", help="what the worker is given behind --")
    given = parser.parse_args(argv)
    app = find_app(given.app)
    if given.settings:
        app.config_from_cmdline(given.settings, namespace="worker")
    app.loader.import_default_modules()
    for module in filter(None, given.include.split(",")):
        importlib.import_module(module)
    app.finalize()
    print("workfleet-tasks:", json.dumps(told(app)))  # noqa: T201 - the answer


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as `python -m celery` has it
    main(sys.argv[1:])
