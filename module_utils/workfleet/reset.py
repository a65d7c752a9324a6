"""Everything of an app in Redis and nothing else: what there is, who is still at it, and how what holds no task is deleted.

Tasks go queue by queue through a purge (``purge.py``) of the whole queue. What is left then are traces: tables, marks and
streams of done tasks that name a queue or a node of the app. What names neither is left alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from . import engines, purge, redis_url, resp
from .decode import Unread
from .engines import arq_queues, celery_held, celery_reap, chicory_queues, queues
from .engines.celery_wire import Wire, inspect, report
from .engines.chicory_wire import HEARTBEAT, STREAM, consumer_group
from .engines.queues import Figures, Question
from .engines.reaping import app_of
from .engines.results_stash import patterns
from .engines.stash import Choice
from .errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .engines.verbs.report import Report

_WAIT_FOR_NODES = 1.0
_PERMANENT = "_kombu.binding_permanent."
#: What answers, events and questions come by is bound too, and is no queue of tasks.
_NO_TASKS = (".pidbox", "celeryev.")

# A stream of which every message was given to a worker and is done with. KEYS: it. ARGV: the one group that it may have.
_FORGET_STREAM = """
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return 0 end
local last = '0-0'
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  if group['name'] ~= ARGV[1] or group['pending'] > 0 then return 0 end
  last = group['last-delivered-id']
end
if #redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 1) > 0 then return 0 end
return redis.call('UNLINK', KEYS[1])
"""


@dataclass(frozen=True)
class Source:
    """One engine's queues on one broker. ``results`` is where its results are; it and ``url`` are secret."""

    engine: str
    url: str
    queues: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    results: str = ""


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


@dataclass(frozen=True)
class Trace:
    """A key that holds no task, or a member of a set that others use too."""

    key: str
    member: str = ""

    def delete(self, client: resp.Client, group: str) -> bool:
        """Delete it; whether it was there. A stream that has got a task meanwhile stays."""
        if self.member:
            return bool(client.call("SREM", self.key, self.member))
        if self.key.startswith(STREAM):
            return bool(client.call("EVAL", _FORGET_STREAM, 1, self.key, group))
        return bool(client.call("UNLINK", self.key))


def traces(client: resp.Client, order: Order) -> list[Trace]:
    """Return what holds no task and is the app's, by the names of its queues and nodes."""
    return TRACES[order.source.engine](client, order)


def _celery(client: resp.Client, order: Order) -> list[Trace]:
    """Bindings. One by an exchange of the app's own stays: what is sent through it before the workers are back would be lost."""
    wire = Wire.parse(order.source.options)
    found, unread = [], Unread()
    for binding in celery_held.all_bindings(client, wire, unread):
        if binding.queue in order.source.queues and binding.exchange in ("", binding.queue):
            keys = [wire.key(f"{start}{binding.exchange}") for start in ("_kombu.binding.", _PERMANENT)]
            found += [Trace(key, resp.text(binding.member)) for key in keys if client.call("SISMEMBER", key, binding.member)]
    pidbox = wire.key(f"_kombu.binding.{wire.control_exchange}.pidbox")
    return found + [Trace(pidbox, resp.text(member))
                    for _, member in sorted(celery_reap.stale(client, wire, order.app, (), unread).items())]


def _arq(client: resp.Client, order: Order) -> list[Trace]:
    """Health checks: of our nodes, and by arq's own name of a queue."""
    nodes = queues.every(client, f"{arq_queues.HEALTH_CHECK_KEY}*", "string")
    names = [name for name in nodes if app_of(name[len(arq_queues.HEALTH_CHECK_KEY):]) == order.app]
    names += [f"{queue}:health-check" for queue in order.source.queues]
    return [Trace(name) for name, there in zip(names, client.pipeline([("EXISTS", name) for name in names])) if there]


def _chicory(client: resp.Client, order: Order) -> list[Trace]:
    """Heartbeats, and streams of done tasks with their group and its consumers."""
    names = [name for name in queues.every(client, f"{HEARTBEAT}*", "string") if app_of(name[len(HEARTBEAT):]) == order.app]
    names += [STREAM + queue for queue in order.source.queues]
    return [Trace(name) for name, there in zip(names, client.pipeline([("EXISTS", name) for name in names])) if there]


TRACES = {"celery": _celery, "arq": _arq, "chicory": _chicory}


