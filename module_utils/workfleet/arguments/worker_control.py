"""The arguments of the module ``worker_control``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, RUN_DIRECTORY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **RUN_DIRECTORY,
    "group": {"type": "str", "required": True},
    "control": {"type": "str", "required": True},
    "arguments": {"type": "dict", "default": {}},
    "timeout": {"type": "float", "default": 5.0},
    "placement": {"type": "dict", "default": {}},
    **PAYLOAD,
}
