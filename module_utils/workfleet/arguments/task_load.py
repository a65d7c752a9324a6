"""The arguments of the module ``task_load``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, DECLARED_HOSTS, ONLY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **DECLARED_HOSTS,
    "group": {"type": "str", "default": ""},
    "queue": {"type": "str", "default": ""},
    "task_name": {"type": "str", "default": ""},
    "args": {"type": "list", "elements": "raw"},
    "kwargs": {"type": "dict", "default": {}},
    "count": {"type": "int", "default": 100},
    "rate": {"type": "float", "default": 0},
    "sample_seconds": {"type": "float", "default": 60},
    **PAYLOAD,
}
