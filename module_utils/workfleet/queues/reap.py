"""What dead workers left behind is noted, and given back once it is known who is alive; the engines know how."""

from __future__ import annotations

from typing import Any

from .. import payload
from ..engines import taskqueues
from ..engines.verbs.reaping import Found, Reaping

__all__ = ["Reaping", "note", "reap"]


def note(engine: str, order: Reaping) -> dict[str, Any]:
    """Return what workers hold as ``seen``, one opaque text.

    For before the hosts are looked at: what is taken later may be held by a node that starts later.
    """
    return {"changed": False, "seen": payload.pack(taskqueues.named(engine).note(order))}


def reap(engine: str, order: Reaping, *, check: bool) -> dict[str, Any]:
    """Return ``changed`` and what was done, as :class:`Found` has it.

    Raises where it cannot be told who is alive; nothing was moved then.
    """
    found = Found()
    taskqueues.named(engine).reap(order, found, check=check)
    return found.told()
