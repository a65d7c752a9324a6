"""The arguments of the module ``queue_restore``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, DECLARED_HOSTS, DUMP, ONLY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **DECLARED_HOSTS,
    **DUMP,
    "dump": {"type": "str", "default": ""},
    **PAYLOAD,
}
