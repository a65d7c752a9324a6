"""The arguments of the module ``worker_reap``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, DUMP, ONLY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **DUMP,
    "hosts": {"type": "list", "elements": "str", "required": True},
    "register": {"type": "str"},
    "seen": {"type": "str"},
    "sample_seconds": {"type": "float", "default": 10},
    **PAYLOAD,
}
