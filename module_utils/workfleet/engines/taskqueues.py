"""The engines' second faces, by name. What is about nodes alone imports none of it, so that it ships none of it to hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import Registry
from . import named as engine
from .taskqueue import TaskQueue

if TYPE_CHECKING:  # sent to hosts, and imported there only by its name
    from .arq import taskqueue as arq  # noqa: F401 - see above; so are the others
    from .celery import taskqueue as celery  # noqa: F401
    from .chicory import taskqueue as chicory  # noqa: F401
    from .rq import taskqueue as rq  # noqa: F401

QUEUES = Registry[type[TaskQueue]](__package__, {
    "arq": "arq.taskqueue:ArqQueue",
    "celery": "celery.taskqueue:CeleryQueue",
    "chicory": "chicory.taskqueue:ChicoryQueue",
    "rq": "rq.taskqueue:RqQueue",
})


def named(name: str) -> TaskQueue:
    """Return what the queues of an engine are; of one that says nothing of them, what every engine can say."""
    return QUEUES.get(name, TaskQueue)(engine(name))
