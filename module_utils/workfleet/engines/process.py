"""Engine ``process``: any long-running command that is no queue worker. Ready means up and stable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Engine

if TYPE_CHECKING:
    from ..model import Group


class Process(Engine):
    """A command of the user's; nothing can be asked of it."""

    name = "process"

    def has_children(self, group: Group) -> bool:
        """A command may have children; killing all of them for one is the kernel's worst answer."""
        return True

    def problems(self, group: Group) -> list[str]:
        """Refuse what only queue workers have."""
        found = []
        if not group.command:
            found.append("command: is required for engine process: a list, the program and its arguments")
        for key in ("app", "queues", "concurrency", "options", "settings"):
            if getattr(group, key):
                found.append(f"{key}: means nothing to engine process; put it into command or env")
        return found


ENGINE = Process()
