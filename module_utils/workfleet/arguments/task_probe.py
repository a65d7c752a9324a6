"""The arguments of the module ``task_probe``."""

from __future__ import annotations

from typing import Any

from ..engines import DEFAULT
from ..payload import PAYLOAD
from .pieces import ONLY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **ONLY,
    "broker_url": {"type": "str"},
    "result_url": {"type": "str", "default": ""},
    "engine": {"type": "str", "default": DEFAULT},
    "queues": {"type": "list", "elements": "str"},
    "timeout": {"type": "float", "default": 30},
    "broker_options": {"type": "dict", "default": {}},
    "task": {"type": "str", "default": ""},
    "args": {"type": "list", "elements": "raw"},
    "kwargs": {"type": "dict", "default": {}},
    "must_return": {"type": "bool", "default": True},
    "must_begin": {"type": "bool", "default": True},
    "app": {"type": "dict"},
    "groups": {"type": "list", "elements": "dict"},
    "manager": {"type": "str", "choices": ["systemd", "supervisor"], "default": "systemd"},
    **PAYLOAD,
}
