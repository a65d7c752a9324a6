"""arq's queues, as what runs on one host sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..taskqueue import TaskQueue
from ..verbs import figures
from ..verbs.reaping import app_of
from ..verbs.traces import Trace, there
from . import backlog, queues, reap
from .letters import ArqLetters
from .load import ArqTraffic
from .queues import HEALTH_CHECK_KEY
from .stash import ArqStash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...resp import Client
    from ..taskqueue import Source
    from ..verbs.backlog import Backlog
    from ..verbs.figures import Figures, Question
    from ..verbs.reaping import Found, Reaping
    from ..verbs.traffic import Order


class ArqQueue(TaskQueue):
    """Sorted sets of jobs; results name their queue."""

    stash = results = ArqStash
    letters = ArqLetters
    results_name_queues = True

    def figures(self, question: Question) -> list[Figures]:
        """Read everything about the queues that Redis and the nodes tell."""
        return queues.figures(question)

    def waiting_tasks(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, Backlog]:
        """Read the instructions of the pickles, and carry none of them out."""
        return backlog.read(url, queues)

    def traffic(self, order: Order) -> ArqTraffic:
        """Send as a client of the app does, without one; the canary is ``workfleet.probe``, which the runner registers."""
        return ArqTraffic(order)

    def note(self, order: Reaping) -> dict[str, Any]:
        """Read the marks of jobs in progress, and the heartbeats."""
        return reap.note(order)

    def reap(self, order: Reaping, found: Found, *, check: bool) -> None:
        """Free the jobs of dead workers."""
        reap.reap(order, found, check=check)

    def traces(self, client: Client, app: str, source: Source) -> list[Trace]:
        """Health checks: of our nodes, and by arq's own name of a queue."""
        nodes = figures.every(client, f"{HEALTH_CHECK_KEY}*", "string")
        names = [name for name in nodes if app_of(name[len(HEALTH_CHECK_KEY):]) == app]
        return there(client, map(Trace, [*names, *(f"{queue}:health-check" for queue in source.queues)]))
