"""What Celery's workers hold of a queue, in ``unacked``, and its way back: one step, so that of two who try it one does it.

All apps of a database share that table, and its entries name no owner: the routing key tells whose a message is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from ... import decode, resp
from ...decode import BadEntry
from ...errors import WorkfleetError
from ..verbs import figures as queues
from .message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ...decode import Unread
    from .wire import Wire

_BINDINGS = "_kombu.binding."
#: Queues that are bound to one exchange, and to all.
_MOST_BOUND, _MOST_BINDINGS = 10_000, 50_000
_TABLES_A_LOOK = 20
_LONGEST_KEY, _LONGEST_MEMBER = 1000, 4000
# Only what is still held exactly as it was seen. ARGV: the entry, and the message as it goes back.
_RETURN = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[3])
return 1
"""


@dataclass(frozen=True)
class Binding:
    """A queue behind an exchange: the member as it stands in the exchange's table."""

    exchange: str
    key: str
    queue: str
    member: bytes
    is_pattern: bool = False

    def leads(self, key: str) -> bool:
        """Whether a message with this routing key goes there, as kombu understands a pattern: ``#`` is anything, ``*`` at least a word."""
        if not self.is_pattern:
            return key == self.key
        ends = {0}  # how far the words so far may reach
        for number, word in enumerate(self.key.split(".")):
            begins = {end + 1 for end in ends if key[end:end + 1] == "."} if number else ends
            if word in ("#", "*"):
                first = min(begins, default=len(key) + 1)
                ends = {end for end in range(first, len(key) + 1) if word == "#" or (end > first and key[end - 1] != ".")}
            else:
                ends = {begin + len(word) for begin in begins if key.startswith(word, begin)}
        return len(key) in ends


#: What is bound to each exchange; ``None`` where that cannot be told.
Tables = dict[str, Optional[list[Binding]]]


@dataclass(frozen=True)
class Held:
    """An entry of ``unacked``: the tag, what stands there, the message, the exchange and the routing key it came by."""

    tag: bytes
    text: bytes
    message: Message
    exchange: str
    key: str

    @classmethod
    def decode(cls, tag: bytes, text: bytes) -> Held:
        """Read an entry; raises on what is none."""
        message, exchange, key = decode.parts(decode.document(text, odd_numbers=True), 3)
        if len(decode.text(key)) > _LONGEST_KEY:
            raise BadEntry(f"its routing key has {len(key)} characters")
        return cls(tag, text, Message(message), decode.text(exchange), key)

    def entry(self, wire: Wire, queue: str) -> Entry:
        """Return it with the message as kombu would restore it."""
        message = self.message
        message.headers.told["redelivered"] = message.delivery.told["redelivered"] = True
        priority = message.properties.integer("priority", 0)
        step = max((step for step in wire.priority_steps if step <= priority), default=wire.priority_steps[0])
        return Entry(self.tag, self.text, message.again(), step, self.exchange, queue, message.id, message.task)


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


def read(client: resp.Client, wire: Wire, unread: Unread) -> Iterator[list[Held]]:
    """Yield what is held, page by page; what is returned meanwhile is no harm."""
    key = wire.key(wire.unacked_key)
    for page in queues.hash_entries(client, key, unread):
        found = []
        for tag, text in page:
            with unread.entry(key, tag):
                found.append(Held.decode(tag, text))
        yield found


def give_back(client: resp.Client, wire: Wire, options: Mapping[str, Any], entries: Sequence[tuple[Entry, str]]) -> list[bool]:
    """Return each to a list, to the end that is read next; whether it was still held."""
    held, index = wire.key(wire.unacked_key), wire.key(str(options.get("unacked_index_key") or "unacked_index"))
    return [bool(done) for done in client.pipeline(
        [("EVAL", _RETURN, 3, held, index, key, entry.tag, entry.text, entry.message) for entry, key in entries], timeout=60.0)]


def table(client: resp.Client, wire: Wire, exchange: str, unread: Unread) -> list[Binding]:
    """Return what is bound to an exchange; nothing where that cannot be told."""
    return _tables(client, wire, [exchange], unread)[exchange] or []


def tables(client: resp.Client, wire: Wire, unread: Unread) -> Tables:
    """Return what is bound to each exchange."""
    start = wire.key(_BINDINGS)
    names, complete = queues.keys(client, f"{queues.literal(start)}*", "set")
    if not complete:
        raise WorkfleetError("the database has too many keys to find all exchanges; nothing was touched")
    found: Tables = {}
    for begin in range(0, len(names), _TABLES_A_LOOK):
        found.update(_tables(client, wire, [name[len(start):] for name in names[begin:begin + _TABLES_A_LOOK]], unread))
        if sum(len(bound or ()) for bound in found.values()) > _MOST_BINDINGS:
            raise WorkfleetError(f"more than {_MOST_BINDINGS} queues are bound to exchanges; that many are not looked through. "
                                 "Nothing was touched")
    return found


def all_bindings(client: resp.Client, wire: Wire, unread: Unread) -> list[Binding]:
    """Return all that is bound."""
    return [binding for bound in tables(client, wire, unread).values() for binding in bound or ()]


def _tables(client: resp.Client, wire: Wire, exchanges: Sequence[str], unread: Unread) -> Tables:
    keys = {exchange: wire.key(_BINDINGS + exchange) for exchange in exchanges}
    sizes = client.pipeline([("SCARD", key) for key in keys.values()], raise_errors=False)
    found: Tables = {}
    for (exchange, key), size in zip(keys.items(), sizes):
        if isinstance(size, resp.RespError) or size > _MOST_BOUND:
            why = "it is no set" if isinstance(size, resp.RespError) else f"{size} queues are bound, more than {_MOST_BOUND}"
            unread.add(key, "", BadEntry(why))
            found[exchange] = None
            continue
        found[exchange] = bound = []
        for member in sorted(client.call("SMEMBERS", key)) if size else ():
            if len(member) > _LONGEST_MEMBER:
                unread.add(key, member, BadEntry(f"it has {len(member)} bytes"))
                found[exchange] = None
                break
            words = resp.text(member).split(wire.sep)
            if len(words) == 3:  # with another sep it is another app's
                bound.append(Binding(exchange, words[0], words[2], member, bool(words[1])))
    return found


def origins(exchange: str, key: str, bound: Tables) -> list[str]:
    """Return the queues that an exchange and a routing key lead to; without an exchange the key is the queue."""
    if not exchange:
        return [key]
    if bound.get(exchange, ()) is None:
        return []
    found = sorted({binding.queue for binding in bound.get(exchange) or () if binding.leads(key)})
    return found or ([key] if exchange == key else [])