def look(order: Order, *, check: bool) -> dict[str, Any]:
    """Return the app's ``queues`` with what they hold, ``traces``, ``result_count`` (how many results go), ``left`` (what stays and why).

    Raises where it cannot be read, or, unless this is only a look, where another run is at work.
    """
    source = order.source
    with resp.connect(source.url) as client:
        run = purge.Run(client, order.app, source.engine, source.options, order.holder, {source.engine: source.queues})
        if not check:
            run.refuse_other(force=order.force)
        for queue in source.queues:
            run.stash("", Choice(queue, whole=True)).check()
        figures = engines.named(source.engine).figures(Question(source.url, order.app, source.queues, source.options, all_of_it=True))
        problems = [item.problem for item in figures if item.problem and item.queue in source.queues]
        if problems:
            raise WorkfleetError(f"{'; '.join(problems)}; nothing was touched")
        mine = [item for item in figures if item.queue in source.queues]
        others = sorted({item.queue for item in figures if item.queue not in source.queues} | foreign(client, order))
        left = [f"queue {queue} is consumed by no declared worker group, so it may be another app's" for queue in others]
        found = traces(client, order)
    return {"queues": [entry(item, source.engine) for item in mine], "traces": [asdict(trace) for trace in found],
            "result_count": results(order) if order.include_results else None, "left": left}


def entry(figures: Figures, engine: str) -> dict[str, Any]:
    """A queue with all that a purge of the whole takes; ``tasks`` is None where a part cannot be counted."""
    parts = {"waiting": figures.waiting, "unacknowledged": figures.unacknowledged, "dead": figures.dead or 0,
             "scheduled": 0 if engines.named(engine).holds_scheduled else figures.scheduled}
    return {"queue": figures.queue, "engine": engine, "tasks": queues.total(iter(parts.values())), **parts}


def foreign(client: resp.Client, order: Order) -> set[str]:
    """Return the queues that are only bound: they hold nothing at the moment."""
    if order.source.engine != "celery":
        return set()
    bound = {binding.queue for binding in celery_held.all_bindings(client, Wire.parse(order.source.options), Unread())}
    return {queue for queue in bound - set(order.source.queues) if not any(word in queue for word in _NO_TASKS)}


def results(order: Order) -> int:
    """Count the results that go. Raises where the database has queues of others, whose results nobody can tell from ours."""
    source = order.source
    if not redis_url.is_redis(source.results):
        raise WorkfleetError("include_results: app_result_url names no Redis, so no results are here; leave it out. Nothing was touched")
    with resp.connect(source.results) as client:
        if source.engine == "arq":  # they name their queue
            return sum(told.told.get("q") in source.queues for _, told, _ in arq_queues.results(client, Unread()))
        asked = Question(source.results, order.app, source.queues, source.options, all_of_it=True)
        others = {item.queue for item in engines.named(source.engine).figures(asked)} - set(source.queues) | foreign(client, order)
        if others:
            raise WorkfleetError(f"include_results: the database {client.address} has queues that no worker group consumes "
                                 f"({', '.join(sorted(others))}), and results do not say whose they are; leave it out. Nothing was touched")
        return sum(len(names) for pattern in patterns(source.engine, source.options) for names in queues.pages(client, pattern))


def alone(order: Order) -> None:
    """Raise where somebody consumes a queue of the app: what he holds would be dumped and run too."""
    with resp.connect(order.source.url) as client:
        found = sorted(f"{node} consumes {', '.join(sorted(queue))}" for node, queue in consumers(client, order))
    if found:
        raise WorkfleetError(f"{'; '.join(found)}, and is no node that was stopped: what it holds would be dumped and run too. Nothing was "
                             "deleted. Stop it (one that was killed is forgotten within a minute), and run this again")


def consumers(client: resp.Client, order: Order) -> Iterator[tuple[str, set[str]]]:
    """Yield who tells that he consumes some of the app's queues. The mark of a node that was seen to be stopped is no sign of life."""
    for node, told in nodes(client, order.source).items():
        mine = set(told.queues or ()) & set(order.source.queues)
        is_gone = order.source.engine != "celery" and app_of(node) == order.app and node.rpartition("@")[2] in order.hosts
        if mine and not is_gone:
            yield node, mine


def nodes(client: resp.Client, source: Source) -> Mapping[str, Report]:
    """Return what all nodes of the database tell."""
    if source.engine == "celery":
        told = inspect(client, None, ("active_queues",), timeout=_WAIT_FOR_NODES, wire=Wire.parse(source.options))
        return {node: report(answers) for node, answers in told.items() if answers}
    found = (arq_queues if source.engine == "arq" else chicory_queues).nodes(client)
    if found is None:
        raise WorkfleetError("the database has too many keys to find out who consumes the queues; nothing was deleted")
    return {node[len(HEARTBEAT):] if node.startswith(HEARTBEAT) else node: told for node, told in found.items()}


def sweep(order: Order) -> dict[str, Any]:
    """Delete the traces; return those that were there."""
    with resp.connect(order.source.url) as client:
        group = consumer_group(order.source.options)
        gone = [trace for trace in traces(client, order) if trace.delete(client, group)]
    return {"changed": bool(gone), "traces": [asdict(trace) for trace in gone]}


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
