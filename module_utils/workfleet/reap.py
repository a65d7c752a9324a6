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

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import resp
from .engines.celery_wire import Wire, inspect_all
from .engines.queues import MOST_HELD
from .errors import WorkfleetError
from .managers.base import Name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_QUESTIONS: dict[str, dict[str, Any]] = {
    "active": {}, "reserved": {}, "scheduled": {}, "registered": {"taskinfoitems": ["rate_limit"], "builtins": True}}
_PAGE = 200
# Only what is still held exactly as it was seen. ARGV: the entry, and the message as it goes back.
_RETURN = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[3])
return 1
"""


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


@dataclass(frozen=True)
class Orphan:
    """A task in ``unacked``: under which tag, the entry as it stands there, where it goes, and whose it is."""

    tag: bytes
    entry: bytes
    key: str
    message: bytes
    queue: str
    id: str
    task: str

    def told(self) -> dict[str, str]:
        """The task for people and programs."""
        return {"queue": self.queue, "id": self.id, "task": self.task}


@dataclass
class Seen:
    """One look: what is held, by tag, and what was heard of the workers."""

    held: dict[bytes, Orphan]
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
        gone = stale(client, wire, order, second.nodes)
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


def entries(client: resp.Client, wire: Wire, order: Order) -> dict[bytes, Orphan]:
    """What is held of this app's queues, by tag. Another app's tasks in the same database are left out."""
    key = wire.key(wire.unacked_key)
    if int(client.call("HLEN", key)) > MOST_HELD:
        raise WorkfleetError(f"{key}: more than {MOST_HELD} tasks are held; that many are not looked through")
    found: dict[bytes, Orphan] = {}
    cursor = b"0"
    while True:
        cursor, page = client.call("HSCAN", key, cursor, "COUNT", _PAGE)
        for tag, entry in zip(page[::2], page[1::2]):
            orphan = parsed(tag, entry, wire, order.queues)
            if orphan is not None:
                found[tag] = orphan
        if cursor == b"0":
            return found


def parsed(tag: bytes, entry: bytes, wire: Wire, queues: Sequence[str]) -> Orphan | None:
    """Return a held task of one of these queues, with the message as kombu would restore it; ``None`` for anything else.

    Of a task that came through an exchange of its own the routing key is taken for the queue's name only where the two are one.
    """
    try:
        message, exchange, queue = json.loads(entry)
        if queue not in queues or exchange not in ("", queue):
            return None
        identity, task = str(message["headers"]["id"]), str(message["headers"]["task"])
        message["headers"]["redelivered"] = True
        message["properties"]["delivery_info"]["redelivered"] = True
        priority = int(message["properties"].get("priority") or 0)
    except (ValueError, KeyError, TypeError):
        return None
    step = max((number for number in range(len(wire.priority_steps)) if wire.priority_steps[number] <= priority), default=0)
    return Orphan(tag, entry, wire.lists(queue)[step], json.dumps(message).encode(), queue, identity, task)


def judge(first: Seen, second: Seen) -> tuple[list[Orphan], list[str]]:
    """Return the orphans, and what is to be said of others that no worker has."""
    found, left = [], []
    for tag, orphan in second.held.items():
        before = first.held.get(tag)
        if before is None or before.entry != orphan.entry or orphan.id in first.ids | second.ids:
            continue
        if orphan.task in first.limited | second.limited:
            left.append(f"{orphan.id} ({orphan.task}): no worker tells of it, but its rate is limited, "
                        "and what waits for that is told of nowhere")
        else:
            found.append(orphan)
    return sorted(found, key=lambda orphan: (orphan.queue, orphan.id)), left


def give_back(client: resp.Client, wire: Wire, order: Order, orphan: Orphan) -> bool:
    """Return a task to its queue; whether it was still held."""
    index = wire.key(str(order.options.get("unacked_index_key") or "unacked_index"))
    return bool(client.call("EVAL", _RETURN, 3, wire.key(wire.unacked_key), index, orphan.key, orphan.tag, orphan.entry, orphan.message))


def stale(client: resp.Client, wire: Wire, order: Order, alive: set[str]) -> dict[str, bytes]:
    """Return this app's nodes that are bound for questions and are not there any more, with their binding."""
    pidbox = f"{wire.control_exchange}.pidbox"
    found = {}
    for member in client.call("SMEMBERS", wire.key(f"_kombu.binding.{pidbox}")):
        node = resp.text(member).rpartition(wire.sep)[2][:-len(pidbox) - 1]
        name = Name.parse(f"workfleet.{node.rpartition('@')[0]}")
        if name is not None and name.app == order.app and node not in alive and node not in order.running:
            found[node] = member
    return found


def forget(client: resp.Client, wire: Wire, gone: Mapping[str, bytes]) -> None:
    """Take their bindings away; a node that comes back binds itself again."""
    if gone:
        client.call("SREM", wire.key(f"_kombu.binding.{wire.control_exchange}.pidbox"), *gone.values())
