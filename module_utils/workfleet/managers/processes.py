"""The processes of this host, read once: sums over a process and all below it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class _Process:
    parent: int
    started: int
    memory_bytes: int
    cpu_seconds: float


class Processes:
    """The host's processes as they are at the first question, for sums over a process and all below it."""

    def __init__(self) -> None:
        self._all: dict[int, _Process] | None = None
        self._children: dict[int, list[int]] = {}

    def usage(self, pid: int) -> tuple[int | None, float | None]:
        """Return resident memory and CPU time (children that ended included) of a process tree."""
        known = self._read()
        if pid not in known:
            return None, None
        tree = [pid]
        for member in tree:  # grows while it is walked
            tree += self._children.get(member, [])
        return sum(known[one].memory_bytes for one in tree), sum(known[one].cpu_seconds for one in tree)

    def age(self, pid: int) -> float | None:
        """Return the seconds since a process was started."""
        process = self._read().get(pid)
        if process is None:
            return None
        # Not /proc/uptime, which is the container's own in some containers, while start times are the kernel's.
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / os.sysconf("SC_CLK_TCK"))

    def _read(self) -> dict[int, _Process]:
        if self._all is None:
            self._all = {int(entry): process for entry in os.listdir("/proc") if entry.isdigit()
                         for process in [_process(entry)] if process is not None}
            for pid, process in self._all.items():
                self._children.setdefault(process.parent, []).append(pid)
        return self._all


def _process(pid: str) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    ticks = sum(int(field) for field in fields[11:15])
    return _Process(int(fields[1]), int(fields[19]), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
                    ticks / os.sysconf("SC_CLK_TCK"))
