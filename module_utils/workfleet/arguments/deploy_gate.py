"""The arguments of the module ``deploy_gate``."""

from __future__ import annotations

from typing import Any

from .pieces import RESULTS

ARGUMENTS: dict[str, dict[str, Any]] = {
    **RESULTS,
    "built": {"type": "bool", "required": True},
    "database_connections": {"type": "int"},
    "allow_unregistered": {"type": "bool", "default": False},
}
