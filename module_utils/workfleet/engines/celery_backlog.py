"""The names of the tasks that wait in Celery's queues: in the lists of all priorities, and held by workers in ``unacked``."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from .. import resp
from .backlog import LARGEST, MOST, PAGE, Backlog
from .celery_wire import Wire

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
        read_unacked(client, wire.key(wire.unacked_key), found)
    return found


def read_list(client: resp.Client, key: str, backlog: Backlog) -> None:
    """Count a list from its end, where workers take."""
    for start in range(0, MOST, PAGE):
        page = client.call("LRANGE", key, str(-start - PAGE), str(-start - 1))
        backlog.take(task_name(message) for message in page)
        if len(page) < PAGE:
            return
    backlog.is_cut = backlog.is_cut or client.call("LLEN", key) > MOST


def read_unacked(client: resp.Client, key: str, found: Mapping[str, Backlog]) -> None:
    """Count what workers hold. All apps of a database share one table, so that the routing key tells whose a message is."""
    cursor, looked = b"0", 0
    while True:
        cursor, page = client.call("HSCAN", key, cursor, "COUNT", str(PAGE))
        looked += len(page) // 2
        for value in page[1::2]:
            try:
                message, _exchange, routing_key = json.loads(value)
            except (ValueError, TypeError):
                continue
            if routing_key in found:
                found[routing_key].add(task_name(json.dumps(message).encode() if isinstance(message, dict) else str(message).encode()))
        if cursor == b"0":
            return
        if looked >= MOST:
            for backlog in found.values():
                backlog.is_cut = True
            return


def task_name(message: bytes) -> str | None:
    """Return the name in a message: in its header, or in the body, as Celery's first protocol has it."""
    if len(message) > LARGEST:
        return None
    try:
        told = json.loads(message)
        name = told["headers"].get("task")
        if name is None:
            body = told["body"]
            coded = told.get("properties", {}).get("body_encoding") == "base64"
            name = json.loads(base64.b64decode(body) if coded else body)["task"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return str(name)
