"""The arguments of the module ``deploy_check``."""

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
    "release": {"type": "str", "default": ""},
    **PAYLOAD,
}
