"""Keep the log files of an app's nodes at a size: ``workfleet_logs.py --max-bytes N --backups M DIRECTORY APP``.

Each node appends to a file of its own, whatever this program does, and nobody has to be told to open another: the
beginning of a file that has grown too large is copied to ``FILE.1`` and then cut out of the file by the kernel
(``fallocate`` with ``FALLOC_FL_COLLAPSE_RANGE``), while its writers go on at the end. So no line is lost and none is
there twice, and ``cat FILE.2 FILE.1 FILE`` is all that was written. Blocks are cut, not lines: a line may begin in one
file and end in the next.

Runs as the app's user. Standard library only, Python 3.9 or newer; ext4, XFS and f2fs can cut, see ``--check``.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import glob
import os
import sys
import tempfile
import time

COLLAPSE_RANGE = 0x08
PIECE = 1 << 20
PAUSE_SECONDS = 1.0


def collapse(file: int, length: int) -> None:
    """Cut the first ``length`` bytes, whole blocks, out of an open file."""
    call = ctypes.CDLL(None, use_errno=True).fallocate64
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if call(file, COLLAPSE_RANGE, 0, length) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def check(directory: str) -> None:
    """Raise where files in ``directory`` cannot be cut."""
    with tempfile.TemporaryFile(dir=directory) as file:
        block = os.fstatvfs(file.fileno()).f_bsize
        file.write(b"\n" * (2 * block))
        file.flush()
        collapse(file.fileno(), block)


def tend(path: str, max_bytes: int, backups: int) -> None:
    """Cut a file until it is below ``max_bytes``, which leaves at least a block; keep what is cut in ``backups`` files."""
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags)
    try:
        block = os.fstatvfs(file).f_bsize
        length = max(max_bytes // block, 1) * block
        finish(path, file, backups)
        while os.fstat(file).st_size > length:
            copy(file, length, f"{path}.new")
            os.replace(f"{path}.new", f"{path}.cut")
            finish(path, file, backups)
    finally:
        os.close(file)


def finish(path: str, file: int, backups: int) -> None:
    """Cut out what stands in ``FILE.cut``, whole since it has that name, unless that was done before we were killed; keep it."""
    with contextlib.suppress(FileNotFoundError):
        with open(f"{path}.cut", "rb") as done:
            length = os.fstat(done.fileno()).st_size
            if begins_like(file, done.fileno(), length):
                collapse(file, length)
        keep(path, backups)


def begins_like(file: int, other: int, length: int) -> bool:
    """Whether a file is longer than ``length`` and begins with the other."""
    if os.fstat(file).st_size <= length:
        return False
    pieces = ((min(PIECE, length - at), at) for at in range(0, length, PIECE))
    return all(os.pread(file, *piece) == os.pread(other, *piece) for piece in pieces)


def copy(file: int, length: int, target: str) -> None:
    """Copy the beginning of a file, to the disk; leave nothing half done where there is no room."""
    try:
        with open(target, "wb") as new:
            os.fchmod(new.fileno(), 0o640)
            for at in range(0, length, PIECE):
                new.write(os.pread(file, min(PIECE, length - at), at))
            new.flush()
            os.fsync(new.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(target)
        raise


def keep(path: str, backups: int) -> None:
    """Make ``FILE.cut`` the newest backup; the oldest goes."""
    for number in sorted(numbers(path), reverse=True):
        if number >= backups:
            os.unlink(f"{path}.{number}")
        else:
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")
    if backups:
        os.replace(f"{path}.cut", f"{path}.1")
    else:
        os.unlink(f"{path}.cut")


def numbers(path: str) -> list[int]:
    """Return the numbers of a file's backups."""
    ends = (name[len(path) + 1:] for name in glob.glob(f"{glob.escape(path)}.*"))
    return [int(end) for end in ends if end.isdigit()]


def make_room(path: str) -> None:
    """Where the disk is full the oldest backup goes, and what is cut next finds room."""
    oldest = max(numbers(path), default=0)
    if oldest:
        os.unlink(f"{path}.{oldest}")


def arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory")
    parser.add_argument("app", nargs="?")
    parser.add_argument("--max-bytes", type=int, default=0)
    parser.add_argument("--backups", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="only tell whether files there can be cut")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Look after the files until we are told to end; what goes wrong is said once, and tried again."""
    given = arguments(argv)
    if given.check:
        return check(given.directory)
    said: dict[str, str] = {}
    while True:
        for path in glob.glob(f"{glob.escape(given.directory)}/workfleet.{given.app}.*.log"):
            try:
                tend(path, given.max_bytes, given.backups)
                said.pop(path, None)
            except OSError as error:
                if said.get(path) != str(error):
                    print(f"workfleet_logs: {path}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - its journal
                    said[path] = str(error)
                with contextlib.suppress(OSError):
                    make_room(path)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"workfleet_logs: {error}")
