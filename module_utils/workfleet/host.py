"""Effects on a managed host: run, read, write atomically, remove. No policy."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from . import shown
from .errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


#: Where systemd's journal listens.
JOURNAL = "/run/systemd/journal/socket"


class Completed(NamedTuple):
    """A finished command: exit status and decoded output."""

    rc: int
    out: str
    err: str


class Unreadable(WorkfleetError, OSError):
    """A file is there and cannot be read; an ``OSError`` for those who can do without it."""


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str | None = None,
    stdin: str | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run ``argv`` (never through a shell) with ``LC_ALL=C`` and return what it said.

    ``env`` is added to the caller's environment. ``user`` drops root's rights to that account first; it is
    ignored when we are that account already. ``pass_fds`` stay open in the program: a lock is so held until the
    program ends, even if we are killed before. Raises :class:`WorkfleetError` when the program is missing or not
    to be executed, runs longer than ``timeout`` seconds, or exits non-zero while ``check`` holds.
    """
    environment = {**os.environ, "LC_ALL": "C", **(env or {})}
    identity: dict[str, object] = {}
    if user is not None and os.geteuid() == 0 and pwd.getpwnam(user).pw_uid != 0:
        entry = pwd.getpwnam(user)
        environment.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
        identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}
    try:
        done = subprocess.run(  # noqa: S603 - argv is a list, no shell is involved
            list(argv), env=environment, cwd=cwd, timeout=timeout, capture_output=True, check=False,
            input=None if stdin is None else stdin.encode(), **({} if stdin is not None else {"stdin": subprocess.DEVNULL}),
            pass_fds=pass_fds, **identity,  # type: ignore[call-overload]
        )
    except FileNotFoundError as error:
        raise WorkfleetError(f"{argv[0]} is not on this host: {error}") from error
    except PermissionError as error:
        raise WorkfleetError(f"{argv[0]} may not be executed by {user or 'us'}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise WorkfleetError(f"{' '.join(argv[:4])} did not end within {timeout:g} s") from error
    result = Completed(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    if check and result.rc != 0:
        said = (result.err.strip() or result.out.strip())[-2000:]
        raise WorkfleetError(f"{' '.join(argv[:4])} failed with status {result.rc}: {said}", rc=result.rc)
    return result


def journal(pid: int | None, text: str) -> None:
    """Write a warning to systemd's journal, of root's as one about the unit of process ``pid``; without a journal to nobody."""
    about = f"OBJECT_PID={pid}\n" if pid else ""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        line = shown.line(text)  # names of tasks are anybody's, and a line end begins another field
        client.sendto(f"MESSAGE={line}\nPRIORITY=4\nSYSLOG_IDENTIFIER=workfleet\n{about}".encode(errors="replace"), JOURNAL)


def read(path: str) -> str | None:
    """Return the text of ``path``, or ``None`` where there is no such file. Raises :class:`Unreadable`."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        hint = "; become root" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        raise Unreadable(f"cannot read {path}: {error.strerror}{hint}") from error


def write(path: str, text: str, *, mode: int = 0o644, owner: str | None = None, group: str | None = None) -> None:
    """Replace ``path`` by ``text`` in one step: a reader, or a crash, sees the old file or the new one.

    ``owner`` and ``group`` are names; they are set only when we are root. The file is never readable by more
    than ``mode`` allows, not even while it is written.
    """
    folder = os.path.dirname(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".workfleet-")
    except OSError as error:
        raise WorkfleetError(f"cannot write in {folder}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        own(temporary, owner, group)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError as error:
        raise WorkfleetError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def uid(user: str) -> int | None:
    """Return the number of a user, or ``None`` where this host has no such account."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def gid(group: str) -> int | None:
    """Return the number of a group, or ``None`` where this host has no such group."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def own(path: str, owner: str | None, group: str | None) -> None:
    """Give ``path`` to ``owner`` and ``group`` where we are root; elsewhere what we make is ours already."""
    if os.geteuid() != 0 or (owner is None and group is None):
        return
    try:
        uid = -1 if owner is None else pwd.getpwnam(owner).pw_uid
        gid = -1 if group is None else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise WorkfleetError(f"{path} should belong to {owner}:{group}, but this host has no such account") from error
    os.chown(path, uid, gid, follow_symlinks=False)


def directory(path: str, *, mode: int = 0o755, owner: str | None = None, group: str | None = None) -> None:
    """Make ``path`` (and its parents, as root's own) with this mode and owner."""
    try:
        os.makedirs(path, exist_ok=True)
        own(path, owner, group)
        os.chmod(path, mode)
    except OSError as error:
        raise WorkfleetError(f"cannot make the directory {path}: {error.strerror}") from error


def link(target: str, path: str) -> None:
    """Make ``path`` a symbolic link to ``target``, in one step."""
    temporary = f"{path}.workfleet-new"
    try:
        remove(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise WorkfleetError(f"cannot link {path}: {error.strerror}") from error


def remove(path: str) -> None:
    """Remove a file, a link or a whole directory; one that is not there is fine."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise WorkfleetError(f"cannot remove {path}: {error.strerror}") from error
