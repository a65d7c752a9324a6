"""The arguments of the module ``app_release``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "user": {"type": "str"},
    "group": {"type": "str"},
    "root": {"type": "str"},
    "source": {"type": "dict"},
    "python": {"type": "str", "default": "python3"},
    "requirements": {"type": "list", "elements": "str", "default": []},
    "shared_paths": {"type": "list", "elements": "str", "default": []},
    "env": {"type": "dict", "default": {}},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "release_commands": {"type": "list", "elements": "list", "default": []},
    "run_commands": {"type": "bool", "default": True},
    "commands_done": {"type": "list", "elements": "str", "default": []},
    "releases_kept": {"type": "int", "default": 5},
    "pip_environment": {"type": "dict", "default": {}},
    "step_seconds": {"type": "float", "default": 3600},
    "broker_url": {"type": "str"},
    "result_url": {"type": "str"},
    "broker_env": {"type": "list", "elements": "str"},
    "broker_options": {"type": "dict"},
    "result_env": {"type": "list", "elements": "str"},
    "release": {"type": "str", "default": ""},
    "until": {"type": "str", "choices": ["built", "ready", "current"], "default": "current"},
    "hold": {"type": "str", "choices": ["obey", "drop", "stay", "back", "failed", "free"], "default": "obey"},
    "why": {"type": "str", "default": ""},
    "foretold": {"type": "str", "choices": ["", "built", "ready", "current"], "default": ""},
    "lock_seconds": {"type": "int", "default": 30},
    "leave_busy": {"type": "bool", "default": False},
    "others": {"type": "bool", "default": False},
    "holds": {"type": "list", "elements": "dict", "default": []},
    "archive": {"type": "path"},
    **PAYLOAD,
}
