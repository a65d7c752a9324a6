"""The arguments of the module ``worker_info``."""

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
    "timeout": {"type": "float", "default": 2.0},
    **PAYLOAD,
}
