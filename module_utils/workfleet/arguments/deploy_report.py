"""The arguments of the module ``deploy_report``."""

from __future__ import annotations

from typing import Any

ARGUMENTS: dict[str, dict[str, Any]] = {
    "app": {"type": "str", "required": True},
    "release": {"type": "str", "required": True},
    "previous": {"type": "list", "elements": "str", "default": []},
    "done": {"type": "list", "elements": "dict", "default": []},
    "began": {"type": "float", "required": True},
}
