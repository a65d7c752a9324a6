"""The arguments of the module ``dead_letter``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, DECLARED_HOSTS, DUMP, DUMP_DIRECTORY, ONLY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **DECLARED_HOSTS,
    **DUMP,
    **DUMP_DIRECTORY,
    "queue": {"type": "str", "required": True},
    "letters": {"type": "str", "default": "list"},
    "task_name": {"type": "str", "default": ""},
    "confirm": {"type": "str", "default": ""},
    **PAYLOAD,
}
