"""The arguments that several modules take, as their documentation fragments describe them.

A module and the action plugin of its name take the same table, ``arguments.<module>.ARGUMENTS``: the action validates the task with
it, ``validate-modules`` compares it with the documentation.
"""

from __future__ import annotations

from typing import Any

APP: dict[str, dict[str, Any]] = {
    "app": {"type": "dict", "required": True},
    "groups": {"type": "list", "elements": "dict", "default": []},
    "manager": {"type": "str", "choices": ["systemd", "supervisor"], "default": "systemd"},
}
ONLY: dict[str, dict[str, Any]] = {"only": {"type": "str", "default": ""}}
PARTS: dict[str, dict[str, Any]] = {"parts": {"type": "list", "elements": "str", "default": []}}
RUN_DIRECTORY: dict[str, dict[str, Any]] = {"run_directory": {"type": "str", "default": ""}}
NODES: dict[str, dict[str, Any]] = {name: {"type": "dict", "default": {}} for name in ("scheduler", "dashboard", "rollout", "log")}

#: The results of an earlier task, read on the control node.
RESULTS: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "register": {"type": "str", "required": True},
}
#: Hosts that are read for their declaration.
DECLARED_HOSTS: dict[str, dict[str, Any]] = {"hosts": {"type": "list", "elements": "str", "default": []}}

DUMP: dict[str, dict[str, Any]] = {"force": {"type": "bool", "default": False}}
DUMP_DIRECTORY: dict[str, dict[str, Any]] = {"dump_dir": {"type": "str", "default": "dumps"}}
