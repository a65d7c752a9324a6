"""The arguments of the module ``app_removal``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "user": {"type": "str"},
    "group": {"type": "str"},
    "root": {"type": "path"},
    "run_directory": {"type": "str", "default": ""},
    "step": {"type": "str", "choices": ["look", "confirm", "remove"], "default": "remove"},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "register": {"type": "str", "default": ""},
    "redis": {"type": "bool", "default": False},
    "confirm": {"type": "str", "default": ""},
    **PAYLOAD,
}
