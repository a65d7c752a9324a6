"""The names of the tasks that wait in Chicory's queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import resp
from ..pickled import text_of
from ..verbs import figures as queues
from ..verbs.backlog import MOST, PAGE, Backlog
from . import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def read(url: str, names: Sequence[str], options: Mapping[str, Any]) -> dict[str, Backlog]:
    """Return what no worker has taken yet of each queue, and what is delayed. What a worker has taken it ends itself."""
    group = wire.consumer_group(options)
    with resp.connect(url) as client:
        return {queue: read_queue(client, queue, group) for queue in names}


def read_queue(client: resp.Client, queue: str, group: str) -> Backlog:
    """Count one queue."""
    backlog = Backlog()
    last, looked = wire.look(client, queue, group).last, 0
    while True:
        page = queues.page(client, "XRANGE", wire.STREAM + queue, f"({last}", "+", "COUNT", PAGE)
        backlog.take(text_of(dict(zip(fields[::2], fields[1::2])).get(b"data"), "name") for _, fields in page)
        looked += len(page)
        if not page:
            break
        if looked >= MOST:
            backlog.is_cut = True
            break
        last = resp.text(page[-1][0])
    delayed = queues.page(client, "ZRANGE", wire.DELAYED + queue, "0", str(PAGE - 1))
    backlog.take(text_of(data, "name") for data in delayed)
    backlog.is_cut = backlog.is_cut or client.call("ZCARD", wire.DELAYED + queue) > len(delayed)
    return backlog
