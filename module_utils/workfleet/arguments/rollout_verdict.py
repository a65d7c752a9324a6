"""The arguments of the module ``rollout_verdict``."""

from __future__ import annotations

from typing import Any

ARGUMENTS: dict[str, dict[str, Any]] = {
    "playbook": {"type": "str", "choices": ["site", "deploy", "rollback"], "required": True},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "task": {"type": "str", "default": ""},
    "release": {"type": "str", "default": ""},
    "gone": {"type": "list", "elements": "str", "default": []},
}
