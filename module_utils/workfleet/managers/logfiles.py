"""Log files of nodes, of which the oldest part stands in ``FILE.1``, ``FILE.2`` and so on."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ..host import effects
from ..model import Name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from . import logs

#: No more is read of a file than its end, and no more lines are looked at: what stands there is written by the app's user.
MOST_BYTES, MOST_LINES = 1 << 20, 20_000
_FILTERED_TIMES, _MOST_BACKUPS = 8, 1000


def tail(path: str, lines: int, most_bytes: int = MOST_BYTES) -> list[str]:
    """Return the last lines, whether in the file or in its last backup; looks at no more than ``most_bytes`` of each.

    A line may begin in the backup and end in the file. A file that cannot be read is one line, which says so.
    """
    if lines <= 0:
        return []
    try:
        found, is_whole, _ = effects.end(path, most_bytes)
        if is_whole and found.count(b"\n") <= lines:
            before, is_whole, _ = effects.end(f"{path}.1", most_bytes)
            found = before + found
    except effects.Unreadable as error:
        return [str(error)]
    return split(found, is_whole)[-lines:]


def stream(path: str, wish: logs.Wish, zone: str | None = None) -> logs.Stream:
    """Return the end of what stands in a file and its backups, written in a zone; a filter looks at more of it."""
    from . import logs  # most calls read none

    left, parts = MOST_BYTES * (_FILTERED_TIMES if wish.is_filter else 1), []
    until, said = time.time(), []
    for number in range(_MOST_BACKUPS):
        try:
            part, is_whole, written = effects.end(f"{path}.{number}" if number else path, left)
        except effects.Unreadable as error:
            said.append(logs.Line(str(error), level="warning"))
            break
        until = until if number or not written else written
        left -= len(part)
        parts.append(part if is_whole else part.partition(b"\n")[2])
        if left <= 0 or not (part and is_whole):
            break
    texts = split(b"".join(reversed(parts)), True)
    return logs.Stream([*said, *(logs.Line(text) for text in texts)], until, zone)


def split(found: bytes, is_whole: bool) -> list[str]:
    """Return the last lines of a text, of which the first is left out where it may have begun before."""
    texts = found.removesuffix(b"\n").rsplit(b"\n", MOST_LINES)
    if not is_whole or len(texts) > MOST_LINES:
        texts = texts[1:]
    return [text.decode(errors="replace") for text in texts] if found else []


def remove(name: Name, path: str, left: Iterable[Name]) -> None:
    """Remove the logs of older incarnations of a node's slot, and its own where no newer one is among those ``left``.

    The log of a node that has just been replaced stays: somebody may want to know why.
    """
    if not os.path.basename(path).startswith(str(name)):
        return
    newest = max((other.incarnation for other in left if (other.group, other.slot) == (name.group, name.slot)), default=0)
    for file in effects.names(os.path.dirname(path)):
        other = Name.parse(file.partition(".log")[0])
        if other is None or ".log" not in file or (other.app, other.group, other.slot) != (name.app, name.group, name.slot):
            continue
        if other.incarnation < name.incarnation or (other == name and newest < name.incarnation):
            effects.remove(os.path.join(os.path.dirname(path), file))
