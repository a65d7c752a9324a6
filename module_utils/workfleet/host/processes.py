"""Who a process is, and what it uses.

A number in a run record, in an answer of supervisord, in a pid file or in an environment is a claim: whoever wrote it may
name any process of this host. It counts once the process behind it was looked at: that it is its owner's by all of its user
ids, in the control group that it has to be in, and as old as was said. The look is taken with the process held by a
descriptor (a pidfd), which no later process of that number can take over. Nothing else in this package sends a signal, but
to a child of its own that it has not reaped yet.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from .kernel import Stat, groups_of, stat, uid_of, uids_of
from .kernel import members as members
from .kernel import pids as pids
from .kernel import unit_at as unit_at

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIT_PREFIX = "workfleet."
#: No more is read of an environment.
ENVIRONMENT_BYTES = 4 << 20
#: What a process leaves behind by forking while its group is killed is killed in the next round.
KILL_ROUNDS = 20

#: System calls, of the same number on all machines that Debian runs on.
_PIDFD_SEND_SIGNAL, _PIDFD_OPEN = 424, 434


class Foreign(WorkfleetError):
    """A process is there, and it is not its alleged owner's."""


@dataclass(frozen=True)
class Owner:
    """Whose a process has to be: of this user by its real, effective and saved id, in the control group of this unit.

    ``None`` stands for any user, where systemd keeps a group of what the app's unit has started, be it by ``sudo``, and for a
    host without such groups.
    """

    uid: int | None
    unit: str | None = None


@dataclass(frozen=True)
class Process:
    """A process that was looked at: its number, when it was started (clock ticks since boot), and its owner."""

    pid: int
    started: int
    owner: Owner


def look(pid: object, owner: Owner, started: object = None) -> Process | None:
    """Return the live process that is claimed to be ``owner``'s; ``None`` where there is none, or one of another start time.

    Raises :class:`Foreign` where the process is another's.
    """
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 2**31:
        return None
    with _held(pid) as handle:
        return None if handle is None else _looked(pid, handle, owner, started)


def alive(pid: object, owner: Owner, started: object = None) -> Process | None:
    """Return as :func:`look`; another's process is none."""
    try:
        return look(pid, owner, started)
    except Foreign:
        return None


def send(process: Process, number: int) -> bool:
    """Send a signal to a process that was looked at, if it is still the same and its owner's; return whether it was."""
    with _held(process.pid) as handle:
        try:
            if handle is None or _looked(process.pid, handle, process.owner, process.started) is None:
                return False
            _signal(handle, number)
        except (Foreign, ProcessLookupError):
            return False
    return True


def kill_group(leader: Process) -> None:
    """Kill a process and all of its process group that are its owner's, those too that are forked meanwhile."""
    doomed: list[Process] = [leader]
    for _ in range(KILL_ROUNDS):
        for process in doomed:
            send(process, signal.SIGKILL)
        found = (alive(pid, leader.owner) for pid, process in _all().items() if process.group == leader.pid)
        doomed = [process for process in found if process is not None]
        if not doomed:
            return


def start_time(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot (field 22 of ``/proc/<pid>/stat``), or ``None``."""
    process = stat(pid)
    return None if process is None else process.started


def unit_of(pid: int, run_directory: str | None = None) -> str:
    """Return the unit of ours that a process belongs to, by its name without ``.service``, or nothing.

    Under systemd the kernel tells. The nodes of one supervisord are in one group: which of them a process belongs to stands in
    its environment, by which an app can deceive us about its own nodes only. Where no service manager is, an environment counts
    that names a record in ``run_directory`` (by default that of the app), of a process of the directory's owner or of ours.
    """
    for group in groups_of(pid):
        unit = unit_at(group)
        if unit.startswith(UNIT_PREFIX) and unit.endswith(".service"):
            unit = unit[: -len(".service")]
            app, _, what = unit[len(UNIT_PREFIX):].partition(".")
            if what != "supervisord":
                return unit
            claimed = _claimed_unit(pid)[1]
            return claimed if claimed.startswith(f"{UNIT_PREFIX}{app}.") else ""
    directory, unit = _claimed_unit(pid)
    if not unit:
        return ""
    uid = uid_of(pid)
    if run_directory is None:
        is_there = uid == os.geteuid() or directory == f"/run/workfleet/{unit[len(UNIT_PREFIX):].partition('.')[0]}"
    else:
        is_there = directory == run_directory
    return unit if is_there and uid is not None and uid in (os.geteuid(), owner_of(directory)) else ""


def owner_of(path: str) -> int | None:
    """Return the user whose a directory is."""
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


class Processes:
    """The host's processes as they are at the first question, for sums over a process and all below it."""

    def __init__(self) -> None:
        self._known: dict[int, Stat] | None = None
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

    def _read(self) -> dict[int, Stat]:
        if self._known is None:
            self._known = _all()
            for pid, process in self._known.items():
                self._children.setdefault(process.parent, []).append(pid)
        return self._known


def _all() -> dict[int, Stat]:
    return {pid: process for pid in pids() for process in [stat(pid)] if process is not None}


def _claimed_unit(pid: int) -> tuple[str, str]:
    """Return the directory and the unit of the run record that a process inherited the path of; empty where it tells none of ours."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = dict(line.split(b"=", 1) for line in file.read(ENVIRONMENT_BYTES).split(b"\0") if b"=" in line)
    except OSError:
        return "", ""
    directory, name = os.path.split(environment.get(b"WORKFLEET_RECORD", b"").decode(errors="replace"))
    unit, kind = os.path.splitext(name)
    return (directory, unit) if kind == ".json" and unit.startswith(UNIT_PREFIX) else ("", "")


def _open(pid: int) -> int:
    """Return a pidfd, of which a Python that was built with old headers knows nothing, be the kernel new."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    return _call(_PIDFD_OPEN, pid, 0)


def _signal(handle: int, number: int) -> None:
    if hasattr(signal, "pidfd_send_signal"):
        signal.pidfd_send_signal(handle, number)
    else:
        _call(_PIDFD_SEND_SIGNAL, handle, number, None, 0)


def _call(number: int, *arguments: int | None) -> int:
    done = int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


@contextmanager
def _held(pid: int) -> Iterator[int | None]:
    """Yield a descriptor of a process; ``None`` where there is none of that number."""
    try:
        handle = _open(pid)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EINVAL, errno.ENOENT):  # the second and third of a thread's number
            raise WorkfleetError(f"process {pid} cannot be looked at ({error.strerror}); nothing was done to it") from error
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _looked(pid: int, handle: int, owner: Owner, started: object) -> Process | None:
    now, uids, groups = stat(pid), uids_of(pid), groups_of(pid)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    # What was read is this process's only if it has not ended until now: then its number cannot have been given away.
    if poll.poll(0) or now is None or now.is_dead or (started is not None and started != now.started):
        return None
    if owner.uid is not None and uids != {owner.uid}:
        raise Foreign(f"process {pid} is not the app's: it is of user {', '.join(map(str, sorted(uids)))}, not {owner.uid}")
    if owner.unit is not None and owner.unit not in map(unit_at, groups):
        raise Foreign(f"process {pid} is not the app's: it is in the control group {', '.join(sorted(groups))}, not that of {owner.unit}")
    return Process(pid, now.started, owner)
