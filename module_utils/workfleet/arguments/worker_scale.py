"""The arguments of the module ``worker_scale``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, ONLY, PARTS

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **PARTS,
    "placement": {"type": "dict", "required": True},
    "set": {"type": "bool", "default": False},
    "group": {"type": "str", "default": ""},
    "nodes": {"type": "str", "default": ""},
    "control": {"type": "str", "choices": ["", "pause", "resume"], "default": ""},
    **PAYLOAD,
}
