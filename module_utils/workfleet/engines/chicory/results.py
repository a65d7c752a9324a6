"""Chicory's results: they tell neither app nor queue."""

from __future__ import annotations

from ..verbs.results import ResultsStash
from .wire import RESULT, STATE


class ChicoryResults(ResultsStash):
    """All results of a database."""

    @property
    def beginnings(self) -> tuple[str, ...]:
        """What a task returned, and where it stands."""
        return RESULT, STATE
