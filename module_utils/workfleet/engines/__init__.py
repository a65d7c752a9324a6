"""The engines, by name. A new engine is one file and one line here (what is shipped to hosts follows the imports)."""

from __future__ import annotations

from . import arq, beat, celery, chicory, flower, process
from .base import Engine
from .verbs.report import Held

__all__ = ["ALL", "ENGINES", "SINGLES", "Engine", "Held", "named"]
ENGINES: dict[str, Engine] = {engine.name: engine for engine in (celery.ENGINE, arq.ENGINE, chicory.ENGINE, process.ENGINE)}

#: Engines of the scheduler and the dashboard, which no worker group can have.
SINGLES: dict[str, Engine] = {engine.name: engine for engine in (beat.ENGINE, flower.ENGINE)}

ALL: dict[str, Engine] = {**ENGINES, **SINGLES}


def named(name: str) -> Engine:
    """Return the engine of that name; ``spec`` has made sure that there is one."""
    return ALL[name]
