"""Nodes under supervisor: a supervisord of our own for each app, one program file per node.

Files, below the app's root::

    supervisor/supervisord.conf            includes programs/*.conf; never shared with another app or with Debian's
    supervisor/programs/<unit>.conf        one [program:<unit>]; no [group], no numprocs: changing those restarts all
    supervisor/log                         belongs to the app's user; the rest belongs to whoever converges

    supervisor/<unit>.stopping             when a node was told to stop, and which process that was

and in the run directory, which is the app's too, its socket, its pid file and the run records of the launcher.

supervisord runs as the app's user, and so it is no more to be believed than the app: any process of the app can take its
place. Who listens on its socket is looked at, every process that it names is (:mod:`processes`), and a node that was told
to stop is up as long as the process is that was told, whatever supervisord says.

What supervisor 4.3 does, read in its source and tried, and what follows from it:

* ``addProcessGroup`` starts a program with ``autostart=true`` at once, so ``reload`` adds nothing. ``start`` loads a
  program (remove what was loaded, read, add) and starts it: **what is started is always the file as it is now.**
* A loaded program keeps the text it was loaded with, also for restarts after a crash. A text changed in place while
  its program runs (a new ``drain_seconds``, say) takes effect at the next ``start``; there is no call that changes a
  loaded program, and the process is worth more than the text. A new generation has a new incarnation and so a new
  file, so this concerns stop and log settings only.
* *Enabled* is the last line of a program file, ``autostart=``. It is the manager's own: ``write`` keeps it as it was
  (``false`` for a new file, so that a supervisord that restarts between two steps of a rollout starts nothing new),
  ``enable`` and ``disable`` change it, ``Present.text`` does not show it, templates do not contain it.
* A program that is still loaded though its file is gone needs ``reload``, which forgets it once its process is gone.
* supervisord that shuts down stops programs **one after the other**. The service is therefore stopped by
  ``supervisorctl stop all`` first, which signals all at once.
* The pause before another try of a program that dies within a second grows by one second each time: after an outage
  of an hour it is 85 s.
* ``install`` starts supervisord with no program of it started, so that what a plan foretold is what is done; a
  supervisord that comes back by itself (a boot, systemd after a crash) starts what is enabled.
* Nodes outlive a supervisord that is killed, as orphans that nobody supervises. They are told by their run records and
  shown as ``stopping`` with ``result`` ``orphan``: they are to go, and ``install`` tells them to finish before it
  starts a new supervisord. What they write meanwhile is lost: supervisord held the other end of their output. (Under
  systemd the control group of the service goes as one: what ran is killed with it.)
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import WorkfleetError
from ..host import effects, foreign, processes, seal, virtualenv
from ..host.processes import Foreign, Owner, Process, Processes
from ..model import Name
from . import logfiles
from .base import NODE_FILES, OWNER_LINE, Manager, Present, line_value, read_json
from .records import Broken
from .supervisor_rpc import ALREADY_STARTED, BAD_NAME, NOT_RUNNING, SAID_CHARACTERS, STILL_RUNNING, Down, Refusal, Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from . import logs
    from .base import Wanted
    from .supervisor_rpc import Call

VERSION = "4.3.0"
UNIT_DIRECTORY = "/etc/systemd/system"
UP_SECONDS = 20.0
ORPHAN_SECONDS = 3.0
# Nodes a request: supervisord forks them one by one and answers nobody meanwhile.
BATCH = 20
# A path of a unix socket has room for 107 bytes; supervisord binds to ``<path>.<pid>`` first and links it then.
SOCKET_BYTES = 107 - len(".4194304")

#: A process that has gone since supervisord told of it is asked about again.
LOOKS = 3

ACTIVITY = {"STOPPED": "stopped", "STARTING": "starting", "RUNNING": "running", "STOPPING": "stopping",
            "BACKOFF": "failed", "EXITED": "failed", "FATAL": "failed", "UNKNOWN": "failed"}

SWITCH_COMMENT = "; Set by the manager when the node is enabled or disabled."
SWITCH = re.compile(r"^[ \t]*autostart[ \t]*[=:]", re.MULTILINE | re.IGNORECASE)


# --- Texts --------------------------------------------------------------------------------------------------------


def program_words(words: Iterable[str]) -> str:
    """Return a command as the value of ``command=``: what supervisor's ini reader and ``shlex`` give back is ``words``.

    Refuses control characters: a line end is no part of an ini value. Hand such values over by :func:`command_json`.
    """
    return " ".join(_program_word(word) for word in words)


def _program_word(word: str) -> str:
    if any(ord(character) < 32 for character in word):
        raise WorkfleetError(f"a word of a supervisor command holds a line end or control character: {word[:80]!r}")
    quoted = shlex.quote(word)
    # '' inside quotes is nothing to shlex; it keeps " ;" from beginning a comment and "%(here)s" from being replaced.
    for special in ";#(":
        quoted = quoted.replace(special, "''" + special)
    return quoted.replace("%", "%%")


def program_value(text: object) -> str:
    """Return one plain value (a path, a name) for supervisor's ini files; refuses what they cannot hold."""
    value = str(text)
    if value != value.strip() or any(ord(character) < 32 for character in value):
        raise WorkfleetError(f"supervisor's files hold no line ends and no space at a value's ends: {value[:80]!r}")
    if re.search(r"(^|\s)[;#]", value) or "%(here)s" in value:
        raise WorkfleetError(f"supervisor reads a comment or a macro of its own in this value: {value[:80]!r}")
    return value.replace("%", "%%")


