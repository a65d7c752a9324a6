"""The arguments of the module ``task_events``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, DECLARED_HOSTS, ONLY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **DECLARED_HOSTS,
    "queue": {"type": "str", "default": ""},
    "task_name": {"type": "str", "default": ""},
    "level": {"type": "str", "default": "info"},
    "sample_seconds": {"type": "float", "default": 10},
    "follow": {"type": "bool", "default": False},
    **PAYLOAD,
}
