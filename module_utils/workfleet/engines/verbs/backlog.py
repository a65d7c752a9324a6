"""What waits in queues, by the names of the tasks; read in bounded amounts and never unpickled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Messages read of one list, set or stream; what lies behind them is said to be there, and not looked at.
MOST = 2000
#: Read in one go: messages can be large, and replies are held whole.
PAGE = 200


@dataclass
class Backlog:
    """One queue: how many tasks of each name wait, how many could not be read, and whether there are more than were read."""

    names: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    is_cut: bool = False

    def add(self, name: str | None) -> None:
        """Count one message."""
        if name is None:
            self.unreadable += 1
        else:
            self.names[name] += 1

    def take(self, names: Iterable[str | None]) -> None:
        """Count messages."""
        for name in names:
            self.add(name)
