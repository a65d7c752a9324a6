"""Take a tree that another account has made, so that it can read all of it and change nothing: by descriptor, from the top down."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST = 100
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A FIFO must not hold us up.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1024 * 1024


def seal(folder: str, uid: int) -> None:
    """Make a directory and all below it root's own, readable by everybody and writable by nobody else.

    ``uid`` made it, and nothing runs from it yet. What belongs to a third one is refused, and so is a device. Pipes and sockets go:
    what made them has ended. A file that has another name too, or that somebody has open for writing, is replaced by a copy.
    """
    with _opened(folder, _DIRECTORY) as handle:
        _directory(handle, folder, uid, 0)


def _directory(handle: int, path: str, uid: int, depth: int) -> None:
    """Seal a directory first: what is below can be exchanged by nobody then."""
    _require_owner(os.fstat(handle), path, uid)
    if depth > DEEPEST:
        raise WorkfleetError(f"{path!r} lies {DEEPEST} directories deep in the release")
    os.fchown(handle, 0, 0)
    os.fchmod(handle, 0o755)
    for name in os.listdir(handle):
        below = f"{path}/{name}"
        status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        _require_owner(status, below, uid)
        if stat.S_ISDIR(status.st_mode):
            with _opened(name, _DIRECTORY, handle) as number:
                _directory(number, below, uid, depth + 1)
        elif stat.S_ISLNK(status.st_mode):
            os.chown(name, 0, 0, dir_fd=handle, follow_symlinks=False)
        elif stat.S_ISREG(status.st_mode):
            if status.st_uid == uid or status.st_mode & 0o022:
                _file(handle, name, below, uid)
        elif stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
            os.unlink(name, dir_fd=handle)
        else:
            raise WorkfleetError(f"{below!r} was left by the build, and is a device")


def _require_owner(status: os.stat_result, path: str, uid: int) -> None:
    """Refuse what is another's: a hard link would give it away."""
    if status.st_uid not in (0, uid):
        raise WorkfleetError(f"{path!r} in the release belongs to another account (uid {status.st_uid})")


def _file(folder: int, name: str, path: str, uid: int) -> None:
    """Seal a file. One of root's is shown to nobody who could not read it; by another name it may be no part of the release."""
    with _opened(name, _FILE, folder) as number:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, uid):
            raise WorkfleetError(f"{path!r} in the release was exchanged while it was looked at")
        if status.st_uid != uid:
            if status.st_nlink != 1:
                raise WorkfleetError(f"{path!r} in the release is a file of root's that others can write, and has another name too")
            os.fchmod(number, status.st_mode & 0o755)
            return
        mode = 0o755 if status.st_mode & 0o100 else 0o644
        if status.st_nlink == 1:
            os.fchown(number, 0, 0)
            os.fchmod(number, mode)
        if status.st_nlink != 1 or not _is_at_rest(number):
            _copy(folder, name, number, mode, status)


def _is_at_rest(number: int) -> bool:
    """Whether nobody has a file open for writing; nobody can open it so any more. A file system that cannot tell says no."""
    try:
        fcntl.fcntl(number, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(number, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def _copy(folder: int, name: str, number: int, mode: int, status: os.stat_result) -> None:
    """Put a file of root's own in the place of one."""
    temporary = ".workfleet-sealed"
    copy = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        with open(copy, "wb", buffering=0) as file:
            while data := os.read(number, _CHUNK):
                view = memoryview(data)
                while view:
                    view = view[file.write(view):]
            os.fchmod(copy, mode)
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))  # bytecode is known by it
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        os.unlink(temporary, dir_fd=folder)
        raise


@contextmanager
def _opened(name: str, flags: int, folder: int | None = None) -> Iterator[int]:
    number = os.open(name, flags, dir_fd=folder)
    try:
        yield number
    finally:
        os.close(number)
