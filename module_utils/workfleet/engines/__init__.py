"""The engines, by name. A new engine is one file and one line here (what is shipped to hosts follows the imports)."""

from __future__ import annotations

from . import arq, celery, chicory, process
from .base import Engine

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (celery.ENGINE, arq.ENGINE, chicory.ENGINE, process.ENGINE)}


def named(name: str) -> Engine:
    """Return the engine of that name; ``spec`` has made sure that there is one."""
    return ENGINES[name]
