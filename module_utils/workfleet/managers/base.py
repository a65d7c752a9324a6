"""The interface of a process manager, and the identity of what it runs.

A manager knows units: which exist, which run, what each process was started with, and how to start and stop many
at once. It knows nothing of engines, and decides nothing.
"""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import WorkfleetError
from ..host import effects, envfile, processes
from ..host.processes import Owner
from ..model import Name
from .records import TEXT_CHARACTERS, Broken, Claim, Record, decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from . import logs

OWNER_LINE = "X-Workfleet-App="
GENERATION_LINE = "X-Workfleet-Generation="
LOG_LINE = "X-Workfleet-Log="
#: Where each manager has the file of a node, by the manager's name.
NODE_FILES = {"systemd": "/etc/systemd/system/{node}.service", "supervisor": "{root}/supervisor/programs/{node}.conf"}


@dataclass(frozen=True)
class Present:
    """A node as it is on the host.

    ``text`` is its unit or program file, ``None`` where only a process or a loaded unit is left.
    ``activity`` is one of ``running`` (a process is up), ``starting`` (up, its readiness not yet told),
    ``stopping``, ``stopped``, ``failed`` (down against the wish of its file: crashed, in a restart pause, given up).
    ``record`` is ``None`` where nothing runs, and where what runs has no readable record: ``generation`` is then what
    ``/proc/<pid>/environ`` tells, or ``None`` for unknown. Both are the process's own word; ``doubt`` says what is wrong with it.
    """

    name: Name
    text: str | None
    enabled: bool
    activity: str
    pid: int | None = None
    generation: str | None = None
    record: Record | None = None
    restarts: int = 0
    uptime_seconds: float | None = None
    stopping_seconds: float | None = None
    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    needs_reload: bool = False
    result: str | None = None
    doubt: str | None = None

    @property
    def is_up(self) -> bool:
        """Whether a process of this node exists."""
        return self.activity in ("running", "starting", "stopping")

    @property
    def file_generation(self) -> str | None:
        """The generation that the unit's text declares."""
        return line_value(self.text, GENERATION_LINE)


def line_value(text: str | None, prefix: str) -> str | None:
    """Return what stands behind ``prefix`` (a comment sign before it is skipped) in a unit or program text."""
    for line in (text or "").splitlines():
        bare = line.lstrip("; ")
        if bare.startswith(prefix):
            return bare[len(prefix):].strip()
    return None


