"""systemd as process manager: one unit a node, all of them handled by few ``systemctl`` calls."""

from __future__ import annotations

import glob
import os
import time
from typing import TYPE_CHECKING

from .. import host
from ..errors import WorkfleetError
from .base import OWNER_LINE, Manager, Name, Present, line_value, process_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNITS = "/etc/systemd/system"
WANTS = f"{UNITS}/multi-user.target.wants"
PROPERTIES = (
    "Id", "ActiveState", "SubState", "MainPID", "NRestarts", "Result", "NeedDaemonReload", "ExecMainStatus", "ExecMainCode",
    "ExecMainStartTimestampMonotonic", "StateChangeTimestampMonotonic", "MemoryCurrent", "CPUUsageNSec",
)
#: ``systemctl`` says 2**64-1 or ``[not set]`` for what it does not know.
UNKNOWN_FIGURES = ("", "[not set]", "infinity", str(2**64 - 1))


class Systemd(Manager):
    """Units of the system's own systemd."""

    def path(self, name: Name) -> str:
        """Return the unit file of a node."""
        return f"{UNITS}/{name}.service"

    def present(self) -> list[Present]:
        """Return the nodes of this app: those with a file, and those that are only loaded any more."""
        pattern = f"workfleet.{self.app}.*.service"
        return self.looks(self.files(glob.glob(f"{UNITS}/{pattern}")), self.loaded([pattern]))

    def present_of(self, names: Sequence[Name]) -> list[Present]:
        """Return those of these nodes that are there: systemd tells of a unit in a millisecond, of a hundred in 0.1 s."""
        if not names:
            return []
        return self.looks(self.files([self.path(name) for name in names]), self.loaded(units(names)))

    def looks(self, texts: dict[Name, str], loaded: dict[Name, dict[str, str]]) -> list[Present]:
        """Put files and loaded units together."""
        found = []
        for name in sorted({*texts, *loaded}):
            node = self.look(name, texts.get(name), loaded.get(name, {}))
            if node is not None:
                found.append(node)
        return found

    def declared_here(self) -> list[Name]:
        """Return the nodes that have a unit file."""
        return sorted(self.files(glob.glob(f"{UNITS}/workfleet.{self.app}.*.service")))

    def files(self, paths: Iterable[str]) -> dict[Name, str]:
        """Return the unit texts that are this app's own."""
        found = {}
        for path in paths:
            name = Name.parse(os.path.basename(path)[: -len(".service")])
            text = host.read(path)
            if name is not None and line_value(text, OWNER_LINE) == self.app:
                found[name] = text or ""
        return found

    def loaded(self, patterns: Sequence[str]) -> dict[Name, dict[str, str]]:
        """Return what systemd knows of these units of this app, by one call."""
        shown = host.run(["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", *patterns])
        found = {}
        for block in shown.out.split("\n\n"):
            properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            name = Name.parse(properties.get("Id", "")[: -len(".service")])
            if name is not None and name.app == self.app:
                found[name] = properties
        return found

    def look(self, name: Name, text: str | None, properties: dict[str, str]) -> Present | None:
        """Return one node, or None for a unit that systemd merely remembers."""
        activity = activity_of(properties)
        if text is None and activity in ("stopped", "failed"):
            return None
        enabled = os.path.islink(f"{WANTS}/{name}.service")
        if properties.get("SubState") == "failed" and not enabled:
            # It was told to stop and ended badly; systemd tries everything else again, and says so by another state.
            activity = "stopped"
        pid = int(properties.get("MainPID", "0")) or None
        generation, record = (None, None) if pid is None else self.identify(name, pid)
        memory, cpu = figure(properties, "MemoryCurrent"), figure(properties, "CPUUsageNSec")
        usage = (None, None) if pid is None or (memory is not None and cpu is not None) else process_usage(pid)
        return Present(
            name=name, text=text, enabled=enabled, activity=activity, pid=pid,
            generation=generation, record=record, restarts=int(properties.get("NRestarts", "0") or 0),
            uptime_seconds=since(properties, "ExecMainStartTimestampMonotonic") if pid else None,
            stopping_seconds=since(properties, "StateChangeTimestampMonotonic") if activity == "stopping" else None,
            memory_bytes=memory if memory is not None else usage[0],
            cpu_seconds=cpu / 1e9 if cpu is not None else usage[1],
            needs_reload=properties.get("NeedDaemonReload") == "yes",
            result=outcome(properties),
        )

    def write(self, name: Name, text: str) -> None:
        """Write a unit file, but never over one that is not this app's."""
        present = host.read(self.path(name))
        if present is not None and line_value(present, OWNER_LINE) != self.app:
            raise WorkfleetError(f"{self.path(name)} is not Workfleet's for the app {self.app}; move it away first")
        host.write(self.path(name), text)

    def reload(self) -> None:
        """Have systemd read its files again."""
        systemctl("daemon-reload")

    def enable(self, names: Sequence[Name]) -> None:
        """Link the units below multi-user.target.

        By hand: ``systemctl enable --no-reload`` leaves systemd 257 thinking that every unit needs a reload, and
        with a reload it costs as much as that.
        """
        host.directory(WANTS)
        for name in names:
            host.link(self.path(name), f"{WANTS}/{name}.service")

    def disable(self, names: Sequence[Name]) -> None:
        """Unlink the units. By hand: ``systemctl disable`` refuses a unit whose file is gone."""
        for name in names:
            host.remove(f"{WANTS}/{name}.service")

    def start(self, names: Sequence[Name]) -> None:
        """Queue the starts; a record from before must not count towards the new start's restarts."""
        for name in names:
            host.remove(self.record_path(name))
        # One in the pause before a restart of its own would not take the start, and would count that restart.
        systemctl("stop", "--", *units(names), check=False)
        systemctl("reset-failed", "--", *units(names), check=False)
        systemctl("start", "--no-block", "--", *units(names))

    def stop(self, names: Sequence[Name]) -> None:
        """Queue the stops."""
        systemctl("stop", "--no-block", "--", *units(names))

    def remove(self, names: Sequence[Name]) -> None:
        """Remove unit files, links and records, and forget failures."""
        for name in names:
            for path in (f"{WANTS}/{name}.service", self.path(name), self.record_path(name)):
                host.remove(path)
        systemctl("reset-failed", "--", *units(names), check=False)

    def log(self, name: Name, lines: int) -> list[str]:
        """Return the unit's last journal lines."""
        said = host.run(["journalctl", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={name}.service"], check=False)
        return said.out.splitlines()


def systemctl(*words: str, check: bool = True) -> None:
    """Run one ``systemctl`` call for many units."""
    host.run(["systemctl", *words], check=check, timeout=120)


def units(names: Iterable[Name]) -> list[str]:
    """Return unit names."""
    return [f"{name}.service" for name in names]


def activity_of(properties: dict[str, str]) -> str:
    """Map systemd's states to ours; a pause before an automatic restart is a failure that systemd will mend."""
    state, sub = properties.get("ActiveState", "inactive"), properties.get("SubState", "")
    if state in ("active", "reloading"):
        return "running"
    if state == "activating":
        return "failed" if sub == "auto-restart" else "starting"
    return {"deactivating": "stopping", "failed": "failed"}.get(state, "stopped")


def outcome(properties: dict[str, str]) -> str | None:
    """Say how the last process ended, or None where nothing ended badly."""
    result = properties.get("Result", "success")
    if result == "success" and activity_of(properties) != "failed":
        return None
    status = properties.get("ExecMainStatus", "0")
    return f"{result}, status {status}" if status != "0" else result


def figure(properties: dict[str, str], key: str) -> int | None:
    """Return a number that systemd knows, or None."""
    value = properties.get(key, "")
    return None if value in UNKNOWN_FIGURES else int(value)


def since(properties: dict[str, str], key: str) -> float | None:
    """Return the seconds that have passed since a monotonic time stamp in microseconds."""
    stamp = figure(properties, key)
    return None if not stamp else max(0.0, time.clock_gettime(time.CLOCK_MONOTONIC) - stamp / 1e6)
