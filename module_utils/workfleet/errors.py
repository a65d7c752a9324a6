"""The one error type that becomes ``fail_json``."""

from __future__ import annotations

from typing import Any

from . import shown


class WorkfleetError(Exception):
    """A failure told to a person: what went wrong, where, why, and what to do.

    ``details`` are JSON-ready values that travel beside the message in the module's result.
    They never hold a secret. What a message quotes may be anybody's.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(shown.text(message))
        self.details = details
