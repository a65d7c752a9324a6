"""The arguments of the module ``logs``."""

from __future__ import annotations

from typing import Any

from .pieces import RESULTS

ARGUMENTS: dict[str, dict[str, Any]] = {
    **RESULTS,
    "dump_dir": {"type": "str", "default": ""},
}
