"""The arguments of the module ``queue_info``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, DECLARED_HOSTS, ONLY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **DECLARED_HOSTS,
    "queue": {"type": "str", "default": ""},
    "sample_seconds": {"type": "float", "default": 0},
    "json": {"type": "str", "default": ""},
    "show": {"type": "bool", "default": True},
    **PAYLOAD,
}
