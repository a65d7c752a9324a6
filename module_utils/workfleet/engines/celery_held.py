"""What Celery's workers hold of a queue, in ``unacked``, and its way back: one step, so that of two who try it one does it.

All apps of a database share that table, and its entries name no owner: the routing key tells whose a message is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import queues

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .. import resp
    from .celery_wire import Wire

#: Which queues an exchange and a routing key lead to.
Exchanges = dict[tuple[str, str], list[str]]

_BINDINGS = "_kombu.binding."
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
class Entry:
    """A message in ``unacked``: under which tag, as it stands there, as it goes back and to which list of a priority, whose it is."""

    tag: bytes
    text: bytes
    message: bytes
    step: int
    exchange: str
    queue: str
    id: str | None
    task: str | None

    def told(self) -> dict[str, Any]:
        """The task for people and programs."""
        return {"queue": self.queue, "id": self.id, "task": self.task}


def read(client: resp.Client, wire: Wire, exchanges: Exchanges) -> Iterator[list[Entry]]:
    """Yield what is held, page by page; what is returned meanwhile is no harm."""
    cursor = b"0"
    while True:
        cursor, page = client.call("HSCAN", wire.key(wire.unacked_key), cursor, "COUNT", _PAGE)
        found = (parsed(tag, text, wire, exchanges) for tag, text in zip(page[::2], page[1::2]))
        yield [entry for entry in found if entry is not None]
        if cursor == b"0":
            return


def parsed(tag: bytes, text: bytes, wire: Wire, exchanges: Exchanges) -> Entry | None:
    """Return an entry, with the message as kombu would restore it; ``None`` for what is no message, or may be of several queues."""
    try:
        message, exchange, routing_key = json.loads(text)
        leads = exchanges.get((exchange, routing_key)) or [str(routing_key)]
        if len(leads) != 1:
            return None
        headers = message["headers"]
        headers["redelivered"] = True
        message["properties"]["delivery_info"]["redelivered"] = True
        priority = int(message["properties"].get("priority") or 0)
        identity, task = headers.get("id"), headers.get("task")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    step = max((step for step in wire.priority_steps if step <= priority), default=wire.priority_steps[0])
    return Entry(tag, text, json.dumps(message).encode(), step, str(exchange), leads[0], identity, task)


def give_back(client: resp.Client, wire: Wire, options: Mapping[str, Any], entries: Sequence[tuple[Entry, str]]) -> list[bool]:
    """Return each to a list, to the end that is read next; whether it was still held."""
    held, index = wire.key(wire.unacked_key), wire.key(str(options.get("unacked_index_key") or "unacked_index"))
    return [bool(done) for done in client.pipeline(
        [("EVAL", _RETURN, 3, held, index, key, entry.tag, entry.text, entry.message) for entry, key in entries], timeout=60.0)]


def bindings(client: resp.Client, wire: Wire) -> Iterator[tuple[str, bytes, str, str]]:
    """Yield what is bound: the exchange, the member of its table, the routing key and the queue."""
    start = wire.key(_BINDINGS)
    names = list(queues.every(client, f"{start}*", "set"))
    for name, members in zip(names, client.pipeline([("SMEMBERS", name) for name in names])):
        for member in members:
            words = member.decode("utf-8", "surrogateescape").split(wire.sep)
            if len(words) >= 3:
                yield name[len(start):], member, words[0], words[2]


def exchanges(client: resp.Client, wire: Wire) -> Exchanges:
    """Which queues an exchange and a routing key lead to, where they are not simply the queue's name."""
    found: Exchanges = {}
    for exchange, _, routing_key, queue in bindings(client, wire):
        found.setdefault((exchange, routing_key), []).append(queue)
    return found
