"""All effects on files of a host: read, write, make, link, remove. No policy.

Root works below directories that an app's user can write, and who can write a directory can put another thing in a name's
place between any two calls. So a path is walked once, from the top, each directory by the descriptor of the one before it;
what is done then is done to an open file, or to a name in an open directory, and what kind of thing a file is is asked after
it was opened. A link on the way is followed only where nobody but root and we ourselves can have put it there.

Failures are sentences: :class:`WorkfleetError`, or :class:`Unreadable` where something is read.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import itertools
import os
import pwd
import secrets
import stat
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, TextIO

from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: No more is read of any file; what an app's user writes has closer limits.
LARGEST_FILE = 16 << 20
#: Of a run record, of which an ordinary one has some hundred bytes, and that of a node with ten thousand reserved tasks 1.4 MB.
LARGEST_RECORD = 2 << 20
#: Of an environment file of a node, of which one host may have hundreds.
LARGEST_ENVIRONMENT = 512 << 10
#: No directory is read that has more names.
MOST_NAMES = 100_000
#: So many links lead to a file at most, and so many directories are held open on the way down.
_MOST_LINKS, _DEEPEST = 16, 100
#: A directory that somebody goes on filling is not emptied for ever.
_REMOVE_SECONDS = 600.0

_HELD = os.O_NOFOLLOW | os.O_CLOEXEC
_PASSED = _HELD | os.O_PATH | os.O_DIRECTORY
_FOLDER = _HELD | os.O_RDONLY | os.O_DIRECTORY
#: Never waits: not for who writes to a pipe, nor for who has a lease on the file.
_PLAIN = _HELD | os.O_NONBLOCK | os.O_NOCTTY


class Unreadable(WorkfleetError, OSError):
    """A file is there and cannot be read; an ``OSError`` for those who can do without it."""


class _Entry(NamedTuple):
    """A name in an open directory. ``path`` has no link in it. ``loose``: the first place on the way whose owner or mode lets others
    than root and us put another directory in another one's place; there is none where it is empty. ``is_kept``: the directory stays
    open for the next one.
    """

    folder: int
    name: str
    path: str
    loose: str
    is_kept: bool = False

    @property
    def settled(self) -> bool:
        return not self.loose

    def status(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)

    def target(self) -> str:
        """Return where the link of this name leads; raises where it is none, or others can have put it there."""
        status = self.status()
        if not stat.S_ISLNK(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{self.path} is no directory")
        if not (self.settled and _is_fixed(os.fstat(self.folder), status) and status.st_uid in _us()):
            raise _refused(f"{self.path} is a link that others than root can have put there")
        return os.path.join(os.path.dirname(self.path), os.readlink(self.name, dir_fd=self.folder))


def _us() -> tuple[int, int]:
    return 0, os.geteuid()


def _refused(why: str) -> OSError:
    return OSError(errno.ELOOP, why)


def _is_fixed(folder: os.stat_result, entry: os.stat_result) -> bool:
    """Whether nobody but root and us can put another thing in the place of an entry of a directory.

    Who is not root and shares a directory with a group has no more to lose there than it.
    """
    if folder.st_uid not in _us():
        return False
    return not folder.st_mode & (0o022 if os.geteuid() == 0 else 0o002) or bool(folder.st_mode & stat.S_ISVTX and entry.st_uid in _us())


class _Passed(threading.local):
    """Directories that one look at many files goes through again and again: by path, open, and which of them is loose.

    Of one thread: a descriptor that another one closes may be another file by then.
    """

    folders: dict[str, tuple[int, str]] | None = None


_passed = _Passed()


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """Walk to each directory once meanwhile: what is read of a hundred nodes stands in a few. For reading only."""
    if _passed.folders is not None:
        yield
        return
    folders: dict[str, tuple[int, str]] = {}
    _passed.folders = folders
    try:
        yield
    finally:
        _passed.folders = None
        for folder, _ in folders.values():
            os.close(folder)


def _walk(path: str, make: bool) -> _Entry | str:
    """Return the entry of a path; or the path to go on with, where a link that counts is on the way."""
    path = os.path.abspath(path)
    folders = _passed.folders
    if folders is None or make:
        return _walked(path, make)
    above, _, name = path.rpartition("/")
    if above not in folders:
        found = _walked(path, make)
        if isinstance(found, str):
            return found
        folders[above] = found.folder, found.loose
    folder, loose = folders[above]
    return _Entry(folder, name or ".", path, loose, True)


def _walked(path: str, make: bool) -> _Entry | str:
    parts = path.split("/")[1:]
    folder, above = os.open("/", _PASSED), ""
    try:
        status, loose = os.fstat(folder), ""
        for number, part in enumerate(parts[:-1]):
            try:
                inner = _inner(folder, part, make)
            except NotADirectoryError:
                return os.path.join(_Entry(folder, part, f"{above}/{part}", loose).target(), *parts[number + 1:])
            os.close(folder)
            folder, outside, above, outer = inner, above, f"{above}/{part}", status
            status = os.fstat(folder)
            if not loose and not _is_fixed(outer, status):  # where it is sticky and root's, it is who owns the inner one
                loose = above if _is_fixed(outer, outer) else outside or "/"
        entry = _Entry(folder, parts[-1] or ".", f"{above}/{parts[-1]}", loose)
        folder = -1  # the caller's from now on
        return entry
    finally:
        if folder >= 0:
            os.close(folder)


def _inner(folder: int, name: str, make: bool) -> int:
    try:
        return os.open(name, _PASSED, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=folder)
    return os.open(name, _PASSED, dir_fd=folder)


@contextlib.contextmanager
def _entry(path: str, *, make: bool = False) -> Iterator[_Entry]:
    """Yield the entry of ``path``, of which the directory is open meanwhile; ``make`` makes the directories above it."""
    found: _Entry | str = path
    for _ in range(_MOST_LINKS):
        found = _walk(str(found), make)
        if isinstance(found, _Entry):
            break
    else:
        raise _refused(f"{path} leads through too many links")
    try:
        yield found
    finally:
        if not found.is_kept:
            os.close(found.folder)


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[tuple[int, _Entry]]:
    """Yield what is at ``path``, opened, and its entry; a link there is followed as one on the way is."""
    for _ in range(_MOST_LINKS):
        with _entry(path) as entry:
            try:
                handle = os.open(entry.name, flags, dir_fd=entry.folder)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                path = entry.target()
                continue
            try:
                yield handle, entry
            finally:
                os.close(handle)
            return
    raise _refused(f"{path} leads through too many links")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a directory"}
    return kinds.get(stat.S_IFMT(mode), "a device")


# Reading


@contextlib.contextmanager
def _regular(path: str, *, theirs: bool, account: str | None = None) -> Iterator[tuple[int, os.stat_result]]:
    """Yield the open file and its status. Raises :class:`Unreadable`, and :class:`FileNotFoundError` where there is none."""
    try:
        with _opened(path, _PLAIN | os.O_RDONLY) as (handle, entry):
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise _refused(f"it is {_kind(status.st_mode)}, not a file")
            owner = os.fstat(entry.folder).st_uid if account is None else uid(account)
            if theirs and (status.st_uid != owner or status.st_nlink != 1):
                raise _refused(f"it is not {account or 'its directory'}'s own, or has a second name")
            yield handle, status
    except (FileNotFoundError, Unreadable):
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, error.strerror) from error
    except OSError as error:
        hint = "; become root" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        raise Unreadable(f"cannot read {path}: {error.strerror}{hint}") from error


def read(path: str, *, limit: int = LARGEST_FILE, theirs: bool = False) -> str | None:
    """Return the text of ``path``, or ``None`` where there is no such file. Raises :class:`Unreadable`.

    Only a regular file of no more than ``limit`` bytes is read. ``theirs``: it stands in a directory of an app's user, and
    counts only if it is that user's too, under no second name.
    """
    try:
        with _regular(path, theirs=theirs) as (handle, status):
            parts: list[bytes] = []
            left = limit + 1
            while left > 0 and status.st_size <= limit:
                part = os.read(handle, min(left, max(status.st_size + 1, 1 << 16)))
                if not part:
                    return b"".join(parts).decode(errors="surrogateescape")
                parts.append(part)
                left -= len(part)
            raise _refused(f"it has more than {limit} bytes")
    except FileNotFoundError:
        return None


def end(path: str, most_bytes: int, account: str | None = None) -> tuple[bytes, bool, float]:
    """Return the last bytes of a log, whether that is all of it, and when it was written last (Unix time).

    It counts only if it belongs to ``account``, or without one to whom its directory does. Raises :class:`Unreadable`; where there
    is no file there are no bytes.
    """
    try:
        with _regular(path, theirs=True, account=account) as (handle, status):
            begin = max(0, status.st_size - most_bytes)
            return os.pread(handle, status.st_size - begin, begin), begin == 0, status.st_mtime
    except FileNotFoundError:
        return b"", True, 0.0


def status(path: str) -> os.stat_result | None:
    """Return what is at ``path``, ``None`` where nothing is; of a link that others can have put there its own status."""
    try:
        for _ in range(_MOST_LINKS):
            with _entry(path) as entry:
                found = entry.status()
                if not stat.S_ISLNK(found.st_mode):
                    return found
                try:
                    path = entry.target()
                except OSError:
                    return found
        raise _refused("too many links")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unreadable(f"cannot look at {path}: {error.strerror}") from error


def exists(path: str) -> bool:
    """Whether anything is at ``path``."""
    return status(path) is not None


def is_directory(path: str) -> bool:
    """Whether a directory is at ``path``."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def points_to(path: str) -> str | None:
    """Return what the link at ``path`` says, wherever that leads; ``None`` where there is no link."""
    try:
        with _entry(path) as entry:
            return os.readlink(entry.name, dir_fd=entry.folder)
    except OSError:
        return None


