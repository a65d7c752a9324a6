"""Everything of an app in Redis and nothing else: what there is, who is still at it, and how what holds no task is deleted.

Tasks go queue by queue through a purge (``purge.py``) of the whole queue. What is left then are traces: tables, marks and
streams of done tasks that name a queue or a node of the app. What names neither is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import engines, redis_url, resp
from ..engines import taskqueues
from ..engines.taskqueue import Source
from ..engines.verbs.figures import Figures, Question, total
from ..engines.verbs.reaping import app_of
from ..engines.verbs.stash import Choice
from ..errors import WorkfleetError
from . import purge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..engines.taskqueue import TaskQueue


@dataclass(frozen=True)
class Order:
    """What is asked for. ``hosts`` are those on which every node of the app was seen to be stopped."""

    app: str
    source: Source
    hosts: Sequence[str] = ()
    include_results: bool = False
    holder: str = ""
    force: bool = False

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Order:
        """Return the order in JSON's values."""
        given = {name: told[name] for name in ("app", "hosts", "include_results", "holder", "force") if name in told}
        return cls(source=Source(**told["source"]), **given)

    @property
    def queue(self) -> TaskQueue:
        """What the engine knows of its queues."""
        return taskqueues.named(self.source.engine)

    @property
    def question(self) -> Question:
        """A look at all queues of the broker."""
        return Question(self.source.url, self.app, self.source.queues, self.source.options, all_of_it=True)


def look(order: Order, *, check: bool) -> dict[str, Any]:
    """Return the app's ``queues`` with what they hold, ``traces``, ``result_count`` (how many results go), ``left`` (what stays and why).

    Raises where it cannot be read or nobody can tell who consumes, or, unless this is only a look, where another run is at work.
    """
    source = order.source
    with resp.connect(source.url) as client:
        run = purge.Run(client, order.app, source.engine, source.options, order.holder, {source.engine: source.queues})
        if not check:
            run.refuse_other(force=order.force)
        for queue in source.queues:
            run.stash("", Choice(queue, whole=True)).check()
        order.queue.listeners(source)  # before a node is stopped
        found = order.queue.figures(order.question)
        problems = [item.problem for item in found if item.problem and item.queue in source.queues]
        if problems:
            raise WorkfleetError(f"{'; '.join(problems)}; nothing was touched")
        mine = [item for item in found if item.queue in source.queues]
        others = sorted({item.queue for item in found if item.queue not in source.queues} | order.queue.foreign(client, source))
        left = [f"queue {queue} is consumed by no declared worker group, so it may be another app's" for queue in others]
        traces = order.queue.traces(client, order.app, source)
    return {"queues": [entry(item, source.engine) for item in mine], "traces": [trace.entry() for trace in traces],
            "result_count": results(order) if order.include_results else None, "left": left}


def entry(figures: Figures, engine: str) -> dict[str, Any]:
    """A queue with all that a purge of the whole takes; ``tasks`` is None where a part cannot be counted."""
    parts = {"waiting": figures.waiting, "unacknowledged": figures.unacknowledged, "dead": figures.dead or 0,
             "scheduled": 0 if engines.named(engine).holds_scheduled else figures.scheduled}
    return {"queue": figures.queue, "engine": engine, "tasks": total(iter(parts.values())), **parts}


def results(order: Order) -> int | None:
    """Count the results that go. Raises where the database has queues of others, whose results nobody can tell from ours."""
    source, queue = order.source, order.queue
    if not redis_url.is_redis(source.results):
        raise WorkfleetError("include_results: app_result_url names no Redis, so no results are here; leave it out. Nothing was touched")
    with resp.connect(source.results) as client:
        if not queue.results_name_queues:
            known = {item.queue for item in queue.figures(replace(order.question, url=source.results))} | queue.foreign(client, source)
            others = known - set(source.queues)
            if others:
                raise WorkfleetError(
                    f"include_results: the database {client.address} has queues that no worker group consumes "
                    f"({', '.join(sorted(others))}), and results do not say whose they are; leave it out. Nothing was touched")
        names = source.queues if queue.results_name_queues else ("",)
        stashes = [queue.taking(client, order.app, source.options, "", Choice(name, results=True)) for name in names]
        for stash in stashes:
            stash.check()
        return total(stash.count() for stash in stashes)


def alone(order: Order) -> None:
    """Raise where somebody consumes a queue of the app: what he holds would be dumped and run too."""
    found = sorted(f"{node} consumes {', '.join(sorted(queue))}" for node, queue in consumers(order))
    if found:
        raise WorkfleetError(f"{'; '.join(found)}, and is no node that was stopped: what it holds would be dumped and run too. Nothing was "
                             "deleted. Stop it (one that was killed is forgotten within a minute), and run this again")


def consumers(order: Order) -> Iterator[tuple[str, set[str]]]:
    """Yield who tells that he consumes some of the app's queues. The heartbeat of a node that was seen to be stopped is no sign of life."""
    leaves_beats = engines.named(order.source.engine).beats
    for node, told in order.queue.listeners(order.source).items():
        mine = set(told.queues or ()) & set(order.source.queues)
        is_gone = leaves_beats and app_of(node) == order.app and node.rpartition("@")[2] in order.hosts
        if mine and not is_gone:
            yield node, mine


def sweep(order: Order) -> dict[str, Any]:
    """Delete the traces; return those that were there."""
    with resp.connect(order.source.url) as client:
        gone = [trace for trace in order.queue.traces(client, order.app, order.source) if trace.delete(client)]
    return {"changed": bool(gone), "traces": [trace.entry() for trace in gone]}


def step(name: str, order: Order, *, check: bool) -> dict[str, Any]:
    """One step of a reset, as the module does it: ``look``, ``alone`` or ``sweep``."""
    if name == "look":
        found = look(order, check=check)
        some = found["traces"] or found["result_count"] or any(queue["tasks"] != 0 for queue in found["queues"])
        return {"changed": check and bool(some), **found}
    if name == "alone":
        alone(order)
        return {"changed": False}
    return sweep(order)
