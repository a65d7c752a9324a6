"""Log files of nodes, of which the oldest part stands in ``FILE.1``, ``FILE.2`` and so on."""

from __future__ import annotations

import glob
import os
import time
from typing import TYPE_CHECKING

from .. import host, logs
from .base import Name

if TYPE_CHECKING:
    from collections.abc import Iterable

#: No more is read of a file than its end.
MOST_BYTES = 1 << 20
_FILTERED_TIMES, _MOST_BACKUPS = 8, 1000


def tail(path: str, lines: int, most_bytes: int = MOST_BYTES) -> list[str]:
    """Return the last lines, whether in the file or in its last backup; looks at no more than ``most_bytes`` of each.

    A line may begin in the backup and end in the file.
    """
    if lines <= 0:
        return []
    found, is_whole = end(path, most_bytes)
    if is_whole and found.count(b"\n") <= lines:
        before, is_whole = end(f"{path}.1", most_bytes)
        found = before + found
    texts = found.decode(errors="replace").split("\n")
    if texts[-1] == "":
        texts.pop()
    return (texts if is_whole else texts[1:])[-lines:]


def stream(path: str, wish: logs.Wish) -> logs.Stream:
    """Return the end of what stands in a file and its backups; a filter looks at more of it."""
    left, found = MOST_BYTES * (_FILTERED_TIMES if wish.is_filter else 1), b""
    for number in range(_MOST_BACKUPS):
        part, is_whole = end(f"{path}.{number}" if number else path, left)
        found, left = part + found, left - len(part)
        if not is_whole:
            found = found.partition(b"\n")[2]
        if left <= 0 or not (part and is_whole):
            break
    texts = found.decode(errors="replace").split("\n")
    try:
        until = os.stat(path).st_mtime
    except OSError:
        until = time.time()
    return logs.Stream([logs.Line(text) for text in (texts if texts[-1] else texts[:-1])], until)


def end(path: str, most_bytes: int) -> tuple[bytes, bool]:
    """Return the last bytes of a file, and whether that is all of it; nothing where there is none."""
    try:
        with open(path, "rb") as file:
            begin = max(0, file.seek(0, os.SEEK_END) - most_bytes)
            file.seek(begin)
            return file.read(), begin == 0
    except OSError:
        return b"", True


def remove(name: Name, path: str, left: Iterable[Name]) -> None:
    """Remove the logs of older incarnations of a node's slot, and its own where no newer one is among those ``left``.

    The log of a node that has just been replaced stays: somebody may want to know why.
    """
    if not os.path.basename(path).startswith(str(name)):
        return
    newest = max((other.incarnation for other in left if (other.group, other.slot) == (name.group, name.slot)), default=0)
    for file in glob.glob(f"{glob.escape(os.path.dirname(path))}/*.log*"):
        other = Name.parse(os.path.basename(file).partition(".log")[0])
        if other is None or (other.app, other.group, other.slot) != (name.app, name.group, name.slot):
            continue
        if other.incarnation < name.incarnation or (other == name and newest < name.incarnation):
            host.remove(file)
