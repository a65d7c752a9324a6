"""The arguments of the module ``status``."""

from __future__ import annotations

from typing import Any

from .pieces import RESULTS

ARGUMENTS: dict[str, dict[str, Any]] = {
    **RESULTS,
    "app": {"type": "str", "required": True},
    "json": {"type": "str", "default": ""},
    "strict": {"type": "bool", "default": False},
}
