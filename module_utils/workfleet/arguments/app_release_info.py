"""The arguments of the module ``app_release_info``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "root": {"type": "str", "required": True},
    **PAYLOAD,
}
