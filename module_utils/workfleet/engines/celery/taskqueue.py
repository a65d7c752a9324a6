"""Celery's queues, as what runs on one host sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import resp
from ...decode import Unread
from ..taskqueue import ASK_SECONDS, TaskQueue
from ..verbs.traces import Trace
from . import backlog, held, load, probe, queues, reap
from .events import Listener, Switch
from .letters import CeleryLetters
from .results import CeleryResults
from .stash import CeleryStash
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..taskqueue import Source
    from ..verbs.backlog import Backlog
    from ..verbs.figures import Figures, Question
    from ..verbs.probe import Proof, Request
    from ..verbs.reaping import Found, Reaping
    from ..verbs.report import Report
    from ..verbs.traffic import Order, Traffic

_PERMANENT = "_kombu.binding_permanent."
#: What answers, events and questions come by is bound too, and is no queue of tasks.
_NO_TASKS = (".pidbox", "celeryev.")


class CeleryQueue(TaskQueue):
    """Lists of messages, one for each priority."""

    stash = CeleryStash
    results = CeleryResults
    letters = CeleryLetters
    gathers = True

    def figures(self, question: Question) -> list[Figures]:
        """Read everything about the queues that Redis and the nodes tell."""
        return queues.figures(question)

    def waiting_tasks(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, Backlog]:
        """Read the lists of all priorities, and what workers hold."""
        return backlog.read(url, queues, options)

    def traffic(self, order: Order) -> Traffic:
        """Send as a client of the app does, without one."""
        return load.CeleryTraffic(order)

    def probe(self, request: Request) -> list[Proof]:
        """Send ``celery.accumulate``, which every app has."""
        return probe.probe(request)

    def listener(self, url: str, options: Mapping[str, Any]) -> Listener:
        """Subscribe to the exchange of events."""
        return Listener(url, options)

    def switch(self, url: str, options: Mapping[str, Any], beginnings: Sequence[str]) -> Switch:
        """``enable_events`` and ``disable_events``, over pidbox."""
        return Switch(url, options, beginnings)

    def reap(self, order: Reaping, found: Found, *, check: bool) -> None:
        """Ask all workers twice what they have; what none has goes back."""
        reap.reap(order, found, check=check)

    def traces(self, client: resp.Client, app: str, source: Source) -> list[Trace]:
        """Bindings. One by an exchange of the app's own stays: what is sent through it before the workers are back would be lost."""
        wire = Wire.parse(source.options)
        found, unread = [], Unread()
        for binding in held.all_bindings(client, wire, unread):
            if binding.queue in source.queues and binding.exchange in ("", binding.queue):
                keys = [wire.key(f"{start}{binding.exchange}") for start in ("_kombu.binding.", _PERMANENT)]
                found += [Trace(key, resp.text(binding.member)) for key in keys if client.call("SISMEMBER", key, binding.member)]
        pidbox = wire.key(f"_kombu.binding.{wire.control_exchange}.pidbox")
        return found + [Trace(pidbox, resp.text(member)) for _, member in sorted(reap.stale(client, wire, app, (), unread).items())]

    def foreign(self, client: resp.Client, source: Source) -> set[str]:
        """Return the queues that are only bound."""
        bound = {binding.queue for binding in held.all_bindings(client, Wire.parse(source.options), Unread())}
        return {queue for queue in bound - set(source.queues) if not any(word in queue for word in _NO_TASKS)}

    def listeners(self, source: Source) -> Mapping[str, Report]:
        """Ask all that listen; one that is busy in a solo pool does not answer, and another app's may be."""
        heard, _ = self.engine.everybody(source.url, source.options, ASK_SECONDS)
        return heard

    def extra_queues(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the queue of the app for what it rejects, where it has one."""
        return (str(options["deadletter_queue"]),) if options.get("deadletter_queue") else ()

    def dead_place(self, options: Mapping[str, Any]) -> str | None:
        """Return that queue."""
        return str(options["deadletter_queue"])
