"""rq's queues, as what runs on one host sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import resp
from ..taskqueue import TaskQueue
from ..verbs.reaping import app_of
from ..verbs.traces import Trace, there
from . import queues as rq_queues
from . import reap
from .keys import QUEUE, QUEUES, WORKER, WORKERS
from .letters import RqLetters
from .load import RqTraffic
from .stash import RqStash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..taskqueue import Source
    from ..verbs.backlog import Backlog
    from ..verbs.figures import Figures, Question
    from ..verbs.reaping import Found, Reaping
    from ..verbs.traffic import Order


class RqQueue(TaskQueue):
    """Lists of ids, each with a hash, and registries beside them."""

    stash = RqStash
    letters = RqLetters

    def figures(self, question: Question) -> list[Figures]:
        """Read everything about the queues that Redis and the nodes tell."""
        return rq_queues.figures(question)

    def waiting_tasks(self, url: str, queues: Sequence[str], options: Any) -> dict[str, Backlog]:
        """Read the first instructions of the pickles, and carry none of them out."""
        with resp.connect(url) as client:
            return {queue: rq_queues.backlog(client, queue) for queue in queues}

    def traffic(self, order: Order) -> RqTraffic:
        """Send as a client of the app does, without one."""
        return RqTraffic(order)

    def note(self, order: Reaping) -> dict[str, Any]:
        """Read what is begun or popped, and the signs of life."""
        return reap.note(order)

    def reap(self, order: Reaping, found: Found, *, check: bool) -> None:
        """End or return the jobs of dead workers."""
        reap.reap(order, found, check=check)

    def traces(self, client: resp.Client, app: str, source: Source) -> list[Trace]:
        """The names of queues, and what nodes that are dead have left of themselves."""
        names = [resp.text(key) for key in client.call("SMEMBERS", WORKERS)]
        dead = there(client, [Trace(key) for key in names if app_of(key[len(WORKER):]) == app])
        return [*(Trace(QUEUES, QUEUE + queue) for queue in source.queues if client.call("SISMEMBER", QUEUES, QUEUE + queue)), *dead]

    def foreign(self, client: resp.Client, source: Source) -> set[str]:
        """What rq remembers of the queues of others."""
        known = {resp.text(key)[len(QUEUE):] for key in client.call("SMEMBERS", QUEUES)}
        return known - set(source.queues) - set(rq_queues.others(client)[0])
