"""What of an app is on a host, and how it is taken away, when its nodes are gone.

The file of :mod:`ownership` tells that a directory is the app's, the names of units that they are, and the home of the
account that ``accounts`` has made it. What is not known to be the app's stays.
"""

from __future__ import annotations

import glob
import grp
import os
import pwd
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import WorkfleetError
from ..host import effects, ownership, processes
from ..host.changes import Change
from ..host.steps import Step
from ..redis.config import owner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNITS = "/etc/systemd/system"
RUN = "/run/workfleet"
WHY = "the app is declared absent"
#: So many processes are named.
NAMED = 5
#: The directory below the root that tells whose it is.
STATE = "state"


@dataclass(frozen=True)
class Request:
    """What is to go: an app by its name, and where its things are. ``run_directory`` is empty where it has none."""

    host: str
    name: str
    user: str
    group: str
    root: str
    run_directory: str = ""
    redis: bool = False
    is_look: bool = False

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Request:
        """Return the request in a decoded payload."""
        return cls(**raw)

    @property
    def supervisord(self) -> str:
        """The unit of the app's own supervisord."""
        return os.path.join(UNITS, f"workfleet.{self.name}.supervisord.service")


def nodes(request: Request) -> list[str]:
    """Return the names of the nodes that are on this host, running or not."""
    units = set(glob.glob(os.path.join(UNITS, f"workfleet.{glob.escape(request.name)}.*.service"))) - {request.supervisord}
    programs = glob.glob(os.path.join(glob.escape(request.root), "supervisor", "programs", "*.conf"))
    return sorted(os.path.basename(path).rpartition(".")[0] for path in (*units, *programs))


def servers(request: Request) -> list[str]:
    """Return the Redis servers that are the app's, by the packages that they are of."""
    return [name for name in ("redis", "valkey") if request.redis and owner(effects.read(f"/etc/{name}/workfleet.conf")) == request.name]


def plan(request: Request) -> list[Change]:
    """Return the changes, in order, as if no node were here any more."""
    return list(_changes(request))


def apply(request: Request) -> list[Change]:
    """Take the app away, and return what was done. Nothing goes while a node or a process of the app's account is here."""
    found = plan(request)
    left = nodes(request)
    if left:
        raise WorkfleetError(f"nodes of {request.name} are still on this host: {', '.join(left[:NAMED])}. Role worker takes them away, "
                             "before role app: site.yml with app_state: absent does both")
    for change in found:
        if change.step.unit == f"directory {request.root}":
            _require_idle(request)  # supervisord has ended by now
        change.carry_out()
    if found and os.geteuid() == 0 and os.path.isdir("/run/systemd/system"):
        # systemd keeps the name of a unit whose file is gone: where a target wanted it at boot, and where it once failed.
        _systemctl("daemon-reload")
        effects.run(["systemctl", "reset-failed", f"workfleet.{request.name}.*"], check=False)
    return found


def _changes(request: Request) -> Iterator[Change]:
    if effects.exists(request.root):
        ownership.require(request.root, request.name)
        if not effects.exists(ownership.path(request.root)) and not set(effects.names(request.root)) <= {STATE}:
            raise WorkfleetError(f"app_root = {request.root}: does not tell that it is {request.name}'s ({ownership.path(request.root)} is "
                                 "not there), and nothing of it was removed; site.yml with app_state: present once notes it")
    if effects.exists(request.supervisord):
        unit = os.path.basename(request.supervisord)
        for word, what in (("stop", ("stop", unit)), ("disable", ("disable", unit))):
            yield Change(Step(word, unit, WHY), partial(_systemctl, *what))
        yield _gone(f"file {request.supervisord}", request.supervisord)
        yield Change(Step("reload", None, "files were removed"), partial(_systemctl, "daemon-reload"))
    if request.run_directory and effects.exists(request.run_directory):
        yield Change(Step("remove", f"directory {request.run_directory}", WHY), partial(_end_run, request.run_directory))
    if effects.exists(request.root):
        yield Change(Step("remove", f"directory {request.root}", WHY), partial(_empty, request.root))
    yield from _account(request)


def _empty(root: str) -> None:
    """Remove the app's directory; what tells whose it is goes last, so that a removal that is cut short can be gone on with."""
    for name in effects.names(root):
        if name != STATE:
            effects.remove(os.path.join(root, name))
    effects.remove(root)


def _end_run(directory: str) -> None:
    """Remove the run directory, and with the last app's the one that all share."""
    effects.remove(directory)
    if os.path.dirname(directory) == RUN and not effects.names(RUN):
        effects.remove(RUN)


def _gone(what: str, path: str) -> Change:
    return Change(Step("remove", what, WHY), partial(effects.remove, path))


def _systemctl(*words: str) -> None:
    effects.run(["systemctl", *words], timeout=120)


def _account(request: Request) -> Iterator[Change]:
    """Yield the removal of an account that was made for the app: its home is the app's directory, and it is nobody's else."""
    if os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(request.user)
    except KeyError:
        return
    if user.pw_dir != request.root or not user.pw_shell.endswith("nologin") or _used_by_others(request):
        return
    yield Change(Step("remove", f"user {request.user}", WHY), partial(_run, "userdel", request.user))
    try:
        group = grp.getgrnam(request.group)
    except KeyError:
        return
    others = [one.pw_name for one in pwd.getpwall() if one.pw_gid == group.gr_gid and one.pw_name != request.user]
    if group.gr_gid == user.pw_gid and not others and not set(group.gr_mem) - {request.user}:
        yield Change(Step("remove", f"group {request.group}", WHY), partial(_remove_group, request.group))


def _remove_group(name: str) -> None:
    if effects.gid(name) is not None:  # userdel may have taken it along
        _run("groupdel", name)


def _run(*argv: str) -> None:
    effects.run(argv, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def _used_by_others(request: Request) -> bool:
    """Whether units of another app run by this account."""
    ours = f"workfleet.{request.name}."
    return any(f"\nUser={request.user}\n" in (effects.read(path) or "") for path in glob.glob(os.path.join(UNITS, "workfleet.*.service"))
               if not os.path.basename(path).startswith(ours))


def _require_idle(request: Request) -> None:
    """Refuse to take away what a process of the app still uses."""
    uid = effects.uid(request.user)
    if uid is None or uid == os.geteuid() or _used_by_others(request):
        return
    found = sorted(processes.pids({uid}))
    if found:
        named = ", ".join(f"{pid} ({_program(pid)})" for pid in found[:NAMED])
        raise WorkfleetError(f"processes of {request.user} still run, and {request.root} is theirs: {named}. End them, and run this again; "
                             "the app's nodes are gone, and nothing else was removed")


def _program(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "it has just ended"
