"""Run code of others: the app's, what pip builds, a database's. It has the rights of an account of its own, and nothing of ours.

Between us and the program stands a keeper: a child of ours, with our rights and out of the program's reach. It starts the program in
a session of its own, and ends all that the program has started, also what made itself a daemon, when the program ends, when its
time is over and when we are gone. What is locked for the program stays locked for as long as the keeper is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import pwd
import re
import selectors
import signal
import time
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .. import shown
from ..errors import WorkfleetError
from .effects import Completed
from .limits import Limit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: How much of what a program says is kept: so much of its beginning and as much of its end.
KEPT_BYTES = 512 * 1024
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: How long what was killed may take to go.
_KILL_SECONDS = 10.0
_CHUNK = 65536
_FAILED = 127
_GROUPS = "/sys/fs/cgroup"
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)


#: What an administrator has set for pip and what it fetches by; nothing else of our environment is for a build.
PIP_NAMES = re.compile(r"PIP_\w+|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE")


class Account(NamedTuple):
    """Whose rights a program has; ``change`` is false where they are ours already."""

    name: str
    home: str
    uid: int
    gid: int
    groups: list[int]
    change: bool


def account(user: str) -> Account:
    """Return an account of this host. Where we are not root there is only our own."""
    try:
        entry = pwd.getpwnam(user) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise WorkfleetError(f"this host has no account {user}") from error
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Account(entry.pw_name, entry.pw_dir, entry.pw_uid, entry.pw_gid, groups, os.geteuid() == 0 and entry.pw_uid != 0)


def for_pip(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for pip: ``env``, and below it what is set for pip where we run."""
    return {**{name: value for name, value in os.environ.items() if PIP_NAMES.fullmatch(name)}, **env}


def _base(who: Account) -> dict[str, str]:
    """Return the environment of a program before anything is added: whose rights are ours can find out what ours is anyway."""
    theirs = {"PATH": SYSTEM_PATH, "HOME": who.home, "USER": who.name, "LOGNAME": who.name}
    ours = {} if who.change else {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**theirs, **ours}


def run(
    user: str,
    argv: Sequence[str],
    *,
    check: bool = True,
    timeout: float | Limit = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    stdin: str = "",
    locks: Sequence[int] = (),
    is_starter: bool = False,
) -> Completed:
    """Run ``argv`` (never through a shell) as ``user`` and return what it said, its middle left out where that is very long.

    It gets HOME, USER, LOGNAME, PATH, LC_ALL and the names in ``env``, ``stdin`` as a file, no terminal and no descriptor of ours. Where
    its rights are ours already, so is its environment, but for Python's own paths.
    All that it has started ends with it; that of an ``is_starter`` goes on, unless it fails. ``locks`` are held until all that has
    ended. Raises :class:`WorkfleetError` when the program cannot be executed, runs longer than ``timeout`` (seconds), or exits
    non-zero while ``check`` holds.
    """
    who = account(user)
    environment = {**_base(who), "LC_ALL": "C", **(env or {})}
    files = {name: os.pipe() for name in ("out", "err", "told")}
    given = os.memfd_create("stdin")
    os.write(given, stdin.encode())
    os.lseek(given, 0, os.SEEK_SET)
    us = os.getpid()
    seconds = timeout.seconds if isinstance(timeout, Limit) else timeout
    keeper = os.fork()
    if keeper == 0:
        ends = {name: writes for name, (_, writes) in files.items()}
        with _without_return():
            _leave_others(given, *ends.values(), *locks)
            _keep(us, lambda: _become(who, argv, environment, cwd, given, ends), ends["told"], seconds, is_starter)
    for number in (given, *(writes for _, writes in files.values())):
        os.close(number)
    said = {name: _Said(reads) for name, (reads, _) in files.items()}
    try:
        _listen(said)
    finally:
        # Its work is done, or we were interrupted; then it ends the program.
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)
        os.waitpid(keeper, 0)
        for each in said.values():
            os.close(each.number)
    return _completed(user, argv, said, check, timeout)


def _completed(user: str, argv: Sequence[str], said: Mapping[str, _Said], check: bool, timeout: float | Limit) -> Completed:
    """Return what the keeper told, or raise."""
    try:
        told = json.loads(said["told"].text.splitlines()[0])
    except (ValueError, IndexError) as error:
        raise WorkfleetError(f"{' '.join(argv[:4])} was given up: the process that watched it was killed") from error
    if "errno" in told:
        why = os.strerror(told["errno"])
        if told["at"] == argv[0] and told["errno"] == errno.ENOENT:
            raise WorkfleetError(f"{argv[0]} is not on this host: {why}")
        raise WorkfleetError(f"{argv[0]} may not be executed by {user}: {told['at']}: {why}")
    if told["left"]:
        raise WorkfleetError(f"{' '.join(argv[:4])} as {user} left {told['left']} processes that could not be ended: end them")
    if told["is_late"]:
        late = timeout.is_over if isinstance(timeout, Limit) else f"did not end within {timeout:g} s"
        raise WorkfleetError(f"{' '.join(argv[:4])} {late}")
    result = Completed(told["rc"], said["out"].text, said["err"].text)
    if check and result.rc != 0:
        what = shown.end(result.err.strip() or result.out, 2000)
        raise WorkfleetError(f"{' '.join(argv[:4])} failed with status {result.rc}: {what}", rc=result.rc)
    return result


# Our side: take what it says, no more than fits


