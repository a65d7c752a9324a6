"""systemd as process manager: one unit a node, all of them handled by few ``systemctl`` calls."""

from __future__ import annotations

import glob
import json
import os
import time
from typing import TYPE_CHECKING, Any

from .. import shown
from ..errors import WorkfleetError
from ..host import effects, foreign
from ..host.processes import Owner
from ..model import Name
from . import logfiles
from .base import LOG_LINE, NODE_FILES, OWNER_LINE, Manager, Present, line_value, process_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from . import logs
    from .base import Wanted

#: No more lines of a unit's journal are read than these, where a filter chooses among them.
FILTERED_LINES = 20_000
UNITS = os.path.dirname(NODE_FILES["systemd"])
WANTS = f"{UNITS}/multi-user.target.wants"
PROPERTIES = (
    "Id", "ActiveState", "SubState", "MainPID", "NRestarts", "Result", "NeedDaemonReload", "ExecMainStatus", "ExecMainCode",
    "ExecMainStartTimestampMonotonic", "StateChangeTimestampMonotonic", "MemoryCurrent", "CPUUsageNSec", "Job",
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

    @effects.one_look()
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

    @effects.one_look()
    def files(self, paths: Iterable[str]) -> dict[Name, str]:
        """Return the unit texts that are this app's own."""
        found = {}
        for path in paths:
            name = Name.parse(os.path.basename(path)[: -len(".service")])
            text = effects.read(path)
            if name is not None and line_value(text, OWNER_LINE) == self.app:
                found[name] = text or ""
        return found

    def loaded(self, patterns: Sequence[str]) -> dict[Name, dict[str, str]]:
        """Return what systemd knows of these units of this app, by one call."""
        shown = effects.run(["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", *patterns])
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
        enabled = effects.points_to(f"{WANTS}/{name}.service") is not None
        if properties.get("SubState") == "failed" and not enabled:
            # It was told to stop and ended badly; systemd tries everything else again, and says so by another state.
            activity = "stopped"
        pid = int(properties.get("MainPID", "0")) or None
        generation, record, doubt = (None, None, None) if pid is None else self.identify(name, pid)
        memory, cpu = figure(properties, "MemoryCurrent"), figure(properties, "CPUUsageNSec")
        usage = (None, None) if pid is None or (memory is not None and cpu is not None) else process_usage(pid)
        return self.as_told(Present(
            name=name, text=text, enabled=enabled, activity=activity, pid=pid,
            generation=generation, record=record, restarts=int(properties.get("NRestarts", "0") or 0),
            uptime_seconds=since(properties, "ExecMainStartTimestampMonotonic") if pid else None,
            stopping_seconds=since(properties, "StateChangeTimestampMonotonic") if activity == "stopping" else None,
            memory_bytes=memory if memory is not None else usage[0],
            cpu_seconds=cpu / 1e9 if cpu is not None else usage[1],
            needs_reload=properties.get("NeedDaemonReload") == "yes",
            result=outcome(properties), doubt=doubt,
        ))

    def owner(self, name: Name) -> Owner:
        """Return the control group of a node's unit, which the kernel keeps for whatever it forks; nobody else gets in there."""
        return Owner(None, f"{name}.service")

    def write(self, name: Name, text: str) -> None:
        """Write a unit file, but never over one that is not this app's."""
        present = effects.read(self.path(name))
        if present is not None and line_value(present, OWNER_LINE) != self.app:
            raise WorkfleetError(f"{self.path(name)} is not Workfleet's for the app {self.app}; move it away first")
        effects.write(self.path(name), text)

    def reload(self) -> None:
        """Have systemd read its files again."""
        systemctl("daemon-reload")

    def enable(self, names: Sequence[Name]) -> None:
        """Link the units below multi-user.target.

        By hand: ``systemctl enable --no-reload`` leaves systemd 257 thinking that every unit needs a reload, and
        with a reload it costs as much as that.
        """
        effects.directory(WANTS)
        for name in names:
            effects.link(self.path(name), f"{WANTS}/{name}.service")

    def disable(self, names: Sequence[Name]) -> None:
        """Unlink the units. By hand: ``systemctl disable`` refuses a unit whose file is gone."""
        for name in names:
            effects.remove(f"{WANTS}/{name}.service")

    def start(self, names: Sequence[Name]) -> None:
        """Queue the starts; a record from before must not count towards the new start's restarts."""
        again = [name for name in names if effects.remove(self.record_path(name))]
        if again:
            # One in the pause before a restart of its own would not take the start, and would count that restart.
            systemctl("stop", "--", *units(again), check=False)
            systemctl("reset-failed", "--", *units(again), check=False)
        systemctl("start", "--no-block", "--", *units(names))

    def stop(self, names: Sequence[Name]) -> None:
        """Queue the stops."""
        systemctl("stop", "--no-block", "--", *units(names))

    def kill(self, nodes: Sequence[Present]) -> None:
        """Kill every process of the units; a unit that has gone meanwhile is no error."""
        systemctl("kill", "--signal=KILL", "--", *units([node.name for node in nodes]), check=False)

    def remove(self, names: Sequence[Name]) -> None:
        """Remove unit files, links, records and logs, and forget failures."""
        logs = {name: line_value(effects.read(self.path(name)), LOG_LINE) for name in names}
        for name in names:
            for path in (f"{WANTS}/{name}.service", self.path(name), self.record_path(name)):
                effects.remove(path)
        systemctl("reset-failed", "--", *units(names), check=False)
        for name, log in logs.items():
            if log is not None:
                logfiles.remove(name, log, self.declared_here())

    def log(self, name: Name, lines: int) -> list[str]:
        """Return the last lines of the unit's log file, or of the journal where it has none or came to write nothing there."""
        path = line_value(effects.read(self.path(name)), LOG_LINE)
        found = logfiles.tail(path, lines) if path else []
        if found:
            return found
        said = effects.run(["journalctl", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={name}.service"], check=False)
        return said.out.splitlines()

    def streams(self, name: Name, wish: logs.Wish) -> list[logs.Stream]:
        """Return what the journal has of a unit and its processes, and what stands in its log files where it has some."""
        from . import logs  # most calls read none

        lines = FILTERED_LINES if wish.is_filter else max(1000, 20 * (wish.lines or 0))
        since = [] if wish.since is None else [f"--since=@{wish.since:.0f}"]
        said = effects.run(["journalctl", "--no-pager", "--output=json", "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER",
                         f"--lines={lines}", *since, f"--unit={name}.service"], check=False)
        found = [logs.Stream([journal_line(json.loads(text)) for text in said.out.splitlines() if text.startswith("{")], time.time())]
        path = line_value(effects.read(self.path(name)), LOG_LINE)
        return [*found, logfiles.stream(path, wish, self.zone(name))] if path else found

    # The service that keeps log files at a size, where nodes write files

    def prepare(self, wanted: Wanted) -> list[str]:
        """Return what differs of the service for log files. Changes nothing."""
        path = log_service_path(self.app)
        text, present = wanted.texts.get(path), effects.read(path)
        if text is None:
            return [] if present is None else [f"{path} is not wanted: nodes write to the journal"]
        reasons = [] if present == text else [f"{path} {'is not there' if present is None else 'differs'}"]
        properties = "--property=ActiveState,SubState,UnitFileState,NeedDaemonReload"
        shown = effects.run(["systemctl", "show", properties, os.path.basename(path)]).out
        state = dict(line.partition("=")[::2] for line in shown.splitlines())
        if activity_of(state) not in ("running", "starting"):  # or it ends again and again
            reasons.append("the service that keeps log files at a size is not running")
        if state.get("UnitFileState") != "enabled":
            reasons.append("the service that keeps log files at a size is not started at boot")
        if state.get("NeedDaemonReload") == "yes":
            reasons.append(f"systemd has not read {path} as it is now")
        return reasons

    def install(self, wanted: Wanted) -> None:
        """Make the service as it should be; killed at any point it can be started again."""
        path = log_service_path(self.app)
        unit, text = os.path.basename(path), wanted.texts.get(path)
        if text is None:
            systemctl("disable", "--now", "--", unit, check=False)
            effects.remove(path)
            systemctl("daemon-reload")
            return
        self.check_log_directory(wanted.user)
        effects.write(path, text)
        systemctl("daemon-reload")
        systemctl("enable", "--", unit)
        systemctl("restart", "--", unit)

    def check_log_directory(self, user: str) -> None:
        """Refuse a directory whose file system cannot cut files."""
        directory = os.path.join(self.root, "log")
        tried = foreign.run(user, log_program(self.root, "--check", directory), check=False)
        if tried.rc:
            raise WorkfleetError(f"log files in {directory} cannot be kept at a size: {shown.end(tried.err, 300)}; worker_log.to: file "
                                 "needs a file system that can cut a file's beginning off (ext4, XFS, f2fs): mount one or use journal")


def journal_line(entry: dict[str, Any]) -> logs.Line:
    """Return a line of the journal; what systemd itself says of a unit has the level of its priority."""
    from . import logs

    said = entry.get("MESSAGE") or ""
    text = said if isinstance(said, str) else bytes(said).decode(errors="replace")  # not UTF-8: a list of bytes
    at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
    if entry.get("SYSLOG_IDENTIFIER") != "systemd":
        return logs.Line(text, at)
    priority = int(entry.get("PRIORITY", "6"))
    return logs.Line(text, at, "error" if priority <= 3 else "warning" if priority == 4 else "info")


def log_service_path(app: str) -> str:
    """Return the unit file of the service for log files."""
    return f"{UNITS}/workfleet.{app}.logs.service"


def log_service_values(app: str, root: str, user: str, group: str, max_bytes: int, backups: int) -> dict[str, Any]:
    """Return what the template of that service sees, as ``service``."""
    directory = os.path.join(root, "log")
    start = log_program(root, f"--max-bytes={max_bytes}", f"--backups={backups}", directory, app)
    return {"app": app, "user": user, "user_group": group, "directory": directory, "start": start}


def log_program(root: str, *words: str) -> list[str]:
    """Return the command that keeps log files at a size; Debian's own Python is on each host."""
    return ["/usr/bin/python3", "-I", os.path.join(root, "workfleet", "workfleet_logs.py"), *words]


def systemctl(*words: str, check: bool = True) -> None:
    """Run one ``systemctl`` call for many units."""
    effects.run(["systemctl", *words], check=check, timeout=120)


def units(names: Iterable[Name]) -> list[str]:
    """Return unit names."""
    return [f"{name}.service" for name in names]


def activity_of(properties: dict[str, str]) -> str:
    """Map systemd's states to ours; a pause before an automatic restart is a failure that systemd will mend.

    A start that was queued and is not begun yet shows as the job of a unit that is down.
    """
    state, sub = properties.get("ActiveState", "inactive"), properties.get("SubState", "")
    if state in ("active", "reloading"):
        return "running"
    if state == "activating":
        return "failed" if sub == "auto-restart" else "starting"
    if state in ("inactive", "failed") and properties.get("Job", "0") not in ("", "0"):
        return "starting"
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
