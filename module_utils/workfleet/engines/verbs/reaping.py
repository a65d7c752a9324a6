"""What dead workers left behind, whatever the engine: what is known of the living, and what became of the rest.

A process is proved dead where it was at work before the hosts were looked at, and then was on none of them. So what is
held is noted first, and what was not there then is not touched: a node that starts meanwhile may have taken it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from ... import resp
from ...decode import Unread
from ...errors import WorkfleetError
from ...model import Name
from . import figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: So long a heartbeat is watched; arq's nodes keep one for 21 s, Chicory's for 30 s, unless they are told otherwise.
WATCH_SECONDS = 60.0
_POLL_SECONDS = 0.2
#: Bytes of what a node tells of itself.
LARGEST_BEAT = 64 << 10
# Only what is as it was seen.
_FORGET = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


@dataclass(frozen=True)
class Reaping:
    """What is asked for. ``url`` and ``result_url`` are secret.

    ``processes`` are the pids of each node that has any, by its name on the broker as the toolkit gives it, ``running``
    those of them that may be this engine's, ``names`` the name under which one answers where that is another one.
    ``hosts`` were looked at. ``seen`` is what :func:`note` returned before that. Celery looks twice, ``seconds`` apart, and
    waits for answers for ``timeout``. With ``force`` the nodes of hosts that are not in the inventory are dead.
    """

    app: str
    url: str
    queues: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    result_url: str = ""
    hosts: Sequence[str] = ()
    processes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    running: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 10.0
    timeout: float = 5.0
    force: bool = False

    def doubt(self, node: str, pid: int | None = None, *, beats: bool = False) -> str | None:
        """Say why a node, or this one process of it, may be alive; ``None`` where it is proved dead. ``beats``: it has a heartbeat."""
        if not self.is_known(node):
            if beats:
                return "its heartbeat is in the broker"
            if self.force:
                return None
            return (f"{node.rpartition('@')[2]} is not in the inventory, so nobody looked whether it runs there; where the machine is gone "
                    "for good: -e force=true")
        pids = list(self.processes.get(node, ()))
        return f"its process {pid or pids[0]} is there" if pids and pid in (None, *pids) else None

    def is_known(self, node: str) -> bool:
        """Whether a node's host was looked at."""
        return node.rpartition("@")[2] in self.hosts


@dataclass
class Found:
    """What was done, or would be.

    ``returned``: tasks that went back to their queue. ``dead``: tasks that must not run twice, now among the dead letters.
    ``forgotten``: names of nodes whose records went. ``unbound``: bindings of queues that went. ``left``: sentences.
    """

    returned: list[dict[str, Any]] = field(default_factory=list)
    dead: list[dict[str, Any]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    unbound: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """For people and programs."""
        self.forgotten = sorted(set(self.forgotten))
        return {"changed": any((self.returned, self.dead, self.forgotten, self.unbound)), **asdict(self)}


def task(queue: str, identity: str, name: str | None) -> dict[str, Any]:
    """One task as it is told."""
    return {"queue": queue, "id": identity, "task": name}


def watched(
    order: Reaping, holders: Iterable[str], heard: Callable[[str], str | None], pid_of: Callable[[str], int | None]
) -> dict[str, str]:
    """Return by node the heartbeat after which any other is a sign of life; ``heard`` returns the one that is there now.

    That is the one that was noted. Where it has been renewed since, that may have been before the hosts were looked at, by a
    process that died before they were. So the new one is watched until it has run out, or is renewed once more.
    """
    before: dict[str, str] = dict(order.seen["beats"])
    found = {}
    for node in set(holders):
        now = heard(node)
        if now is None or now == before.get(node) or pid_of(before.get(node, now)) != pid_of(now):
            continue
        if order.doubt(node, beats=True) is None:
            found[node] = now
    same, until = dict(found), time.monotonic() + WATCH_SECONDS
    while same and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        same = {node: beat for node, beat in same.items() if heard(node) == beat}
    return {**before, **{node: beat for node, beat in found.items() if node not in same}}


def renewed(before: str | None, now: str | None, *, same: bool) -> str | None:
    """Say that a node has told of itself since then, as the same process: it lives, though no host has it."""
    return "it has renewed its heartbeat, and no host has its process" if now is not None and now != before and same else None


def values(client: resp.Client, start: str) -> dict[str, str]:
    """Return what stands under keys that begin so, by the rest of their names."""
    names, complete = figures.keys(client, f"{start}*", "string")
    if not complete:
        raise WorkfleetError(f"the database has too many keys to find all {start}*; nothing was returned")
    return {resp.text(name)[len(start):]: resp.text(value) for name, value in figures.strings(client, names, Unread(), LARGEST_BEAT)
            if value is not None}


def is_gone(client: resp.Client, key: str, value: str, *, check: bool) -> bool:
    """Delete a key that is as it was seen; whether it went, or would."""
    if check:
        return resp.text(client.call("GET", key)) == value
    return bool(client.call("EVAL", _FORGET, 1, key, value))


@dataclass(frozen=True)
class Beats:
    """The heartbeats that nodes keep in the broker, each under ``start`` and its node's name; ``pid_of`` tells who wrote one."""

    start: str
    pid_of: Callable[[str], int | None]

    def of(self, client: resp.Client, node: str) -> str | None:
        """Return a node's heartbeat."""
        (_, beat), = figures.strings(client, [self.start + node], Unread(), LARGEST_BEAT)
        return resp.text(beat) or None

    def watched(self, client: resp.Client, order: Reaping, holders: Iterable[str]) -> dict[str, str]:
        """Return by node the heartbeat after which any other is a sign of life."""
        return watched(order, holders, lambda node: self.of(client, node), self.pid_of)

    def doubt(self, client: resp.Client, order: Reaping, node: str, before: str | None, pid: int | None = None) -> tuple[str | None, bool]:
        """Say why a node may be alive (``None`` where it is proved dead), and whether that is worth telling.

        ``before`` is its heartbeat, as it was watched; ``pid`` its process, where what it holds names one. A node that is at work is
        no news.
        """
        now = self.of(client, node)
        is_there = order.doubt(node, pid, beats=now is not None)
        writer = pid if pid is not None or before is None else self.pid_of(before)
        same = (pid is None and before is None) or self.pid_of(now or "") == writer
        return is_there or renewed(before, now, same=same), not (is_there and order.is_known(node))

    def forget(self, client: resp.Client, order: Reaping, beats: Mapping[str, str], found: Found, *, check: bool) -> None:
        """Delete the heartbeats of the app's dead nodes."""
        for node, beat in beats.items():
            dead = app_of(node) == order.app and order.doubt(node, self.pid_of(beat), beats=True) is None
            if dead and is_gone(client, self.start + node, beat, check=check):
                found.forgotten.append(node)


def app_of(node: str) -> str | None:
    """Return the app that a node's name on the broker tells; ``None`` where it is no name of the toolkit's."""
    name = Name.of_node(node)
    return None if name is None else name.app
