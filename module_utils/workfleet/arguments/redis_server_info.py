"""The arguments of the module ``redis_server_info``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD

ARGUMENTS: dict[str, dict[str, Any]] = {
    "url": {"type": "str", "default": "redis://127.0.0.1:6379/0"},
    "timeout": {"type": "float", "default": 5.0},
    **PAYLOAD,
}
