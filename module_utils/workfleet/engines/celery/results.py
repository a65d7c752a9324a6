"""Celery's results: they tell neither app nor queue."""

from __future__ import annotations

from ..verbs.results import ResultsStash
from .wire import Wire

_TASK = "celery-task-meta-"


class CeleryResults(ResultsStash):
    """All results of a database."""

    @property
    def beginnings(self) -> tuple[str, ...]:
        """Results of tasks and of groups, under the result store's prefix."""
        ours = Wire.parse(self.options).result("")[:-len(_TASK)]
        return f"{ours}{_TASK}", f"{ours}celery-taskset-meta-"
