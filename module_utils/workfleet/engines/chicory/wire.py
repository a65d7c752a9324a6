"""What Chicory keeps in Redis: streams of tasks with one group of consumers, delayed tasks, dead letters, heartbeats.

Observed on Chicory 0.1.0 with Redis 7.0. ``XLEN`` is no depth: an acknowledged task stays in its stream until trimmed.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import decode, resp
from ...decode import BadEntry, Unread
from ...errors import WorkfleetError
from ..verbs import figures as queues
from ..verbs.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STREAM, DELAYED, DEAD = "chicory:stream:", "chicory:delayed:", "chicory:dlq:"
HEARTBEAT, RESULT, STATE = "chicory:heartbeat:", "chicory:result:", "chicory:state:"
CONSUMER_GROUP = "chicory-workers"
#: Without the server's own count, no more than this are counted.
MOST_COUNTED = 10_000
_PAGE = 1000
#: Bytes of what a node tells.
LARGEST_BEAT = 64 << 10


@dataclass(frozen=True)
class ConsumerGroup:
    """The workers of a queue as one, as ``XINFO GROUPS`` tells."""

    last: str = "0-0"
    pending: int = 0
    lag: int | None = None


def consumer_group(options: Mapping[str, Any]) -> str:
    """Return the group's name; where the app's code has another one, ``app_broker_options`` says so."""
    return str(options.get("consumer_group") or CONSUMER_GROUP)


def refused(queue: str, reply: resp.Reply, key: str = STREAM) -> None:
    """Raise where a queue's key cannot be read as Chicory's."""
    if isinstance(reply, resp.RespError):
        if reply.code == "WRONGTYPE":
            raise WorkfleetError(f"queue {queue}: the key {key}{queue} in Redis is not of Chicory's kind: "
                                 "does something else use the name in this database?", queue=queue)
        if "no such key" not in str(reply):
            raise reply


def look(client: resp.Client, queue: str, group: str) -> ConsumerGroup:
    """Return the workers' place in a queue; before any worker has come, all of it is ahead of them."""
    reply = client.pipeline([("XINFO", "GROUPS", STREAM + queue)], raise_errors=False)[0]
    refused(queue, reply)
    for words in [] if isinstance(reply, resp.RespError) else reply:
        told = {resp.text(name): value for name, value in zip(words[::2], words[1::2])}
        if resp.text(told["name"]) == group:
            return ConsumerGroup(resp.text(told["last-delivered-id"]), told["pending"], told.get("lag"))
    return ConsumerGroup()


def waiting(client: resp.Client, queue: str, place: ConsumerGroup) -> int | None:
    """Return how many messages no worker has taken yet.

    The server knows since Redis 7, but not after a message ahead of the workers was deleted: then they are counted.
    """
    if place.lag is not None:
        return int(place.lag)
    counted, last = 0, place.last
    while counted < MOST_COUNTED:
        page = client.call("XRANGE", STREAM + queue, f"({last}", "+", "COUNT", _PAGE)
        counted += len(page)
        if len(page) < _PAGE:
            return counted
        last = resp.text(page[-1][0])
    return None


def reports(client: resp.Client, nodes: Sequence[str]) -> dict[str, Report]:
    """Return what nodes tell that have their node's name, as the toolkit's runner gives it to them."""
    beats = queues.strings(client, [HEARTBEAT + node for node in nodes], Unread(), LARGEST_BEAT)
    return {node: report for node, (_, beat) in zip(nodes, beats) for report in parsed(beat)}


def pending(client: resp.Client, nodes: Sequence[str], group: str) -> dict[str, list[str]]:
    """Return the messages of its queue that each node has taken and not acknowledged; none for a node that is silent."""
    told = reports(client, nodes)
    asked = [(node, queue) for node, report in told.items() for queue in report.queues or ()]
    answers = client.pipeline([("XPENDING", STREAM + queue, group, "-", "+", str(_PAGE), node) for node, queue in asked])
    return {node: [resp.text(entry[0]) for entry in answer] for (node, _), answer in zip(asked, answers)}


def strangers(client: resp.Client) -> Iterator[Report]:
    """Yield the workers of this host that tell of themselves under Chicory's own names."""
    names = list(queues.every(client, f"{HEARTBEAT}{queues.literal(socket.gethostname())}-*"))
    for _, beat in queues.strings(client, names, Unread(), LARGEST_BEAT):
        yield from parsed(beat)


def parsed(beat: bytes | None) -> list[Report]:
    """Return the report in a heartbeat; none in that of a worker that has ended, and in what is no heartbeat."""
    try:
        told = decode.fields(decode.document(beat or b"{}", LARGEST_BEAT))
        if not told.told.get("is_running"):
            return []
        places, active, failed = told.count("concurrency"), told.count("active_tasks"), told.count("tasks_failed")
        return [Report(
            pid=told.count("pid"), concurrency=places, running=min(active, places), reserved=max(0, active - places),
            processed=told.count("tasks_processed") + failed, failed=failed, queues=[told.text("queue")],
        )]
    except BadEntry:
        return []
