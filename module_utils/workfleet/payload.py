"""How values, secrets among them, travel from an action plugin to its module: as one opaque text (``no_log``).

As a dictionary with ``no_log`` every short value in it (``1``, a port) would be blotted out all over the module's
result, and without ``no_log`` Ansible writes the arguments to the managed host's journal.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict
from typing import Any

from .errors import WorkfleetError

#: The argument of a module that is handed its values so; see :mod:`arguments.pieces`.
PAYLOAD: dict[str, dict[str, Any]] = {"payload": {"type": "str", "no_log": True}}


def pack(values: Any) -> str:
    """Return JSON-ready values as one text: a mapping or a dataclass, with dataclasses in it where a module reads one."""
    return base64.b64encode(json.dumps(values, default=asdict).encode()).decode()


def unpack(text: str | None, module: str) -> dict[str, Any]:
    """Return what :func:`pack` was given. ``module`` is the short name of the module, for the message of a refusal."""
    if not text:
        raise WorkfleetError(
            f"the module {module} was called without its action plugin, which checks the arguments and packs them: "
            f"call it as workfleet.core.{module}, from a task"
        )
    try:
        values: dict[str, Any] = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise WorkfleetError(
            f"the payload of {module} is damaged; it is made by the action plugin, never by hand"
        ) from error
    return values