class Manager(ABC):
    """Intended and present nodes of one app on this host.

    All calls take many names at once: cost hardly grows with their number. ``start`` and ``stop`` return at once;
    whoever needs to know looks at ``present`` again.
    """

    #: Seconds after which a start that crashed is tried again; told to people, not used to decide.
    def __init__(self, app: str, root: str, run_directory: str) -> None:
        self.app = app
        self.root = root
        self.run_directory = run_directory

    @abstractmethod
    def present(self) -> list[Present]:
        """Return every node of this app on this host, sorted by name. Never a node of another app."""

    def present_of(self, names: Sequence[Name]) -> list[Present]:
        """Return those of these nodes that are there, sorted by name. A manager that asks for each node asks for few."""
        wanted = set(names)
        return [node for node in self.present() if node.name in wanted]

    @abstractmethod
    def declared_here(self) -> list[Name]:
        """Return the nodes of this app that have a unit or program file here; asks nobody but the disk."""

    @abstractmethod
    def path(self, name: Name) -> str:
        """Return where the unit or program file of a node stands."""

    @abstractmethod
    def reload(self) -> None:
        """Make the manager read the files that were written or removed since."""

    @abstractmethod
    def enable(self, names: Sequence[Name]) -> None:
        """Start these at boot."""

    @abstractmethod
    def disable(self, names: Sequence[Name]) -> None:
        """Do not start these at boot."""

    @abstractmethod
    def start(self, names: Sequence[Name]) -> None:
        """Begin to start these and return; the count of restarts begins anew."""

    @abstractmethod
    def stop(self, names: Sequence[Name]) -> None:
        """Send the stop signal to these and return; they go on until their tasks are done."""

    @abstractmethod
    def kill(self, nodes: Sequence[Present]) -> None:
        """End these, which were told to stop, at once with all their children; what they run is cut short."""

    @abstractmethod
    def remove(self, names: Sequence[Name]) -> None:
        """Remove every trace of nodes of which no process is left: files, records, and what the manager remembers."""

    @abstractmethod
    def log(self, name: Name, lines: int) -> list[str]:
        """Return the last lines that a node wrote, oldest first; empty where it wrote none."""

    @abstractmethod
    def streams(self, name: Name, wish: logs.Wish) -> list[logs.Stream]:
        """Return what a node wrote and what was said about it, at least as far back as is wanted or as is kept."""

    def sweep(self) -> list[str]:
        """End what stopped nodes left behind, where none is to run and the manager does not do that; say what it was."""
        return []

    def prepare(self, wanted: Wanted) -> list[str]:
        """Return what of the manager's own service is missing or differs (reasons for people); see ``install``."""
        return []

    def install(self, wanted: Wanted) -> None:  # noqa: B027 - a manager that needs no service of its own has nothing to do
        """Make the manager's own service as ``prepare`` found it wanting."""

    def uninstall(self) -> None:  # noqa: B027 - as install
        """Remove the manager's own service; an error while a node of the app is up."""

    def write(self, name: Name, text: str) -> None:
        """Write a node's unit or program file."""
        effects.write(self.path(name), text)

    def record_path(self, name: Name) -> str:
        """Return where the launcher of a node writes its run record."""
        return os.path.join(self.run_directory, f"{name}.json")

    def zone(self, name: Name) -> str | None:
        """Return the ``TZ`` of a node's process: what its runner tells, since an app may set one itself, or its environment's."""
        told = read_json(self.record_path(name)).get("zone")
        if isinstance(told, str):
            return told
        with suppress(OSError, WorkfleetError):
            text = effects.read(os.path.join(self.root, "env", f"{name}.env"), limit=effects.LARGEST_ENVIRONMENT)
            return envfile.parse(text or "").get("TZ")
        return None

    def record_times(self, names: Iterable[Name]) -> dict[Name, int]:
        """Return when the run records that are there were written last, in nanoseconds."""
        found = {}
        for name in names:
            with suppress(effects.Unreadable):
                status = effects.status(self.record_path(name))
                if status is not None:
                    found[name] = status.st_mtime_ns
        return found

    def mark_path(self, name: Name) -> str:
        """Return the file that tells a node to take no new tasks. It stands beside the environment file, where the node
        may read it, and outlives process and boot.
        """
        return os.path.join(self.root, "env", f"{name}.quiesced")

    def mark(self, name: Name, since: float, queues: Sequence[str] = (), pid: int | None = None) -> None:
        """Write the mark of a node: since when (Unix time) it is to take no new tasks; ``queues`` are those that it consumed.

        Of a node that heeds no mark ``pid`` is the process that was told, once one was.
        """
        process = None if pid is None else [pid, processes.start_time(pid)]
        effects.write(self.mark_path(name), json.dumps({"since": since, "queues": list(queues), "process": process}) + "\n")

    def has_mark(self, name: Name) -> bool:
        """Whether a node has its mark."""
        return effects.exists(self.mark_path(name))

    def marked(self, name: Name) -> dict[str, Any]:
        """Return what stands in the mark of a node; a person may have made an empty one."""
        return read_json(self.mark_path(name))

    def would_be_quiet(self, node: Present) -> bool:
        """Whether a node is stopped, to be started again, and has a mark that would keep it quiet then."""
        return node.activity == "stopped" and self.has_mark(node.name) and self.leaving_since(node.name) is None

    def note_path(self, name: Name) -> str:
        """Return where the note of a node stands that is to go, see :mod:`leave`; beside its mark, and as long-lived."""
        return os.path.join(self.root, "env", f"{name}.leaving")

    def leaving_since(self, name: Name) -> float | None:
        """Return when a node was told to go (Unix time), as long as what became of it has not been written down."""
        note = read_json(self.note_path(name))
        return None if note.get("line") else note.get("since")

    def as_told(self, node: Present) -> Present:
        """Return a node that is to go as one that stops: the manager itself is told only when the node is idle."""
        since = self.leaving_since(node.name) if node.activity in ("running", "starting", "failed") else None
        return node if since is None else replace(node, activity="stopping", stopping_seconds=max(0.0, time.time() - since))

    def owner(self, name: Name) -> Owner:
        """Return whose a process has to be that is this node's."""
        uid = processes.owner_of(self.run_directory)
        return Owner(os.geteuid() if uid is None else uid)

    def claim(self, name: Name) -> Claim | None:
        """Return what stands in a node's run record. Raises :class:`Broken`."""
        try:
            text = effects.read(self.record_path(name), limit=effects.LARGEST_RECORD, theirs=True)
        except OSError as error:
            raise Broken(str(error)) from error
        return None if text is None else decode(text, str(name))

    def lives(self, names: Iterable[Name]) -> dict[Name, tuple[int | None, Record | None]]:
        """Return the live process of each of these nodes, and what it tells of itself.

        This may be asked ten times a second. So a record is believed that names a process of its node; of the others the
        service manager is asked, for a node that hides its record is not down.
        """
        found: dict[Name, tuple[int | None, Record | None]] = {}
        silent = []
        for name in names:
            with suppress(Broken):
                claim = self.claim(name)
                if claim is not None and processes.alive(claim.pid, self.owner(name), claim.started):
                    found[name] = claim.pid, claim.record
            if name not in found:
                silent.append(name)
        pids = {node.name: node.pid for node in self.present_of(silent) if node.is_up} if silent else {}
        return {**{name: (pids.get(name), None) for name in silent}, **found}

    def identify(self, name: Name, pid: int) -> tuple[str | None, Record | None, str | None]:
        """Return the generation that process ``pid`` says it runs, its record, and what is wrong with that, as far as they can be told.

        The record counts only where its pid and start time are those of the live process: a pid is used again.
        """
        doubt = None
        try:
            claim = self.claim(name)
            if claim is not None and (claim.pid, claim.started) == (pid, processes.start_time(pid)):
                return claim.record.generation, claim.record, None
        except Broken as error:
            doubt = f"its run record is not what a worker of ours writes ({error}); restart.yml replaces it"
        return process_generation(pid), None, doubt


