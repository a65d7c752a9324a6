"""The arguments of the module ``postgresql_server``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD

ARGUMENTS: dict[str, dict[str, Any]] = {
    "app": {"type": "str", "required": True},
    "databases": {"type": "list", "elements": "dict", "default": []},
    "users": {"type": "list", "elements": "dict", "default": []},
    "listen": {"type": "list", "elements": "str", "default": ["127.0.0.1"]},
    "settings": {"type": "dict", "default": {}},
    **PAYLOAD,
}
