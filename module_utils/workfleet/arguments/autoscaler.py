"""The arguments of the module ``autoscaler``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD

ARGUMENTS: dict[str, dict[str, Any]] = {
    "app": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "user": {"type": "str", "required": True},
    "root": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
    "interval_seconds": {"type": "int", "default": 30},
    "dry_run": {"type": "bool", "default": False},
    "inventory": {"type": "list", "elements": "path", "required": True},
    "secret_key": {"type": "str", "default": "", "no_log": True},
    "known_hosts": {"type": "str", "default": ""},
    "vault_password": {"type": "str", "default": "", "no_log": True},
    **PAYLOAD,
}
