"""The engines, by name. A new engine is a folder and two lines here: one by which it is sent to hosts, one by which it is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import Registry
from .base import Engine
from .verbs.report import Held

if TYPE_CHECKING:  # sent to hosts, and imported there only by its name
    from . import process  # noqa: F401 - see above; so are the others
    from .arq import engine as arq  # noqa: F401
    from .celery import beat, flower  # noqa: F401
    from .celery import engine as celery  # noqa: F401
    from .chicory import engine as chicory  # noqa: F401
    from .rq import engine as rq  # noqa: F401

__all__ = ["ALL", "DASHBOARD", "DEFAULT", "ENGINES", "SCHEDULER", "SINGLES", "Engine", "Held", "named"]

_WORKERS = {
    "celery": "celery.engine:ENGINE",
    "arq": "arq.engine:ENGINE",
    "chicory": "chicory.engine:ENGINE",
    "rq": "rq.engine:ENGINE",
    "process": "process:ENGINE",
}
#: The engine of a group that names none.
DEFAULT = "celery"
#: Engines of the scheduler and the dashboard, which no worker group can have.
SCHEDULER, DASHBOARD = "beat", "flower"
_SINGLES = {SCHEDULER: "celery.beat:ENGINE", DASHBOARD: "celery.flower:ENGINE"}

ENGINES = Registry[Engine](__name__, _WORKERS)
SINGLES = Registry[Engine](__name__, _SINGLES)
ALL = Registry[Engine](__name__, {**_WORKERS, **_SINGLES})


def named(name: str) -> Engine:
    """Return the engine of that name; ``spec`` has made sure that there is one."""
    return ALL[name]
