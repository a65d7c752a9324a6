"""The arguments of the module ``worker_drain``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, ONLY, PARTS, RUN_DIRECTORY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **PARTS,
    **RUN_DIRECTORY,
    "state": {"type": "str", "choices": ["drained", "resumed"], "default": "drained"},
    "wait": {"type": "bool", "default": True},
    "rollout": {"type": "dict", "default": {}},
    "lock_seconds": {"type": "int", "default": 30},
    **PAYLOAD,
}
