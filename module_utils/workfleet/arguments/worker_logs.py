"""The arguments of the module ``worker_logs``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, NODES, ONLY, PARTS, RUN_DIRECTORY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **PARTS,
    **RUN_DIRECTORY,
    **NODES,
    "lines": {"type": "int", "default": 100},
    "level": {"type": "str", "default": ""},
    "since": {"type": "str", "default": ""},
    "follow": {"type": "bool", "default": False},
    **PAYLOAD,
}
