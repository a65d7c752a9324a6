"""The engines' second faces, by name. What is about nodes alone imports none of it, so that it ships none of it to hosts."""

from __future__ import annotations

from . import named as engine
from .arq.taskqueue import ArqQueue
from .celery.taskqueue import CeleryQueue
from .chicory.taskqueue import ChicoryQueue
from .rq.taskqueue import RqQueue
from .taskqueue import TaskQueue

QUEUES: dict[str, type[TaskQueue]] = {"arq": ArqQueue, "celery": CeleryQueue, "chicory": ChicoryQueue, "rq": RqQueue}


def named(name: str) -> TaskQueue:
    """Return what the queues of an engine are; of one that says nothing of them, what every engine can say."""
    return QUEUES.get(name, TaskQueue)(engine(name))
