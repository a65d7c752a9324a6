"""The arguments of the module ``looked``."""

from __future__ import annotations

from typing import Any

from .pieces import ONLY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **ONLY,
    "groups": {"type": "list", "elements": "str", "required": True},
    "declared": {"type": "dict", "default": {}},
    "broker": {"type": "bool", "default": False},
}
