"""What dead Celery workers left behind: tasks that they held, and their place among those that listen for questions.

Celery's ``unacked`` names no owner, and a task comes back from it by itself only after the visibility timeout, an hour by
default. A task is taken for an orphan where it was there in two looks some seconds apart, and in both no worker had it:

* every worker that is connected to the broker has answered, and so has every node that runs on a host of the inventory, for
  one that lost its connection may be at work on it all the same;
* none has it among its active, reserved and scheduled tasks;
* no worker limits the rate of its name: what waits for that is in none of these lists.

Where one of these cannot be told nothing is moved. A task goes back in one step with its removal from ``unacked``, to the
end of its list that is read next, so two runs, or Celery's own restore meanwhile, return it once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import resp
from .engines import celery_held
from .engines.celery_held import Entry
from .engines.celery_wire import Wire, inspect_all
from .engines.queues import MOST_HELD
from .errors import WorkfleetError
from .managers.base import Name

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

_QUESTIONS: dict[str, dict[str, Any]] = {
    "active": {}, "reserved": {}, "scheduled": {}, "registered": {"taskinfoitems": ["rate_limit"], "builtins": True}}


@dataclass(frozen=True)
class Order:
    """What is asked for. ``running`` are the nodes that have a process on a host, by their names on the broker; ``seconds``
    lie between the two looks, ``timeout`` bounds the wait for the workers' answers.
    """

    app: str
    url: str
    queues: Sequence[str]
    running: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 10.0
    timeout: float = 5.0


@dataclass
class Seen:
    """One look: what is held, by tag, and what was heard of the workers."""

    held: dict[bytes, Entry]
    ids: set[str]
    limited: set[str]
    nodes: set[str]


def reap(order: Order, *, check: bool) -> dict[str, Any]:
    """Return ``changed``, ``returned`` (the tasks), ``forgotten`` (nodes) and ``left`` (sentences on what was left alone).

    Raises where it cannot be told who is alive; nothing was moved then.
    """
    wire = Wire.parse(order.options)
    with resp.connect(order.url) as client:
        first = look(client, wire, order)
        if first.held:
            time.sleep(order.seconds)
        second = look(client, wire, order) if first.held else first
        orphans, left = judge(first, second)
        gone = stale(client, wire, order.app, {*second.nodes, *order.running})
        if not check:
            orphans = [orphan for orphan in orphans if give_back(client, wire, order, orphan)]
            forget(client, wire, gone)
    nodes = sorted(gone)
    return {"changed": bool(orphans or gone), "returned": [orphan.told() for orphan in orphans], "forgotten": nodes, "left": left}


def look(client: resp.Client, wire: Wire, order: Order) -> Seen:
    """Read what is held, then ask all workers: what one has taken since then is not among what is held."""
    held = entries(client, wire, order)
    told, expected = inspect_all(client, _QUESTIONS, order.timeout, wire)
    complete = {node: answers for node, answers in told.items() if all(isinstance(answers.get(name), list) for name in _QUESTIONS)}
    if len(complete) < expected:
        raise WorkfleetError(f"{expected} workers listen on the broker, and {len(complete)} have answered within {order.timeout:g} s: "
                             "one that is silent may hold any task, as a busy solo pool does. Nothing was returned")
    silent = sorted(set(order.running) - set(complete))
    if silent:
        raise WorkfleetError(f"{', '.join(silent)}: runs on its host, and has not answered over the broker: it may hold any task, as a "
                             "node that stops does, or one that lost its connection. Nothing was returned; wait for it, or stop it")
    ids = {identity for answers in complete.values() for name in ("active", "reserved", "scheduled")
           for item in answers[name] for identity in [(item.get("request") or item).get("id")] if identity}
    limited = {line.split(" [rate_limit=")[0] for answers in complete.values() for line in answers["registered"]
               if " [rate_limit=" in line}
    return Seen(held, ids, limited, set(complete))


def entries(client: resp.Client, wire: Wire, order: Order) -> dict[bytes, Entry]:
    """What is held of this app's queues, by tag. Another app's tasks in the same database are left out, and so are those that came
    through an exchange of the app's own.
    """
    key = wire.key(wire.unacked_key)
    if int(client.call("HLEN", key)) > MOST_HELD:
        raise WorkfleetError(f"{key}: more than {MOST_HELD} tasks are held; that many are not looked through")
    return {entry.tag: entry for page in celery_held.read(client, wire, {}) for entry in page
            if entry.queue in order.queues and entry.exchange in ("", entry.queue) and entry.id and entry.task}


def judge(first: Seen, second: Seen) -> tuple[list[Entry], list[str]]:
    """Return the orphans, and what is to be said of others that no worker has."""
    found, left = [], []
    for tag, orphan in second.held.items():
        before = first.held.get(tag)
        if before is None or before.text != orphan.text or orphan.id in first.ids | second.ids:
            continue
        if orphan.task in first.limited | second.limited:
            left.append(f"{orphan.id} ({orphan.task}): no worker tells of it, but its rate is limited, "
                        "and what waits for that is told of nowhere")
        else:
            found.append(orphan)
    return sorted(found, key=lambda orphan: (orphan.queue, str(orphan.id))), left


def give_back(client: resp.Client, wire: Wire, order: Order, orphan: Entry) -> bool:
    """Return a task to its queue; whether it was still held."""
    key = wire.lists(orphan.queue)[wire.priority_steps.index(orphan.step)]
    return celery_held.give_back(client, wire, order.options, [(orphan, key)])[0]


def stale(client: resp.Client, wire: Wire, app: str, alive: Container[str]) -> dict[str, bytes]:
    """Return this app's nodes that are bound for questions and are not there any more, with their binding."""
    pidbox = f"{wire.control_exchange}.pidbox"
    found = {}
    for member in client.call("SMEMBERS", wire.key(f"_kombu.binding.{pidbox}")):
        node = resp.text(member).rpartition(wire.sep)[2][:-len(pidbox) - 1]
        name = Name.of_node(node)
        if name is not None and name.app == app and node not in alive:
            found[node] = member
    return found


def forget(client: resp.Client, wire: Wire, gone: Mapping[str, bytes]) -> None:
    """Take their bindings away; a node that comes back binds itself again."""
    if gone:
        client.call("SREM", wire.key(f"_kombu.binding.{wire.control_exchange}.pidbox"), *gone.values())
