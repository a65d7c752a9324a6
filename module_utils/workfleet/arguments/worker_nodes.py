"""The arguments of the module ``worker_nodes``."""

from __future__ import annotations

from typing import Any

from ..payload import PAYLOAD
from .pieces import APP, NODES, ONLY, PARTS, RUN_DIRECTORY

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    **ONLY,
    **PARTS,
    **RUN_DIRECTORY,
    **NODES,
    "templates": {"type": "str", "default": ""},
    "release": {"type": "str", "default": ""},
    "state": {"type": "str", "choices": ["", "started", "stopped", "absent"], "default": ""},
    "task": {"type": "str", "default": "", "choices": [
        "", "adjust", "restart", "begin", "converge", "replace", "rollout", "canary", "rest", "singles", "undo_singles", "undo", "end",
        "pause"]},
    "restart": {"type": "bool", "default": False},
    "rollout_now": {"type": "bool", "default": True},
    "converged": {"type": "bool", "default": False},
    "scale": {"type": "dict", "default": {}},
    "nodes": {"type": "str", "default": ""},
    "canary": {"type": "str", "choices": ["", "only", "done"], "default": ""},
    "singles": {"type": "str", "choices": ["", "later", "only"], "default": ""},
    "undoable": {"type": "bool", "default": False},
    "undo": {"type": "bool", "default": False},
    "phase": {"type": "str", "choices": ["", "begin", "end", "pause"], "default": ""},
    "pip_environment": {"type": "dict", "default": {}},
    "kill": {"type": "bool", "default": False},
    "after_stop": {"type": "bool", "default": False},
    "lock_seconds": {"type": "int", "default": 30},
    **PAYLOAD,
}
