"""The names of the tasks that wait in Celery's queues: in the lists of all priorities, and held by workers in ``unacked``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import resp
from ...decode import BadEntry, Unread
from ..verbs.backlog import MOST, PAGE, Backlog
from ..verbs.figures import page
from . import held as celery_held
from .message import Message
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def read(url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, Backlog]:
    """Return what waits in each queue. What a worker holds counts: at its stop it comes back into the queue."""
    wire = Wire.parse(options)
    found = {queue: Backlog() for queue in queues}
    with resp.connect(url) as client:
        for queue, backlog in found.items():
            for key in wire.lists(queue):
                read_list(client, key, backlog)
        read_unacked(client, wire, found)
    return found


def read_list(client: resp.Client, key: str, backlog: Backlog) -> None:
    """Count a list from its end, where workers take."""
    looked = 0
    while looked < MOST and (messages := page(client, "LRANGE", key, -looked - PAGE, -looked - 1, stride=-1)):
        backlog.take(task_name(message) for message in messages)
        looked += len(messages)
    backlog.is_cut = backlog.is_cut or client.call("LLEN", key) > looked


def read_unacked(client: resp.Client, wire: Wire, found: Mapping[str, Backlog]) -> None:
    """Count what workers hold. All apps of a database share one table, so that the routing key tells whose a message is."""
    looked, unread = 0, Unread()
    for entries in celery_held.read(client, wire, unread):
        looked += len(entries)
        for held in entries:
            if held.key in found:
                found[held.key].add(name_of(held.message))
        if looked >= MOST:
            for backlog in found.values():
                backlog.is_cut = True
            return


def task_name(message: bytes) -> str | None:
    """Return the name of a message's task; none of what cannot be read."""
    try:
        return name_of(Message(message))
    except BadEntry:
        return None


def name_of(message: Message) -> str | None:
    """Return the name of its task."""
    try:
        return message.name
    except BadEntry:
        return None
