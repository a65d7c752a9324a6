"""What nodes tell of their tasks as they go, whatever their engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...decode import Unread

#: How grave an event is, as a level of logs; what is not here is told by ``info``.
LEVELS = {"heartbeat": "debug", "retried": "warning", "revoked": "warning", "rejected": "warning", "offline": "warning", "failed": "error"}
ORDER = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Event:
    """One event. ``at``: Unix time by the clock of who tells; ``seconds``: how long the task ran; ``processed``: a heartbeat's count."""

    at: float
    event: str
    is_of_task: bool
    node: str
    task: str | None = None
    id: str | None = None
    seconds: float | None = None
    text: str = ""
    queue: str | None = None
    processed: int | None = None

    @property
    def level(self) -> str:
        """How grave it is."""
        return LEVELS.get(self.event, "info")

    def entry(self) -> dict[str, Any]:
        """It as JSON-ready values."""
        return {**asdict(self), "level": self.level}


class Listener:
    """A subscription to the events of all nodes on a broker. ``unread`` is what came and was no event."""

    unread: Unread

    def open(self) -> None:
        """Subscribe, again where it was before; what is published from now on will be heard."""
        raise NotImplementedError

    def close(self) -> None:
        """Hear no more; twice is fine."""
        raise NotImplementedError

    def read(self, seconds: float) -> list[Event]:
        """Return the events that have come; waits for the first so long. Raises where the connection is lost."""
        raise NotImplementedError

    def know(self, names: Mapping[str, str]) -> None:
        """Learn the names of tasks by their ids."""
        raise NotImplementedError


class Switch:
    """Has nodes that tell nothing of their tasks do so, for as long as somebody listens."""

    def look(self) -> tuple[dict[str, str], list[str]]:
        """Return the names of the tasks that nodes hold, by id, and which nodes of the wanted groups there are."""
        raise NotImplementedError

    def on(self, nodes: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return which nodes began to send, and which did not answer; those may hear it later."""
        raise NotImplementedError

    def off(self) -> None:
        """Leave nodes as they were."""
        raise NotImplementedError


@dataclass(frozen=True)
class Wish:
    """Which events are wanted. ``beginnings``: of nodes' names, none means all; ``queue`` narrows what was sent."""

    level: str = "info"
    task: str = ""
    beginnings: tuple[str, ...] = ()
    queue: str = ""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Wish:
        """Read a payload."""
        return cls(**{**given, "beginnings": tuple(given.get("beginnings", ()))})

    def fits(self, event: Event) -> bool:
        """Whether an event is wanted. Who sends a task is no node: only its queue tells where it belongs."""
        if ORDER.index(event.level) < ORDER.index(self.level):
            return False
        if self.task and event.task != self.task:
            return False
        if event.event == "sent" and (self.queue or self.beginnings):
            return bool(self.queue) and event.queue == self.queue
        return not self.beginnings or event.node.startswith(self.beginnings)
