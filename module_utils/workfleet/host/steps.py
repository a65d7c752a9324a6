"""What is done to a host, as values: the one source of ``changed``, ``diff`` and the steps file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

ACTIONS = ("write", "remove", "reload", "enable", "disable", "start", "stop", "drain", "restart", "live")


@dataclass(frozen=True)
class Step:
    """One change. ``unit`` names what is changed: a unit or program, or another thing such as ``user revrx``.

    ``group``, ``slot`` and ``incarnation`` are set for worker nodes only. ``reason`` is a clause for people.
    """

    action: str
    unit: str | None
    reason: str
    group: str | None = None
    slot: int | None = None
    incarnation: int | None = None

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"{self.action} is no action of a step")


def report(steps: Iterable[Step], host: str | None) -> list[dict[str, Any]]:
    """Return the steps in the form of the contract, ready for JSON, in the order of execution."""
    return [{"host": host, **asdict(step)} for step in steps]


def text_diff(path: str, before: str | None, after: str | None) -> dict[str, str]:
    """Return one entry of Ansible's ``diff`` list; ``None`` stands for a file that is not there."""
    return {"before_header": path, "after_header": path, "before": before or "", "after": after or ""}


def secret_diff(before: str | None, after: str) -> str:
    """Return what a diff may say of a secret value."""
    return "<secret unchanged>" if before == after else "<secret changed>"