class _Said:
    """What came through a pipe: its beginning, its end and how much was between them."""

    def __init__(self, number: int) -> None:
        os.set_blocking(number, False)
        self.number = number
        self.head, self.tail, self.left_out = bytearray(), bytearray(), 0

    def take(self) -> bool:
        """Take what is there; return whether more may come."""
        try:
            data = os.read(self.number, _CHUNK)
        except BlockingIOError:
            return True
        room = KEPT_BYTES - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        surplus = len(self.tail) - KEPT_BYTES
        if surplus > 0:
            del self.tail[:surplus]
            self.left_out += surplus
        return bool(data)

    @property
    def text(self) -> str:
        """All of it, decoded."""
        between = f"\n... {self.left_out} bytes left out ...\n".encode() if self.left_out else b""
        return (self.head + between + self.tail).decode(errors="replace")


def _listen(said: Mapping[str, _Said]) -> None:
    """Take what comes until the keeper has ended; a daemon that it leaves may hold the other pipes for ever."""
    with selectors.DefaultSelector() as selector:
        for each in said.values():
            selector.register(each.number, selectors.EVENT_READ, each)
        is_over = False
        while selector.get_map():
            ready = selector.select(0 if is_over else None)
            if is_over and not ready:
                break
            for key, _ in ready:
                if not key.data.take():
                    selector.unregister(key.fd)
                    is_over = is_over or key.data is said["told"]


# The keeper


@contextlib.contextmanager
def _without_return() -> Any:
    """End this process with the block: Ansible's handlers and output are not ours."""
    try:
        yield
    finally:
        os._exit(_FAILED)


def _leave_others(*mine: int) -> None:
    """Close all that was open in the process we were made from."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:
        if number > 2:
            os.set_inheritable(number, False) if number in mine else _closed(number)


def _closed(number: int) -> None:
    with contextlib.suppress(OSError):  # that of the listing itself
        os.close(number)


def _keep(us: int, program: Callable[[], None], told: int, timeout: float, is_starter: bool) -> None:
    """Start the program, wait for its end, end what it has left, and tell."""
    os.setsid()
    for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(each, signal.SIG_DFL)
    waited_for = {signal.SIGCHLD, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    _LIBC.prctl(_SET_PDEATHSIG, signal.SIGTERM)
    _LIBC.prctl(_SET_CHILD_SUBREAPER, 1)
    deadline = time.monotonic() + timeout
    group = None if is_starter else _group()
    child = os.fork()
    if child == 0:
        with _without_return():
            _enter(group)
            program()
    status, is_wanted = None, os.getppid() == us
    while status is None and is_wanted:
        left = deadline - time.monotonic()
        got = signal.sigtimedwait(waited_for, left) if left > 0 else None
        is_wanted = got is not None and got.si_signo != signal.SIGTERM
        status, _ = _reaped(child)
    is_late, survivors = status is None, 0
    if is_late or status or not is_starter:
        killed, survivors = _end_all(child, group)
        status = killed if status is None else status
    _leave(group)
    with contextlib.suppress(OSError):
        os.write(told, json.dumps({"rc": status, "is_late": is_late, "left": survivors}).encode())


def _reaped(child: int) -> tuple[int | None, bool]:
    """Reap what has ended; return the exit status of the child (of a signal: negative) if it is among that, and whether more is left."""
    found = None
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return found, True
            if pid == child:
                found = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    except ChildProcessError:
        return found, False


def _end_all(child: int, group: str | None) -> tuple[int, int]:
    """Kill all that descends from us: what its parent has left becomes our child. Return the child's status, and how many stayed."""
    deadline, found = time.monotonic() + _KILL_SECONDS, -int(signal.SIGKILL)
    while True:
        status, is_more = _reaped(child)
        found = found if status is None else status
        if not is_more:
            return found, 0
        if time.monotonic() > deadline:
            return found, max(1, len(_children()))
        _kill_group(group)
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        signal.sigtimedwait({signal.SIGCHLD}, 0.02)


# A control group, where there are such: who forks faster than he is found is ended by it


def _group() -> str | None:
    """Make a control group below ours that can be killed as a whole."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            ours = next((line.strip()[3:] for line in file if line.startswith("0::")), None)
        if ours is None or os.geteuid() != 0:
            return None
        group = f"{_GROUPS}{ours.rstrip('/')}/workfleet-{os.getpid()}"
        os.mkdir(group)
    except OSError:
        return None
    if os.path.exists(f"{group}/cgroup.kill"):
        return group
    os.rmdir(group)
    return None


def _enter(group: str | None) -> None:
    with contextlib.suppress(OSError):
        if group:
            with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")


def _kill_group(group: str | None) -> None:
    with contextlib.suppress(OSError):
        if group:
            with open(f"{group}/cgroup.kill", "w", encoding="ascii") as file:
                file.write("1")


def _leave(group: str | None) -> None:
    with contextlib.suppress(OSError):
        if group:
            os.rmdir(group)


def _children() -> list[int]:
    """Return our children that have not ended; none of their numbers is another's before we reap them."""
    found, us = [], str(os.getpid())
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
                if parent.decode() == us and state != b"Z":
                    found.append(int(name))
    return found


def _become(who: Account, argv: Sequence[str], environment: Mapping[str, str], cwd: str, given: int, ends: Mapping[str, int]) -> None:
    """Be the program: its account, its session, its standard streams, and nothing else."""
    at = argv[0]
    try:
        os.setsid()
        for number, old in enumerate((given, ends["out"], ends["err"])):
            os.dup2(old, number)
        if who.change:
            os.setgroups(who.groups)
            os.setgid(who.gid)
            os.setuid(who.uid)
        _LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL)
        os.umask(0o022)
        at = cwd
        os.chdir(cwd)
        at = argv[0]
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.execvpe(argv[0], list(argv), dict(environment))  # noqa: S606 - the point of this module
    except (OSError, ValueError) as error:
        number = (isinstance(error, OSError) and error.errno) or errno.EINVAL  # of a NUL somewhere
        os.write(ends["told"], (json.dumps({"errno": number, "at": at}) + "\n").encode())