@dataclass(frozen=True)
class Wanted:
    """What the manager's own service needs to know: texts of its own files by path, and the longest drain.

    ``user`` and ``group`` own what it runs; ``pip_environment`` (proxy, index, CA) is set where it installs a package.
    Used by supervisor; systemd needs nothing.
    """

    texts: dict[str, str]
    user: str
    group: str
    drain_seconds: int
    pip_environment: dict[str, str] = field(default_factory=dict)


def read_json(path: str) -> dict[str, Any]:
    """Return the mapping in a small file; what is not there, or broken, is an empty one."""
    try:
        data = json.loads(effects.read(path) or "{}")
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def process_generation(pid: int) -> str | None:
    """Return ``WORKFLEET_GENERATION`` of a live process, or ``None`` where its environment does not tell."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            for entry in file.read(processes.ENVIRONMENT_BYTES).split(b"\0"):
                if entry.startswith(b"WORKFLEET_GENERATION="):
                    return entry.partition(b"=")[2][:TEXT_CHARACTERS].decode(errors="replace") or None
    except OSError:
        pass
    return None


def process_usage(pid: int) -> tuple[int | None, float | None]:
    """Return resident memory (bytes) and CPU time (seconds) of one process, where the kernel tells no group's."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None, None
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), (int(fields[11]) + int(fields[12])) / ticks
