"""What nodes tell of themselves over the broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...model import Name

#: So many tasks count for a node that does not say how many it runs: nobody is taken to be busier.
UNTOLD = 1 << 30


@dataclass(frozen=True)
class Report:
    """What one node tells about itself over the broker. A figure that it cannot tell is ``None``, never 0.

    ``doubt`` says why an answer may be another's.
    """

    pid: int | None = None
    concurrency: int | None = None
    running: int | None = None
    reserved: int | None = None
    processed: int | None = None
    failed: int | None = None
    queues: Sequence[str] | None = None
    doubt: str | None = None
    #: The running tasks by queue, for an engine whose nodes consume several.
    busy: Mapping[str, int] | None = None
    #: The name under which it answered, where that is not its node's.
    name: str | None = None


@dataclass(frozen=True)
class Held:
    """What the engine says that a node holds: tasks as ``runners/workfleet_tell.py`` has them, and the queues it consumes."""

    tasks: Sequence[Mapping[str, Any]]
    queues: Sequence[str] = ()


def tasks(names: Mapping[str, Name], told: Mapping[str, Report]) -> dict[Name, int]:
    """Return how many tasks nodes run, by their names on the broker. A silent one is no idle one: a busy solo node does not answer."""
    found = {}
    for node, name in names.items():
        running = told[node].running if node in told else None
        found[name] = UNTOLD if running is None else running
    return found
