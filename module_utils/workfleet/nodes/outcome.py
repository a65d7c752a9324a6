"""What a call about nodes did and found: the module's result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..host.steps import report

if TYPE_CHECKING:
    from ..host.steps import Step
    from ..managers.base import Present


@dataclass
class Outcome:
    """What a call did and found. ``changed`` and ``diff`` of the result come from the same steps."""

    steps: list[Step] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    going: dict[str, float] = field(default_factory=dict)
    more: bool = False
    doing: str = ""
    stale: int = 0
    remembered: bool = False
    restart_since: float | None = None
    cleans: list[str] | None = None
    checked: bool = False
    present: list[Present] = field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """Return the result of the module."""
        return {
            "changed": bool(self.steps), "steps": report(self.steps, None), "diff": self.diff, "more": self.more,
            "waiting": self.waiting, "going": self.going, "doing": self.doing, "notes": self.notes, "warned": self.warned,
            "stale": self.stale, "remembered": self.remembered, "restart_since": self.restart_since, "checked": self.checked,
            "cleans": self.cleans, "nodes": [node_result(node) for node in self.present],
        }


def node_result(node: Present) -> dict[str, Any]:
    """Return what a reconcile tells of a node; ``worker_info`` tells more."""
    return {"unit": str(node.name), "group": node.name.group, "slot": node.name.slot, "incarnation": node.name.incarnation,
            "activity": node.activity, "pid": node.pid, "generation": node.generation}
