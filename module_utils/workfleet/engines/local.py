"""This host's processes that belong to a node, whatever name a worker gave itself on the broker.

The launcher names a node's run record after its unit, and leaves the record's path in the environment, which every
process below it inherits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process of a node, with what the kernel counts of it: minor page faults, and user CPU time in clock ticks."""

    node: str
    started: int
    faults: int
    ticks: int


def unit_of(pid: int) -> str:
    """Return the unit that a process belongs to, or nothing."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = dict(line.split(b"=", 1) for line in file.read().split(b"\0") if b"=" in line)
    except OSError:
        return ""
    name, kind = os.path.splitext(os.path.basename(environment.get(b"WORKFLEET_RECORD", b"").decode(errors="replace")))
    return name if kind == ".json" else ""


def node_of(pid: int, nodes: Iterable[str]) -> str | None:
    """Return which of these nodes (names on the broker) a process belongs to."""
    units = {f"workfleet.{node.rpartition('@')[0]}": node for node in nodes}
    return units.get(unit_of(pid))


def processes(nodes: Collection[str], pids: Iterable[int] | None = None) -> dict[int, Process]:
    """Return the processes of these nodes, of all on this host or of ``pids``."""
    found = {}
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()) if pids is None else pids:
        node = node_of(pid, nodes)
        counted = _counted(pid) if node else None
        if node and counted:
            found[pid] = Process(node, *counted)
    return found


def is_same(before: Process | None, usage: Mapping[str, Any], after: Process | None) -> bool:
    """Whether ``usage``, a ``getrusage`` that came over the broker, was taken of this process between two looks at it.

    A pid alone proves nothing: another host has a process of that number. Its counters are another's too.
    """
    if before is None or after is None or before.started != after.started:
        return False
    try:
        faults, ticks = int(usage["minflt"]), float(usage["utime"]) * _TICKS
    except (KeyError, TypeError, ValueError):
        return False
    return before.faults <= faults <= after.faults and before.ticks <= ticks < after.ticks + 1


def _counted(pid: int) -> tuple[int, int, int] | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return int(fields[19]), int(fields[7]), int(fields[11])
