"""Which processes there are, whose, and in which control group: as the kernel tells, at the moment of the question."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator


@dataclass(frozen=True)
class Stat:
    """A process at one moment."""

    is_dead: bool
    parent: int
    group: int
    started: int
    memory_bytes: int
    cpu_seconds: float


def pids(uids: Container[int] | None = None) -> Iterator[int]:
    """Yield the processes of this host, those of these users alone where they are given."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (uids is None or uid_of(int(entry)) in uids):
            yield int(entry)


def stat(pid: int) -> Stat | None:
    """Return a process, unless it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        ticks = sum(int(field) for field in fields[11:15])
        return Stat(fields[0] in "ZX", int(fields[1]), int(fields[2]), int(fields[19]), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
                     ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, IndexError, ValueError):
        return None


def uids_of(pid: int) -> set[int]:
    """Return the real, effective, saved and file system's user of a process."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return {int(uid) for line in file if line.startswith("Uid:") for uid in line.split()[1:]}
    except (OSError, ValueError):
        return set()


def uid_of(pid: int) -> int | None:
    """Return the user of a process where all of its ids are the same one."""
    uids = uids_of(pid)
    return next(iter(uids)) if len(uids) == 1 else None


def groups_of(pid: int | str) -> set[str]:
    """Return the control groups of a process in the hierarchies that systemd keeps: that of version 2, and its own of version 1."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return set()
    return {line[2] for line in lines if len(line) == 3 and line[1] in ("", "name=systemd")}


def unit_at(group: str) -> str:
    """Return the unit of the system whose control group this is or lies in, in whatever slice: what stands first below slices.

    None but systemd makes groups there; what another may make, as in a container or a session, is below a unit of systemd's.
    """
    if not group.startswith(f"{_root()}/"):
        return ""
    return next((part for part in group[len(_root()) + 1:].split("/") if not part.endswith(".slice")), "")


def members(prefix: str) -> Iterator[int]:
    """Yield the processes, of whatever user, in the control groups of the units whose names begin so."""
    for pid in pids():
        if any(unit_at(group).startswith(prefix) for group in groups_of(pid)):
            yield pid


@lru_cache(maxsize=1)
def _root() -> str:
    """Return the control group below which this host's are: the root, but for a container that sees those around it."""
    ours = sorted(group[: -len("/init.scope")] for group in groups_of(1) if group.endswith("/init.scope"))
    return ours[-1] if ours else ""
