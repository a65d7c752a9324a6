"""The arguments of the module ``app_fleet``."""

from __future__ import annotations

from typing import Any

from .pieces import RESULTS

ARGUMENTS: dict[str, dict[str, Any]] = {
    **RESULTS,
    "others": {"type": "list", "elements": "str", "default": []},
    "told": {"type": "list", "elements": "dict", "default": []},
    "source": {"type": "dict", "default": {}},
    "requirements": {"type": "list", "elements": "str", "default": []},
    "shared_paths": {"type": "list", "elements": "str", "default": []},
    "step_seconds": {"type": "float", "default": 3600},
    "release_commands": {"type": "list", "elements": "list", "default": []},
    "release": {"type": "str", "default": ""},
    "back": {"type": "bool", "default": False},
    "joins": {"type": "bool", "default": False},
    "word": {"type": "str", "choices": ["", "run", "skip"], "default": ""},
}
