"""How entries of logs look in a terminal."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_STAMP = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]?\d*"
#: The beginnings that engines write by themselves, whose time and level stand in columns of their own here.
_HEADS = (
    re.compile(rf"\[{_STAMP}: [A-Z]+/(?P<who>[^\]]+)\] ?"),
    re.compile(rf"{_STAMP} - (?P<who>\S+) - [A-Z]+ - "),
    re.compile(r"\d\d:\d\d:\d\d: (?P<who>)"),
)
COLOURS = {"warning": "yellow", "error": "red", "critical": "red"}


def lines(host: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield ``HH:MM:SS host group slot.incarnation LEVEL text`` and a colour, and the lines that belong to it below."""
    first, *others = shown.text(entry["text"]).split("\n")
    group, slot, incarnation = entry["unit"].split(".")[2:5]
    level = entry["level"]
    clock = time.strftime("%H:%M:%S", time.localtime(entry["at"] or 0))
    colour = COLOURS.get(level or "")
    yield f"{clock} {host} {group} {slot}.{incarnation} {(level or '-').upper()} {headless(first)}", colour
    for other in others:
        yield f"    {other}", colour


def headless(text: str) -> str:
    """Return a line without its time and level, with who wrote it, where an engine's own format tells."""
    for pattern in _HEADS:
        found = pattern.match(text)
        if found:
            who = found["who"]
            return f"{who}: {text[found.end():]}" if who else text[found.end():]
    return text
