"""The arguments of the module ``queue_purge``."""

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
    "confirm": {"type": "str", "default": ""},
    "priority": {"type": "int"},
    "task_name": {"type": "str", "default": ""},
    "older_than": {"type": "float"},
    **PAYLOAD,
}
