"""The engines, by name. A new engine is a folder and a line here (what is shipped to hosts follows the imports)."""

from __future__ import annotations

from . import process
from .arq import engine as arq
from .base import Engine
from .celery import beat, flower
from .celery import engine as celery
from .chicory import engine as chicory
from .rq import engine as rq
from .verbs.report import Held

__all__ = ["ALL", "DASHBOARD", "DEFAULT", "ENGINES", "SCHEDULER", "SINGLES", "Engine", "Held", "named"]
ENGINES: dict[str, Engine] = {engine.name: engine for engine in (celery.ENGINE, arq.ENGINE, chicory.ENGINE, rq.ENGINE, process.ENGINE)}

#: The engine of a group that names none.
DEFAULT = celery.ENGINE.name
#: Engines of the scheduler and the dashboard, which no worker group can have.
SCHEDULER, DASHBOARD = beat.ENGINE, flower.ENGINE
SINGLES: dict[str, Engine] = {engine.name: engine for engine in (SCHEDULER, DASHBOARD)}

ALL: dict[str, Engine] = {**ENGINES, **SINGLES}


def named(name: str) -> Engine:
    """Return the engine of that name; ``spec`` has made sure that there is one."""
    return ALL[name]
