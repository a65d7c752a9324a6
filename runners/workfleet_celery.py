"""Loaded into a Celery worker by ``-I workfleet_celery``: says when it consumes, and when it stops.

Celery (5.2 or newer) has no word to systemd of its own.
"""

from __future__ import annotations

import workfleet_tell
from celery.signals import worker_ready, worker_shutting_down


@worker_ready.connect
def ready(sender: object = None, **_: object) -> None:
    """The consumer has declared its queues and begins to take tasks; after a HUP, in the same process, again."""
    try:
        queues = ", ".join(sender.app.amqp.queues.consume_from)  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        queues = "its queues"
    workfleet_tell.ready(queues)


@worker_shutting_down.connect
def stopping(**_: object) -> None:
    """A signal came: no more tasks are taken, those that run are waited for."""
    workfleet_tell.stopping()
