"""What nodes wrote, as entries: a moment, a level, and all the lines that belong together."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LEVELS = ("debug", "info", "warning", "error", "critical")
_STAMP = r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,6}))?(Z|[+-]\d\d:?\d\d)?"
_MOMENT = re.compile(_STAMP)
_CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d)(?![\d.])")
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b")
#: The name of a zone, or its rules, as POSIX has them; no path that leads anywhere else.
ZONE = re.compile(r"(?!.*\.\.)[A-Za-z<][A-Za-z0-9_+/<>,.:-]{0,99}\Z")
_ALIASES = {"warn": "warning", "fatal": "critical"}
_TRACEBACK = "Traceback (most recent call last):"
#: How far into a line its head may reach.
_MOMENT_WITHIN, _LEVEL_WITHIN, _BARE_LEVEL_WITHIN = 40, 120, 24
#: A line of the journal that comes later than this after the one before it does not belong to it.
_TOGETHER_SECONDS = 1.0
_AGO = re.compile(r"(\d+)([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Line:
    """A line, with the Unix time at which it was written where that is known; ``level`` is that of a word about the node."""

    text: str
    at: float | None = None
    level: str | None = None


@dataclass(frozen=True)
class Stream:
    """The lines of one file or journal, oldest first, the last of them written at ``until`` by a process with this ``TZ``."""

    lines: Sequence[Line]
    until: float
    zone: str | None = None


@dataclass
class Entry:
    """Lines that belong together. ``at`` is a Unix time; ``level`` is ``None`` where the line does not say it."""

    at: float | None
    level: str | None
    lines: list[str] = field(default_factory=list)
    #: Seconds since midnight, of a line that names no day.
    clock: int | None = None

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Wish:
    """Which entries are wanted: the last ``lines`` of a node, of this level and above, since a Unix time."""

    lines: int | None = None
    level: str = ""
    since: float | None = None

    @property
    def is_filter(self) -> bool:
        """Whether more has to be read than is wanted."""
        return bool(self.level) or self.since is not None or self.lines is None

    def of(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the wanted ones."""
        least = LEVELS.index(self.level) if self.level else 0
        found = [entry for entry in entries if (self.since is None or (entry.at or 0) >= self.since)
                 and (not self.level or (entry.level is not None and LEVELS.index(entry.level) >= least))]
        return found if self.lines is None else found[-self.lines:]


def read(streams: Iterable[Stream]) -> list[Entry]:
    """Return the entries of a node's streams, merged by time."""
    found: list[Entry] = []
    for stream in streams:
        with clock_of(stream.zone):
            found += dated(gathered(stream.lines), stream.until)
    return sorted(found, key=lambda entry: entry.at or 0.0)  # sorted() keeps the order of what has one time


@contextlib.contextmanager
def clock_of(zone: str | None) -> Iterator[None]:
    """Have local times be those of a process with this ``TZ``; those of this host where there is none, or it is a file's path.

    The variable is the app's. What the C library may open for it stands in the system's directory of zones.
    """
    name = (zone or "").removeprefix(":").removeprefix("/usr/share/zoneinfo/")
    if zone is None or (zone and not ZONE.match(name)):
        yield
        return
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        del os.environ["TZ"]
        os.environ.update({} if before is None else {"TZ": before})
        time.tzset()


def gathered(lines: Iterable[Line]) -> list[Entry]:
    """Put lines together: what follows a line with a head, and has none, belongs to it, and a traceback is one piece."""
    found: list[Entry] = []
    is_open, last = False, 0.0
    for line in lines:
        entry = head(line)
        if entry is not None:
            is_open = line.level is None
        elif is_open and (line.at is None or line.at - last < _TOGETHER_SECONDS):
            found[-1].lines.append(line.text)
            if line.text.startswith(_TRACEBACK) and found[-1].level is None:
                found[-1].level = "error"
        else:
            is_open = line.text.startswith(_TRACEBACK)
            entry = Entry(line.at, "error" if is_open else None, [line.text])
        if entry is not None:
            found.append(entry)
        last = line.at or 0.0
    return found


def head(line: Line) -> Entry | None:
    """Return the entry that a line begins, or ``None`` for a line that says neither when it was written nor its level."""
    text = line.text
    if line.level is not None:
        return Entry(line.at, line.level, [text])
    if text[:1].isspace():
        return None
    stamp, clock = _MOMENT.search(text[:_MOMENT_WITHIN]), _CLOCK.match(text)
    level = _LEVEL.search(text[:_LEVEL_WITHIN if stamp or clock else _BARE_LEVEL_WITHIN])
    if not (stamp or clock or level):
        return None
    at = line.at if line.at is not None else moment(stamp) if stamp else None
    seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + int(clock[3]) if clock and at is None else None
    word = level[1].lower() if level else None
    return Entry(at, _ALIASES.get(word, word) if word else None, [text], seconds)


def moment(stamp: re.Match[str]) -> float | None:
    """Return the Unix time of a stamp, which is local time unless it says a zone."""
    try:
        found = datetime.strptime(" ".join(stamp.groups()[:6]), "%Y %m %d %H %M %S")
        found = found.replace(microsecond=int((stamp[7] or "").ljust(6, "0")))
        if not stamp[8]:
            return found.timestamp()
        sign, digits = stamp[8][0], stamp[8][1:].replace(":", "").ljust(4, "0")
        away = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]))
        return found.replace(tzinfo=timezone(-away if sign == "-" else away)).timestamp()
    except (ValueError, OverflowError):
        return None


def dated(entries: list[Entry], until: float) -> list[Entry]:
    """Give each entry a time: a clock without a day counts back from the last line; what has no time has its neighbour's."""
    for entry in reversed(entries):
        if entry.at is None and entry.clock is not None:
            entry.at = clock_before(entry.clock, until)
        until = entry.at if entry.at is not None else until
    known = next((entry.at for entry in entries if entry.at is not None), until)
    for entry in entries:
        known = entry.at = entry.at if entry.at is not None else known
    return entries


def clock_before(clock: int, until: float) -> float:
    """Return the last time before ``until`` (a minute's grace for clocks that are set) when local clocks showed ``clock``."""
    day = time.localtime(until)
    for back in (0, 1):
        found = time.mktime((day.tm_year, day.tm_mon, day.tm_mday - back, 0, 0, clock, 0, 0, -1))
        if found <= until + 60:
            return found
    return until


def parse_since(text: str, now: float) -> float | None:
    """Return the Unix time that ``-e since`` names: ``90s``, ``10m``, ``2h``, ``1d`` ago; ``12:30`` today; ``2026-11-23 12:30:00``."""
    if not text:
        return None
    ago = _AGO.match(text)
    if ago:
        return now - int(ago[1]) * _SECONDS[ago[2]]
    clock = re.match(r"(\d\d?):(\d\d)(?::(\d\d))?\Z", text)
    try:
        if clock:
            today = datetime.fromtimestamp(now)
            return today.replace(hour=int(clock[1]), minute=int(clock[2]), second=int(clock[3] or 0), microsecond=0).timestamp()
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise WorkfleetError(f"since = {text!r}: must be an age such as 90s, 10m, 2h, 1d, a time of today such as 12:30, or a date "
                             "and time such as 2026-11-23 12:30:00") from None


def result(unit: str, entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON-ready values."""
    return {"unit": unit, "at": entry.at, "level": entry.level, "text": entry.text}