def command_json(words: Sequence[str]) -> str:
    """Return a command as printable ASCII JSON without ``% ; # '``, for the launcher's ``--json``."""
    text = json.dumps(list(words))
    return re.sub(r"[%;#'\x7f]", lambda match: f"\\u{ord(match[0]):04x}", text)


def switched(text: str, on: bool) -> str:
    """Return a program's text with the line that says whether it starts together with supervisord."""
    return f"{text}\n{SWITCH_COMMENT}\nautostart={'true' if on else 'false'}\n"


def unswitched(text: str) -> tuple[str, bool]:
    """Take the line of :func:`switched` off, and tell what it says.

    A file with anything else at its end was edited: it is given back whole, so that it differs from what we wrote.
    """
    body, comment, switch = text.partition(f"\n{SWITCH_COMMENT}\n")
    if comment and switch in ("autostart=true\n", "autostart=false\n"):
        return body, switch == "autostart=true\n"
    values = re.findall(SWITCH.pattern + r"[ \t]*(\S+)", text, SWITCH.flags)
    return text, not values or values[-1].lower() in ("true", "yes", "on", "1")  # supervisor's default is to start


def service_paths(app: str, root: str) -> dict[str, str]:
    """Return where the texts of the templates ``supervisor/*.j2`` of the service itself belong, by template name."""
    return {
        "supervisord.conf.j2": os.path.join(root, "supervisor", "supervisord.conf"),
        "supervisord.service.j2": os.path.join(UNIT_DIRECTORY, f"workfleet.{app}.supervisord.service"),
    }


def service_values(
    app: str, root: str, run_directory: str, user: str, group: str, drain_seconds: int
) -> dict[str, Any]:
    """Return what the templates of the service itself see, as ``service``; ``drain_seconds`` is the longest drain."""
    home = os.path.join(root, "supervisor")
    conf = os.path.join(home, "supervisord.conf")
    runtime = os.path.relpath(run_directory, "/run") if run_directory.startswith("/run/") else None
    return {
        "app": app, "user": user, "user_group": group,
        "socket": socket_path(run_directory),
        "pid_path": os.path.join(run_directory, "supervisord.pid"),
        "log_path": os.path.join(home, "log", "supervisord.log"),
        "runtime_directory": runtime,
        "start": [os.path.join(home, "venv", "bin", "supervisord"), "-n", "-c", conf],
        "stop": [os.path.join(home, "venv", "bin", "supervisorctl"), "-c", conf, "stop", "all"],
        "stop_seconds": drain_seconds + 30,
    }


