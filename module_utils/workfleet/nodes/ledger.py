"""What becomes of the tasks of a node that takes no new ones: watched by its run record, told as a line of the ledger."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass
class Watched:
    """A node that drains, as far as it is known. ``tasks`` are those that it held when it was last looked at, and ``more`` how many
    it held besides, which are too many to be named.

    ``before`` (running at first), ``held`` (all that it had at first) and what follows are None until it has told. ``cut`` are
    tasks that had begun on a process that has died, as the ledger has them; ``is_killed``: by us. ``is_stopping``: it has the
    stop signal, and tells of its tasks no more; ``is_untold``: such a one has ended, and what became of its last tasks nobody tells.
    """

    since: float
    pid: int | None = None
    tasks: list[dict[str, Any]] = field(default_factory=list)
    more: int = 0
    before: int | None = None
    held: int | None = None
    returned: int = 0
    lost: int = 0
    again: int = 0
    idle: float | None = None
    is_silent: bool = False
    has_died: bool = False
    is_stopping: bool = False
    is_untold: bool = False
    is_killed: bool = False
    cut: list[dict[str, Any]] = field(default_factory=list)
    state: str = "asked"

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.state in ("idle", "down")

    def begun(self) -> list[dict[str, Any]]:
        """Return what runs, with each task's age in seconds and whether a death of the process loses it."""
        now = time.time()
        return [{"id": task["id"], "task": task["task"], "seconds": round(now - task["since"], 1), "lost": bool(task["acked"])}
                for task in self.tasks if task["since"] is not None]

    def ended(self) -> None:
        """Account for what the process held when it was last seen. Where it was told to stop, it has ended that, or been killed for it."""
        if self.is_stopping and not self.is_killed:
            self.tasks, self.more, self.held, self.pid, self.is_untold = [], 0, None, None, True
        else:
            self.die()

    def die(self) -> None:
        """Account for what the process held as for that of one that was not asked to end: the broker keeps what is not acknowledged."""
        self.cut += self.begun()
        for task in self.tasks:
            begun = task["since"] is not None
            self.lost += task["acked"]
            self.returned += not task["acked"]
            self.again += begun and not task["acked"]
        # What has become of those that it did not name nobody knows.
        self.held = None if self.held is None or self.more else self.held - len(self.tasks)
        self.tasks, self.more, self.has_died, self.pid = [], 0, True, None

    def told(self, tasks: Sequence[Mapping[str, Any]], holds: Mapping[str, Any]) -> None:
        """Take what it tells. What a process says that took the place of a dead one is no news."""
        self.tasks, self.more = [dict(task) for task in tasks], holds.get("more", 0)
        if not (self.has_died or self.is_untold):
            if self.held is None:
                self.before = holds.get("before", sum(task["since"] is not None for task in tasks))
                self.held = holds.get("held", len(tasks))
            self.returned = holds.get("returned", 0)
        self.state = "draining"

    def line(self, node: str) -> dict[str, Any]:
        """Return the node's line. A figure that cannot be told, or not yet, is None; ``cut_short`` is there where something was."""
        hidden = self.is_silent or self.held is None
        # What a process held that ended without a word nobody knows.
        unknown = self.held is None and (self.has_died or self.is_untold or self.state == "gone")
        finished = None if hidden or self.held is None else max(0, self.held - len(self.tasks) - self.more)
        end = self.idle or time.time()
        return {"node": node, "running_before": None if hidden else self.before, "finished": finished,
                "returned": None if unknown else self.returned, "lost": None if unknown else self.lost,
                "duplicates": None if unknown else self.again, "seconds": round(max(0.0, end - self.since), 2),
                "state": ("killed" if self.is_killed else "died") if self.has_died else self.state,
                **({"cut_short": self.cut} if self.cut else {})}


def said(cut: Sequence[Mapping[str, Any]]) -> str:
    """Name tasks that were cut short, for people."""
    return ", ".join(f"{task['task'] or 'a task'} ({task['id']}) after {task['seconds']:.0f} s, which "
                     + ("is lost" if task["lost"] else "is run again") for task in cut)


def ending(line: Mapping[str, Any]) -> str:
    """Say of a node's line how it ended, and in the middle of what."""
    how = "was killed" if line["state"] == "killed" else "died"
    return f"{line['node']} {how} while it ran {said(line.get('cut_short', []))}"


def short(lines: Sequence[Mapping[str, Any]]) -> str:
    """Sum the lines of a ledger up in one, for people: those of nodes that have gone, and how many have not."""
    gone = [line for line in lines if line["state"] != "draining"]
    told = [line for line in gone if line["lost"] is not None]
    parts = [f"{len(lines) - len(gone)} still draining", f"{len(gone) - len(told)} gone that cannot tell",
             f"{len(told)} gone, of their tasks " + ", ".join(
                 f"{sum(line[name] or 0 for line in told)} {word}" for word, name in
                 (("ran", "running_before"), ("finished", "finished"), ("returned", "returned"), ("lost", "lost")))]
    return "old nodes: " + "; ".join(part for part in parts if not part.startswith("0 "))
