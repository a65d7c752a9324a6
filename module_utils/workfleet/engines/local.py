"""This host's processes that belong to a node, whatever name a worker gave itself on the broker."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..host import processes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_TICKS = os.sysconf("SC_CLK_TCK")
#: A younger process may be a look at the broker before the worker is started.
_NO_LOOK_SECONDS = 3.0
_ESTABLISHED = "01"


@dataclass(frozen=True)
class Process:
    """A process of a node, with what the kernel counts of it: minor page faults, and user CPU time in clock ticks."""

    node: str
    started: int
    faults: int
    ticks: int


def pids_of(app: str, run_directory: str) -> dict[str, list[int]]:
    """Return by unit all processes of an app, children that outlived their worker too."""
    found: dict[str, list[int]] = {}
    for pid in processes.pids():
        unit = processes.unit_of(pid, run_directory)
        if unit.startswith(f"{processes.UNIT_PREFIX}{app}."):
            found.setdefault(unit, []).append(pid)
    return found


def node_of(pid: int, nodes: Iterable[str]) -> str | None:
    """Return which of these nodes (names on the broker) a process belongs to."""
    units = {f"workfleet.{node.rpartition('@')[0]}": node for node in nodes}
    return units.get(processes.unit_of(pid))


def of_nodes(nodes: Collection[str], pids: Iterable[int] | None = None) -> dict[int, Process]:
    """Return the processes of these nodes, of all on this host or of ``pids``."""
    found = {}
    for pid in processes.pids() if pids is None else pids:
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
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    return before.faults <= faults <= after.faults and before.ticks <= ticks < after.ticks + 1


def wrapped(main: int, unit: str, port: int) -> int | None:
    """Return the process of a unit that is connected to a broker's port, where the unit's main process is not.

    Then the one is the worker, and the other waits for it. Nothing is said where nobody is connected yet, and of what cannot be read.
    """
    try:
        connections = _connections(main, port)
        if not connections or _holds(main, connections):
            return None
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for pid in processes.pids():
            counted = _counted(pid) if pid != main and processes.unit_of(pid) == unit else None
            if counted and now - counted[0] / _TICKS > _NO_LOOK_SECONDS and _holds(pid, connections):
                # It may have connected since the first look.
                return None if _holds(main, _connections(main, port)) else pid
    except OSError:
        return None
    return None


def _connections(pid: int, port: int) -> set[str]:
    """Return the connections to a port in the network of a process, as its descriptors name them."""
    found = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/net/{name}", encoding="ascii") as file:
            for fields in (line.split() for line in file.readlines()[1:]):
                if fields[3] == _ESTABLISHED and int(fields[2].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _holds(pid: int, connections: Collection[str]) -> bool:
    """Whether a process has one of these open."""
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/{pid}/fd/{entry}") in connections:
                return True
    return False


def _counted(pid: int) -> tuple[int, int, int] | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return int(fields[19]), int(fields[7]), int(fields[11])
