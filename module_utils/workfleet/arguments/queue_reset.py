"""The arguments of the module ``queue_reset``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, DUMP, DUMP_DIRECTORY, ONLY, RESULTS

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **RESULTS,
    **DUMP,
    **DUMP_DIRECTORY,
    "step": {"type": "str", "choices": ["look", "delete"], "default": "look"},
    "confirm": {"type": "str", "default": ""},
    "include_results": {"type": "bool", "default": False},
    **PAYLOAD,
}