def loose(path: str) -> str:
    """Return the first place on the way to a directory of root's, or of ours, whose owner or mode lets others put another directory
    there; nothing where there is none. What is not there yet would be ours. Raises :class:`Unreadable`.
    """
    path = place = os.path.abspath(path)
    while True:
        try:
            with _entry(os.path.join(place, "_")) as entry:
                folder = os.fstat(entry.folder)
                # The directory itself is given its owner and mode; one above it is not.
                is_fixed = place == path or _is_fixed(folder, folder)
                return entry.loose or ("" if is_fixed else os.path.dirname(entry.path))
        except FileNotFoundError:
            place = os.path.dirname(place)
        except OSError as error:
            raise Unreadable(f"cannot look at {path}: {error.strerror}") from error


def names(path: str) -> list[str]:
    """Return the names in a directory, sorted; none where it is not there. Raises :class:`Unreadable`."""
    try:
        with _opened(path, _FOLDER) as (folder, _):
            return sorted(_listed(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Unreadable(f"cannot read the directory {path}: {error.strerror}") from error


def tree(path: str) -> dict[str, int]:
    """Return the mode of all that is below a directory, by its path from there; no link is followed."""
    found: dict[str, int] = {}
    try:
        with _opened(path, _FOLDER) as (folder, _):
            for place, name, status in _below(folder):
                found[f"{place}{name}"] = status.st_mode
                if len(found) > MOST_NAMES:
                    raise _refused(f"it has more than {MOST_NAMES} names")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise Unreadable(f"cannot read the directory {path}: {error.strerror}") from error
    return found


def _listed(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        found = [entry.name for entry in itertools.islice(entries, MOST_NAMES + 1)]
    if len(found) > MOST_NAMES:
        raise _refused(f"it has more than {MOST_NAMES} names")
    return found


def _below(folder: int, place: str = "", depth: int = 0) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield all below an open directory as it is now: its place, its name, its status; a directory after what is in it."""
    if depth > _DEEPEST:
        raise _refused(f"it is deeper than {_DEEPEST} directories")
    for name in sorted(_listed(folder)):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                inner = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    yield from _below(inner, f"{place}{name}/", depth + 1)
                finally:
                    os.close(inner)
            yield place, name, status


# Changing


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


def _accounts(path: str, owner: str | None, group: str | None) -> tuple[int, int]:
    """Return the numbers of an owner and a group, -1 for one that is left as it is: always, where we are not root."""
    if os.geteuid() != 0:
        return -1, -1
    found = (-1 if owner is None else uid(owner)), (-1 if group is None else gid(group))
    if None in found:
        raise WorkfleetError(f"{path} should belong to {owner}:{group}, but this host has no such account")
    return found[0] or 0, found[1] or 0


def _temporary() -> str:
    return f".workfleet-{secrets.token_hex(8)}"


def _is_same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def write(path: str, text: str, *, mode: int | None = 0o644, owner: str | None = None, group: str | None = None) -> None:
    """Replace ``path`` by ``text`` in one step: a reader, or a crash, sees the old file or the new one.

    ``owner`` and ``group`` are names; they are set only when we are root. Without a ``mode`` owner and mode stay what they are.
    The file is never readable by more than ``mode`` allows, not even while it is written.
    """
    accounts = _accounts(path, owner, group)
    try:
        with _entry(path) as entry:
            if mode is None:
                before = entry.status()
                if not stat.S_ISREG(before.st_mode):
                    raise _refused("it is no file")
                mode = before.st_mode & 0o777
                accounts = (before.st_uid, before.st_gid) if os.geteuid() == 0 else (-1, -1)
            temporary = _temporary()
            handle = os.open(temporary, _HELD | os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=entry.folder)
            try:
                with open(handle, "w", encoding="utf-8", errors="surrogateescape", newline="", closefd=False) as file:
                    file.write(text)
                os.fsync(handle)
                os.fchown(handle, *accounts)
                os.fchmod(handle, mode)
                # Who can write the directory may have taken its place: that is not made to look like ours.
                if not _is_same(os.fstat(handle), os.stat(temporary, dir_fd=entry.folder, follow_symlinks=False)):
                    raise _refused("somebody changes files there")
                os.replace(temporary, entry.name, src_dir_fd=entry.folder, dst_dir_fd=entry.folder)
            finally:
                os.close(handle)
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=entry.folder)
    except OSError as error:
        raise WorkfleetError(f"cannot write {path}: {error.strerror}") from error


def directory(path: str, *, mode: int = 0o755, owner: str | None = None, group: str | None = None) -> None:
    """Make ``path`` (and its parents, as root's own) with this mode and owner."""
    accounts = _accounts(path, owner, group)
    try:
        with _entry(path, make=True) as entry:
            is_new = False
            with contextlib.suppress(FileExistsError):
                os.mkdir(entry.name, 0o700, dir_fd=entry.folder)
                is_new = True
        with _opened(path, _FOLDER) as (folder, entry):
            status = os.fstat(folder)
            is_fixed = entry.settled and _is_fixed(os.fstat(entry.folder), status)
            # Elsewhere somebody may have moved a directory here that is not his.
            if not is_fixed and status.st_uid != accounts[0] and (
                    status.st_uid != os.geteuid() or (os.geteuid() == 0 and not (is_new and not _some(folder)))):
                raise _refused("it belongs to another account, and others can write the directory that it is in")
            os.fchown(folder, *accounts)
            os.fchmod(folder, mode)
    except OSError as error:
        raise WorkfleetError(f"cannot make the directory {path}: {error.strerror}") from error


def link(target: str, path: str) -> None:
    """Make ``path`` a symbolic link to ``target``, in one step."""
    try:
        with _entry(path) as entry:
            temporary = _temporary()
            os.symlink(target, temporary, dir_fd=entry.folder)
            try:
                os.replace(temporary, entry.name, src_dir_fd=entry.folder, dst_dir_fd=entry.folder)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=entry.folder)
    except OSError as error:
        raise WorkfleetError(f"cannot link {path}: {error.strerror}") from error


def lock_file(path: str, *, make: bool = True) -> TextIO:
    """Return the open file of a lock, for reading and writing; it is made where it is not there, or without ``make``
    :class:`FileNotFoundError` raised.
    """
    try:
        with _entry(path) as entry:
            handle = os.open(entry.name, _PLAIN | os.O_RDWR | (os.O_CREAT if make else 0), 0o600, dir_fd=entry.folder)
            is_ours = entry.settled and _is_fixed(os.fstat(entry.folder), os.fstat(handle))
        if not (is_ours and stat.S_ISREG(os.fstat(handle).st_mode)):
            os.close(handle)
            raise _refused("it is no file, or others can write the directory that it is in")
        return open(handle, "r+", encoding="utf-8", errors="replace")
    except OSError as error:
        if not make and isinstance(error, FileNotFoundError):
            raise
        raise WorkfleetError(f"cannot lock {path}: {error.strerror}") from error


def remove(path: str) -> bool:
    """Remove a file, a link or a whole directory, and return whether it was there."""
    try:
        with _entry(path) as entry:
            return _removed(entry.folder, entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise WorkfleetError(f"cannot remove {path}: {error.strerror}") from error


def _removed(holder: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=holder)
        return True
    except IsADirectoryError:
        folder = os.open(name, _FOLDER, dir_fd=holder)
    deadline = time.monotonic() + _REMOVE_SECONDS
    try:
        _clear(folder, folder, 0, deadline)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=holder)
    return True


def _clear(folder: int, top: int, depth: int, deadline: float) -> None:
    """Remove all in an open directory. What lies very deep comes up first: no descriptors are left for a thousand levels."""
    while found := _some(folder):
        if time.monotonic() > deadline:
            raise _refused(f"it was not empty after {_REMOVE_SECONDS:g} s: somebody goes on making files in it")
        for name in found:
            with contextlib.suppress(FileNotFoundError):
                _clear_entry(folder, name, top, depth, deadline)


def _some(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in itertools.islice(entries, 1000)]


def _clear_entry(folder: int, name: str, top: int, depth: int, deadline: float) -> None:
    try:
        return os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        pass
    if depth > _DEEPEST:
        return os.rename(name, _temporary(), src_dir_fd=folder, dst_dir_fd=top)
    try:
        inner = os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            return None  # it is another thing now: the next look finds it
        raise
    try:
        _clear(inner, top, depth + 1, deadline)
    finally:
        os.close(inner)
    with contextlib.suppress(NotADirectoryError):
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
