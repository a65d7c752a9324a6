"""What an engine's queues are: figures, canaries, dumps, dead letters, and what dead workers held.

This is an engine's second face; the first, :mod:`base`, is what a node is. Every answer has a default: either the honest one of
somebody who cannot tell, or a refusal in a sentence. So an engine begins without a second face, and gets it part by part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import WorkfleetError
from .verbs import canary
from .verbs.figures import Figures
from .verbs.letters import Letters
from .verbs.stash import Stash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..resp import Client
    from .base import Engine
    from .verbs.backlog import Backlog
    from .verbs.events import Listener, Switch
    from .verbs.figures import Question
    from .verbs.probe import Proof, Request
    from .verbs.reaping import Found, Reaping
    from .verbs.report import Report
    from .verbs.stash import Choice
    from .verbs.traces import Trace
    from .verbs.traffic import Order, Traffic


#: For what nodes answer over the broker.
ASK_SECONDS = 1.0


@dataclass(frozen=True)
class Source:
    """One engine's queues on one broker. ``results`` is where its results are; it and ``url`` are secret."""

    engine: str
    url: str
    queues: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    results: str = ""


class TaskQueue:
    """Base of the second faces, and the second face of an engine that has none of its own."""

    #: How tasks are taken out of a queue and put back, and how results are; as they are here they refuse.
    stash: type[Stash] = Stash
    results: type[Stash] = Stash
    #: How tasks that have failed for good are listed and sent again; as it is here it refuses.
    letters: type[Letters] = Letters
    #: Whether results lie with the tasks in the broker and tell their queue.
    results_name_queues = False
    #: Whether what a restore adds comes into the queue only at its end, by ``Stash.added``.
    gathers = False

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name = engine, engine.name

    def taking(self, client: Client, app: str, options: Mapping[str, Any], identity: str, choice: Choice) -> Stash:
        """Return what takes the chosen tasks or results out, and puts them back."""
        found = (self.results if choice.results else self.stash)(client, app, options, identity, choice)
        found.engine = self.name
        return found

    def dead_letters(self, client: Client, queue: str, options: Mapping[str, Any]) -> Letters:
        """Return the dead letters of a queue."""
        found = self.letters(client, queue, options)
        found.engine = self.name
        return found

    # -- looking

    def figures(self, question: Question) -> list[Figures]:
        """Return the figures of queues, each look from one consistent read; raise where the broker cannot be asked.

        Here no figure is told, which is no 0.
        """
        if question.all_of_it:
            question.problems.append(f"engine {self.name} tells no figures of its queues")
        return [Figures(queue) for queue in dict.fromkeys(question.queues)]

    def waiting_tasks(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, Backlog]:
        """Return by queue how many tasks of each name wait; of a long queue the first thousands are read."""
        return {}

    # -- tasks of our own

    def traffic(self, order: Order) -> Traffic:
        """Return what sends many tasks and sees them come back."""
        raise WorkfleetError(f"engine {self.name} has no queues that tasks could be sent to")

    def probe(self, request: Request) -> list[Proof]:
        """Send a canary through each queue and say what became of it, in the order of the queues."""
        return canary.proofs(request, self.traffic, self.figures)

    def listener(self, url: str, options: Mapping[str, Any]) -> Listener:
        """Return a subscription to what nodes tell of their tasks."""
        raise WorkfleetError(f"engine {self.name} has no task events")

    def switch(self, url: str, options: Mapping[str, Any], beginnings: Sequence[str]) -> Switch:
        """Return what has nodes tell of their tasks, those whose names begin so."""
        raise WorkfleetError(f"engine {self.name} has no task events")

    # -- what dead workers held

    def note(self, order: Reaping) -> dict[str, Any]:
        """Return what workers hold, for :meth:`reap` after the hosts were looked at; JSON-ready."""
        return {}

    def reap(self, order: Reaping, found: Found, *, check: bool) -> None:
        """Give back what dead workers hold, forget these, and put it into ``found``; raise where it cannot be told who is alive."""
        found.left.append(f"engine {self.name} does not tell what dead workers held; nothing of its queues was touched")

    # -- everything of an app (reset)

    def traces(self, client: Client, app: str, source: Source) -> list[Trace]:
        """Return what holds no task and is the app's, by the names of its queues and nodes."""
        return []

    def foreign(self, client: Client, source: Source) -> set[str]:
        """Return the queues beside those of the source that are known to the broker, and hold nothing at the moment."""
        return set()

    def listeners(self, source: Source) -> Mapping[str, Report]:
        """Return what all nodes of the database tell, by name. Raises where not all can be asked: that is not nobody."""
        heard, is_whole = self.engine.everybody(source.url, source.options, ASK_SECONDS)
        if not is_whole:
            raise WorkfleetError(f"engine {self.name} does not tell, or not of all its workers, who consumes the queues, and what somebody "
                                 "holds would be dumped and run too. Nothing was deleted; purge.yml empties a single queue")
        return heard

    # -- queues that no worker group consumes

    def extra_queues(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the queues that are the app's by its broker options alone."""
        return ()

    def dead_place(self, options: Mapping[str, Any]) -> str | None:
        """Return the queue of its own in which dead letters lie; ``None`` where each queue has its own (``Choice.dead``)."""
        return None
