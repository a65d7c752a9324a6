"""The arguments of the module ``validate``."""

from __future__ import annotations

from typing import Any

ARGUMENTS: dict[str, dict[str, Any]] = {
    "present": {"type": "bool", "default": False},
}
