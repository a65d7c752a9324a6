"""The arguments of the module ``app_removal``."""

from __future__ import annotations

from typing import Any

from .pieces import DECLARED_HOSTS, PAYLOAD, RUN_DIRECTORY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **RUN_DIRECTORY,
    **DECLARED_HOSTS,
    "name": {"type": "str", "required": True},
    "user": {"type": "str"},
    "group": {"type": "str"},
    "root": {"type": "path"},
    "step": {"type": "str", "choices": ["look", "confirm", "remove"], "default": "remove"},
    "register": {"type": "str", "default": ""},
    "redis": {"type": "bool", "default": False},
    "confirm": {"type": "str", "default": ""},
    **PAYLOAD,
}