def socket_path(run_directory: str) -> str:
    """Return where supervisord listens; a path that is too long for a socket is an error that says so."""
    path = os.path.join(run_directory, "supervisor.sock")
    length = len(os.fsencode(path))
    if length > SOCKET_BYTES:
        raise WorkfleetError(f"supervisor's socket would be {path}: {length} bytes, and at most {SOCKET_BYTES} are "
                             "possible; choose a shorter worker_run_directory, or app_name")
    return path


# --- The manager --------------------------------------------------------------------------------------------------


class Supervisor(Manager):
    """Nodes of one app under its own supervisord; see the head of this file."""

    def __init__(self, app: str, root: str, run_directory: str) -> None:
        super().__init__(app, root, run_directory)
        self.home = os.path.join(root, "supervisor")
        self.programs = os.path.dirname(NODE_FILES["supervisor"].format(root=root, node=""))
        self.venv = os.path.join(self.home, "venv")
        paths = service_paths(app, root)
        self.conf = paths["supervisord.conf.j2"]
        self.unit = paths["supervisord.service.j2"]
        self.server = Server(socket_path(run_directory), f"workfleet.{app}", self._doubt)
        self._service: tuple[Owner, int, int] | None = None
        self._state: dict[str, str] | None = None

    # Observing

    @effects.one_look()
    def present(self) -> list[Present]:
        """Return every node that has a program file of ours or is loaded in our supervisord."""
        try:
            loaded = self._loaded()
        except Down:
            loaded = {}
        texts = self._texts()
        usage = Processes()
        return [self._present(name, texts.get(name), loaded.get(name), usage) for name in sorted({*texts, *loaded})]

    def declared_here(self) -> list[Name]:
        """Return the nodes that have a program file."""
        return sorted(self._texts())

    def path(self, name: Name) -> str:
        """Return the program file of a node."""
        return os.path.join(self.programs, f"{name}.conf")

    def log(self, name: Name, lines: int) -> list[str]:
        """Return the last lines of a node's log file and, where that was rotated just now, of the one before."""
        path = self._log_path(name)
        return logfiles.tail(path, lines) if path else []

    def streams(self, name: Name, wish: logs.Wish) -> list[logs.Stream]:
        """Return what stands in a node's log files."""
        path = self._log_path(name)
        return [logfiles.stream(path, wish, self.zone(name))] if path else []

    def _loaded(self) -> dict[Name, Program]:
        """Return the programs of this app that supervisord knows."""
        found: dict[Name, Program] = {}
        for _ in range(LOOKS):
            told = self.server.call("supervisor.getAllProcessInfo")
            try:
                found = {program.name: program for program in programs(told, self._owner()) if program.name.app == self.app}
            except (TypeError, LookupError) as error:
                raise self.server.improper(f"it tells of its programs in another form ({error})") from error
            if not any(program.doubt for program in found.values()):
                break
        return found

    # Who runs

    def owner(self, name: Name) -> Owner:
        """Return whose a process has to be that is this node's: the nodes of one supervisord are in its group together."""
        return self._owner()

    def _owner(self) -> Owner:
        """Return whose every process of this app has to be."""
        return self._facts()[0]

    def _facts(self) -> tuple[Owner, int, int]:
        """Return whose the app's processes are, the app's user, and the process that systemd started as supervisord, 0 where none runs.

        Without a service they are the run directory's owner's; that lies where none but root, or we ourselves, could make it.
        """
        if self._service is None:
            if self._is_service():
                state = self._service_state()
                uid, main = effects.uid(state.get("User", "")), int(state.get("MainPID", "0") or 0)
            else:
                uid, main = processes.owner_of(self.run_directory), 0
            user = os.geteuid() if uid is None else uid
            facts = Owner(None, os.path.basename(self.unit)) if self._is_service() else Owner(user), user, main
            if uid is None:  # nothing was installed yet
                return facts
            self._service = facts
        return self._service

    def _doubt(self, pid: int, uid: int) -> str | None:
        """Say why what listens on the socket cannot be the supervisord that was started there."""
        for is_fresh in (False, True):
            if is_fresh:  # it may have been started since
                self._service = self._state = None
            owner, user, main = self._facts()
            if uid == user and (owner.unit is None or pid == main):
                return None
        return f"process {pid} of user {uid}, and not " + (
            f"one of user {user}" if owner.unit is None
            else f"process {main} of user {user}, which systemd started" if main else "what systemd started, which is down")

    def _texts(self) -> dict[Name, str]:
        found = {}
        for file in effects.names(self.programs):
            name = Name.parse(file[:-len(".conf")]) if file.endswith(".conf") else None
            text = effects.read(os.path.join(self.programs, file)) if name is not None else None
            if name is not None and text is not None and line_value(text, OWNER_LINE) == self.app:
                found[name] = text
        return found

    def _present(self, name: Name, text: str | None, program: Program | None, usage: Processes) -> Present:
        body, enabled = (None, False) if text is None else unswitched(text)
        activity = "stopped" if program is None else program.activity
        process = program.process if program else None
        result = program.result if program and activity == "failed" else None
        told = self._told_to_stop(name)
        if process is None or (told is not None and told.pid != process.pid):
            orphan = told or self._orphan(name)
            if orphan is not None:
                process, activity, result = orphan, "stopping", "orphan"
        elif told is not None:
            activity = "stopping"
        pid = process.pid if process else None
        leftover = text is None and pid is None
        if pid is None:
            starts = 1
            with contextlib.suppress(Broken):
                claim = self.claim(name)
                starts = claim.record.starts if claim else 1
            return self.as_told(Present(name, body, enabled, activity, restarts=starts - 1, needs_reload=leftover, result=result,
                                        doubt=program.doubt if program else None))
        generation, record, doubt = self.identify(name, pid)
        memory, cpu = usage.usage(pid)
        return self.as_told(Present(
            name, body, enabled, activity, pid=pid, generation=generation, record=record,
            restarts=record.starts - 1 if record else 0, uptime_seconds=usage.age(pid),
            stopping_seconds=self._stopping_seconds(name, pid, record.stopping if record else None),
            memory_bytes=memory, cpu_seconds=cpu, result=result, doubt=doubt,
        ))

    def _stopping_seconds(self, name: Name, pid: int, recorded: float | None) -> float | None:
        note = read_json(self._stopping_path(name))
        since = note.get("since") if note.get("pid") == pid else recorded
        return None if since is None else max(0.0, time.time() - since)

    def _stopping_path(self, name: Name) -> str:
        return os.path.join(self.home, f"{name}.stopping")

    def _told_to_stop(self, name: Name) -> Process | None:
        """Return the process that was told to stop as this node, as long as it lives."""
        note = read_json(self._stopping_path(name))
        return processes.alive(note.get("pid"), self._owner(), note.get("started", -1))

    def _log_path(self, name: Name) -> str | None:
        value = line_value(effects.read(self.path(name)), "stdout_logfile=")
        if value is not None:
            # supervisor expands this one value twice, see the template
            return value.replace("%%", "%").replace("%%", "%")
        with contextlib.suppress(Down):
            program = self._loaded().get(name)
            return program.log_below(os.path.join(self.root, "log")) if program else None
        return None

    def _orphan(self, name: Name) -> Process | None:
        """Return the live process of a node's run record, for one that supervisord does not know."""
        with contextlib.suppress(Broken):
            claim = self.claim(name)
            return processes.alive(claim.pid, self._owner(), claim.started) if claim else None
        return None

    # Changing

    def write(self, name: Name, text: str) -> None:
        """Write a program file; whether it starts together with supervisord stays as it was, else it does not."""
        if f"[program:{name}]" not in text.splitlines() or line_value(text, OWNER_LINE) != self.app:
            raise WorkfleetError(f"the program text of {name} needs the line [program:{name}] and a comment "
                                 f"{OWNER_LINE}{self.app}: mend the template")
        if SWITCH.search(text):
            raise WorkfleetError(f"the program text of {name} sets autostart, which enabling and disabling a node do: "
                                 "take the line out of the template")
        before = effects.read(self.path(name))
        effects.write(self.path(name), switched(text, before is not None and unswitched(before)[1]))

    def reload(self) -> None:
        """Let supervisord read the files, and forget programs whose file and process are both gone.

        What runs is not touched, and nothing is started. A file that supervisord cannot read is an error here.
        """
        try:
            _added, _changed, removed = self._reread()
        except Down:
            return
        self._all("forget", [Name.parse(unit) or unit for unit in removed],
                  lambda unit: [("supervisor.removeProcessGroup", (unit,))], {STILL_RUNNING, BAD_NAME})

    def enable(self, names: Sequence[Name]) -> None:
        """Let these start together with supervisord."""
        self._switch(names, True)

    def disable(self, names: Sequence[Name]) -> None:
        """Do not let these start together with supervisord; what runs goes on."""
        self._switch(names, False)

    def start(self, names: Sequence[Name]) -> None:
        """Load these as their files are now and start them; those that are up stay as they are."""
        loaded = self._loaded()
        stopping = [str(name) for name in names if _state(loaded, name) == "stopping"]
        if stopping:
            raise WorkfleetError(f"{', '.join(stopping)}: still stopping, and cannot be started before it has gone")
        down = [name for name in names if _state(loaded, name) not in ("running", "starting")]
        missing = [self.path(name) for name in down if not effects.exists(self.path(name))]
        if missing:
            raise WorkfleetError(f"cannot start a node without its program file {', '.join(missing)}")
        if not down:
            return
        self._reread()
        for name in down:
            self._forget_past(name)

        def calls(unit: str) -> list[Call]:
            add: list[Call] = [("supervisor.addProcessGroup", (unit,)), ("supervisor.startProcess", (unit, False))]
            if Name.parse(unit) not in loaded:
                return add
            # A program in its restart pause counts as running for supervisor: it must be stopped to be removed.
            return [("supervisor.stopProcess", (unit, False)), ("supervisor.removeProcessGroup", (unit,)), *add]

        self._all("start", down, calls, {NOT_RUNNING, ALREADY_STARTED})

    def stop(self, names: Sequence[Name]) -> None:
        """Tell these to finish; supervisord kills what is left after ``stopwaitsecs``. Orphans are told directly."""
        try:
            loaded = self._loaded()
        except Down:
            loaded = {}
        up = [name for name in names if _state(loaded, name) in ("running", "starting", "failed")]
        for name in up:
            self._note_stopping(name, loaded[name].process)
        self._all("stop", up, lambda unit: [("supervisor.stopProcess", (unit, False))], {NOT_RUNNING, BAD_NAME})
        for name in names:
            if not (name in loaded and loaded[name].process):
                self._stop_orphan(name)

    def kill(self, nodes: Sequence[Present]) -> None:
        """Kill the process groups, of which each program has one of its own; supervisord sees them go, as it was told to stop them."""
        for node in nodes:
            process = processes.alive(node.pid, self._owner())
            if process is not None:
                processes.kill_group(process)

    def sweep(self) -> list[str]:
        """Kill what is left in the service's control group when no node is up, as systemd does with each node's own."""
        owner, _, main = self._facts()
        if owner.unit is None or not main:
            return []
        found = [process for pid in processes.members(owner.unit)
                 for process in [processes.alive(pid, owner)] if process is not None and pid != main]
        if not found or any(node.is_up for node in self.present()):
            return []
        for process in found:
            processes.send(process, signal.SIGKILL)
        said = ", ".join(str(process.pid) for process in found[:8])
        return [f"no node of {self.app} is up, and what was left of them was killed: process {said}"]

    def remove(self, names: Sequence[Name]) -> None:
        """Remove program files, run records and notes, and let supervisord forget; a live process is left alone.

        Logs go too, but for that of a node which has just been replaced: somebody may want to know why.
        """
        logs = {name: self._log_path(name) for name in names}
        for name in names:
            effects.remove(self.path(name))
            self._forget_past(name)
        with contextlib.suppress(Down):
            loaded = self._loaded()
            pausing = {str(name) for name in names if _state(loaded, name) == "failed"}
            self._all("forget", [name for name in names if name in loaded], lambda unit: [
                *([("supervisor.stopProcess", (unit, False))] if unit in pausing else []),
                ("supervisor.removeProcessGroup", (unit,)),
            ], {NOT_RUNNING, STILL_RUNNING, BAD_NAME})
        for name, log in logs.items():
            if log is not None:
                logfiles.remove(name, log, self._texts())

    def _switch(self, names: Sequence[Name], on: bool) -> None:
        for name in names:
            text = effects.read(self.path(name))
            if text is None and on:
                raise WorkfleetError(f"cannot enable {name}: it has no program file {self.path(name)}")
            if text is not None and unswitched(text)[1] is not on:
                effects.write(self.path(name), switched(unswitched(text)[0], on))

    def _reread(self) -> tuple[list[str], list[str], list[str]]:
        try:
            told = self.server.call("supervisor.reloadConfig")
        except Down:
            raise
        except WorkfleetError as error:
            raise WorkfleetError(f"supervisord cannot read its files; what runs goes on as it was. {error}") from error
        try:
            ((added, changed, removed),) = told
            if not all(isinstance(unit, str) for units in (added, changed, removed) for unit in units):
                raise TypeError("a name is no text")
        except (TypeError, ValueError) as error:
            raise self.server.improper(f"it tells what it read in another form ({error})") from error
        return list(added), list(changed), list(removed)

    def _all(self, verb: str, names: Sequence[Name | str], calls: Any, tolerated: set[int]) -> None:
        """Make the calls of many names in one request; say of every refused one which it was and why."""
        refused = []
        for begin in range(0, len(names), BATCH):
            planned = [(str(name), call) for name in names[begin:begin + BATCH] for call in calls(str(name))]
            answers = self.server.batch([call for _, call in planned])
            refused += [f"{unit}: {answer.said}" for (unit, _), answer in zip(planned, answers)
                        if isinstance(answer, Refusal) and answer.code not in tolerated]
        if refused:
            raise WorkfleetError(f"supervisord of {self.app} could not {verb} {'; '.join(refused)}")

    def _forget_past(self, name: Name) -> None:
        effects.remove(self.record_path(name))
        effects.remove(self._stopping_path(name))

    def _note_stopping(self, name: Name, process: Process | None) -> None:
        if process is not None and self._told_to_stop(name) is None:  # the first word counts
            note = {"pid": process.pid, "started": process.started, "since": time.time()}
            effects.write(self._stopping_path(name), json.dumps(note))

    def _stop_orphan(self, name: Name) -> Process | None:
        process = self._told_to_stop(name) or self._orphan(name)
        if process is not None:
            self._note_stopping(name, process)
            processes.send(process, signal.SIGTERM)
        return process

    # The service itself

    def prepare(self, wanted: Wanted) -> list[str]:
        """Return what of supervisord is missing, down or different. Changes nothing."""
        reasons = []
        if not self._is_installed():
            reasons.append(f"supervisor {VERSION} is not installed in {self.venv}")
        reasons += [f"{path} is not there" for path in (self.run_directory, self.programs, self._log_directory())
                    if not effects.is_directory(path)]
        reasons += [f"{path} {'differs' if effects.exists(path) else 'is not there'}"
                    for path, text in self._own_texts(wanted).items() if effects.read(path) != text]
        if self._is_service():
            reasons += self._service_reasons()
        if not self._is_up():
            reasons.append("supervisord is not running")
        return reasons

    def install(self, wanted: Wanted) -> None:
        """Mend what ``prepare`` found. A supervisord that runs is never restarted: it holds running nodes.

        A changed ``supervisord.conf`` is what the next supervisord reads; a changed unit needs a daemon-reload only.
        """
        self._make_directories(wanted)
        if not self._is_installed():
            self._make_venv(wanted)
        for path, text in self._own_texts(wanted).items():
            if effects.read(path) != text:
                effects.write(path, text)
        if self._is_service():
            self._start_service()
        elif not self._is_up():
            self._start_daemon(wanted)

    def uninstall(self) -> None:
        """Stop supervisord and remove all that ``install`` made; refused while a node of the app is up."""
        left = [str(node.name) for node in self.present() if node.is_up]
        if left:
            raise WorkfleetError(f"supervisord of {self.app} is not removed: {', '.join(left)} still up")
        if self._is_service():
            effects.run(["systemctl", "disable", "--now", os.path.basename(self.unit)], check=False)
        else:
            with contextlib.suppress(Down):
                self.server.call("supervisor.shutdown")
        self._wait_until_down()
        if self._is_service() and effects.exists(self.unit):
            effects.remove(self.unit)
            effects.run(["systemctl", "daemon-reload"])
        effects.remove(self.home)

    def _own_texts(self, wanted: Wanted) -> dict[str, str]:
        """Return the texts that concern this host: the unit only where systemd runs and we may tell it."""
        return {path: text for path, text in wanted.texts.items() if path != self.unit or self._is_service()}

    def _is_service(self) -> bool:
        """Whether systemd starts supervisord. With a run directory of the user's own nothing is put outside of that."""
        return os.geteuid() == 0 and os.path.isdir("/run/systemd/system") and self.run_directory.startswith("/run/")

    def _is_up(self) -> bool:
        try:
            self.server.batch([])
        except Down:
            return False
        return True

    def _is_installed(self) -> bool:
        installed = glob.glob(os.path.join(glob.escape(self.venv), "lib", "python3*", "site-packages",
                                           f"supervisor-{VERSION}.dist-info", "RECORD"))
        # The second is false for a virtualenv whose Python is gone after an upgrade of the system.
        return bool(installed) and os.access(os.path.join(self.venv, "bin", "python"), os.X_OK)

    def _log_directory(self) -> str:
        return os.path.join(self.home, "log")

    def _make_directories(self, wanted: Wanted) -> None:
        for path in (self.root, self.home, self.programs):
            if not effects.is_directory(path):
                effects.directory(path)
        for path in (self._log_directory(), self.run_directory):
            if not effects.is_directory(path):
                effects.directory(path, owner=wanted.user, group=wanted.group)

    def _make_venv(self, wanted: Wanted) -> None:
        """Make the virtualenv anew as the app's user, who shall never run what another account could change.

        Then it is taken from that user: whoever calls its supervisorctl, root too, runs what was installed.
        """
        effects.remove(self.venv)
        effects.directory(self.venv, owner=wanted.user, group=wanted.group)
        python = os.path.join(self.venv, "bin", "python")
        virtualenv.make(partial(foreign.run, wanted.user, timeout=300), usable_python(wanted.user), self.venv, clear=True)
        foreign.run(wanted.user, [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", f"supervisor=={VERSION}"],
                    timeout=600, env=foreign.for_pip(wanted.pip_environment))
        uid = effects.uid(wanted.user)
        if os.geteuid() == 0 and uid:
            try:
                seal.seal(self.venv, uid)
            except (OSError, WorkfleetError):
                effects.remove(self.venv)  # it would count as installed
                raise

    def _service_state(self) -> dict[str, str]:
        """Return what systemd tells of the service; it is asked once, and again where that may have changed."""
        if self._state is None:
            unit = os.path.basename(self.unit)
            shown = effects.run(["systemctl", "show", "--property=UnitFileState,NeedDaemonReload,User,MainPID", unit]).out
            self._state = dict(line.partition("=")[::2] for line in shown.splitlines())
        return self._state

    def _service_reasons(self) -> list[str]:
        state = self._service_state()
        reasons = []
        if state.get("NeedDaemonReload") == "yes":
            reasons.append("systemd has not read the unit of supervisord as it is now")
        if state.get("UnitFileState") != "enabled":
            reasons.append("supervisord is not started at boot")
        return reasons

    def _start_service(self) -> None:
        unit = os.path.basename(self.unit)
        effects.run(["systemctl", "daemon-reload"])
        self._service = self._state = None
        if self._service_state().get("UnitFileState") != "enabled":
            effects.run(["systemctl", "enable", unit])
        if not self._is_up():
            self._finish_orphans()
            with self._none_enabled():
                effects.run(["systemctl", "start", unit])
                self._wait_until_up()

    def _start_daemon(self, wanted: Wanted) -> None:
        self._finish_orphans()
        # A clean environment: what happens to be set where Ansible runs is no business of the nodes.
        clean = ["/usr/bin/env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"]
        with self._none_enabled():
            foreign.run(wanted.user, [*clean, os.path.join(self.venv, "bin", "supervisord"), "-c", self.conf], is_starter=True)
            self._wait_until_up()

    @contextlib.contextmanager
    def _none_enabled(self) -> Iterator[None]:
        """Have no node enabled meanwhile; after an interruption the next converge finds them disabled and mends it."""
        enabled = [name for name, text in self._texts().items() if unswitched(text)[1]]
        self.disable(enabled)
        try:
            yield
        finally:
            self.enable(enabled)

    def _finish_orphans(self) -> None:
        """Tell nodes that outlived a killed supervisord to finish; give those that are idle a moment to go."""
        orphans = [process for name in self._texts() for process in [self._stop_orphan(name)] if process is not None]
        deadline = time.monotonic() + ORPHAN_SECONDS
        while time.monotonic() < deadline and any(processes.alive(one.pid, one.owner, one.started) for one in orphans):
            time.sleep(0.1)

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + UP_SECONDS
        while not self._is_up():
            if time.monotonic() > deadline:
                said = "\n".join(logfiles.tail(os.path.join(self._log_directory(), "supervisord.log"), 10))
                raise WorkfleetError(f"supervisord of {self.app} did not come up within {UP_SECONDS:g} s. "
                                     f"Its log ends with:\n{said or '(nothing)'}", log=said)
            time.sleep(0.05)

    def _wait_until_down(self) -> None:
        deadline = time.monotonic() + UP_SECONDS
        while os.path.exists(self.server.path) and time.monotonic() < deadline:
            try:
                self.server.batch([])
            except Down:
                return
            except WorkfleetError:
                pass  # it is shutting down
            time.sleep(0.05)


@dataclass(frozen=True)
class Program:
    """A program as supervisord tells of it; ``process`` was looked at, ``result`` says in a few words why it is down.

    ``doubt`` says that the process which supervisord names is not the app's: it is none of ours then.
    """

    name: Name
    activity: str
    process: Process | None
    result: str
    log: str
    doubt: str | None = None

    def log_below(self, directory: str) -> str | None:
        """Return the program's log where it is one of ours: a file of another name is none that we read or remove."""
        return self.log if self.log == os.path.join(directory, f"{self.name}.log") else None


def programs(told: Any, owner: Owner) -> Iterator[Program]:
    """Yield what is ours of an answer of ``getAllProcessInfo``.

    Raises ``TypeError`` or ``LookupError`` for another form.
    """
    if not isinstance(told, list):
        raise TypeError("no list")
    for info in told:
        texts = [info[key] for key in ("group", "statename", "spawnerr", "stdout_logfile")]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a text is none")
        if not all(isinstance(info[key], int) for key in ("pid", "exitstatus")):
            raise TypeError("a number is none")
        group, state, error, log = texts
        name = Name.parse(group)
        if name is not None:
            said = f"{state.lower()[:20]}: {error[:SAID_CHARACTERS] or 'exit status ' + str(info['exitstatus'])}"
            process: Process | None = None
            doubt: str | None = None
            try:
                process = processes.look(info["pid"], owner)
            except Foreign as error:
                doubt = f"supervisord says that a process runs as it which is left alone: {error}"
            yield Program(name, ACTIVITY.get(state, "failed"), process, said, log, doubt)


def _state(loaded: Mapping[Name, Program], name: Name) -> str | None:
    return loaded[name].activity if name in loaded else None


def usable_python(user: str) -> str:
    """Return a Python that ``user`` may run: the one we are, or the system's where ours is in a private place."""
    for python in dict.fromkeys((sys.executable, "/usr/bin/python3")):
        with contextlib.suppress(OSError, WorkfleetError):
            if foreign.run(user, [python, "-c", virtualenv.NEEDED], check=False).rc == 0:
                return python
    raise WorkfleetError(f"no Python with venv and pip that {user} may run: install python3-venv")
