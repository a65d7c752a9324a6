r"""Environment files: ``NAME="value"`` lines that systemd, a POSIX shell and our launcher read as the same bytes.

Inside double quotes all three take a backslash away before ``"``, ``\``, ``$`` and a backtick, and leave everything
else alone, newlines too. So exactly these four are escaped, and only NUL, which no environment can hold, is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
NEEDS_ESCAPE = re.compile(r'["\\$`]')
ASSIGNMENT = re.compile(r'(?P<name>[A-Za-z_][A-Za-z0-9_]*)="(?P<value>(?:[^"\\]|\\.)*)"[ \t]*(?=\n|\Z)', re.DOTALL)
BLANK = re.compile(r"[ \t\n]+|#[^\n]*")


def render(values: Mapping[str, str]) -> str:
    """Return the text of a file that sets exactly ``values``, in their order.

    Raises :class:`WorkfleetError`, which never repeats a value, for a name that no shell knows and for NUL.
    """
    lines = []
    for name, value in values.items():
        if not NAME.match(name):
            raise WorkfleetError(f"{name!r} is no environment name: letters, digits and _ are allowed, no digit first")
        if "\0" in value:
            raise WorkfleetError(f"the value of {name} holds a NUL character, which no environment can hold")
        escaped = NEEDS_ESCAPE.sub(lambda found: "\\" + found.group(), value)
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def parse(text: str) -> dict[str, str]:
    """Return what a file of our own form sets; the inverse of :func:`render`.

    Blank lines and whole-line comments are passed over; anything else raises :class:`WorkfleetError` with its line.
    """
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        blank = BLANK.match(text, position)
        if blank:
            position = blank.end()
            continue
        match = ASSIGNMENT.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            raise WorkfleetError(f'line {line} of the environment file is not of the form NAME="value"')
        found[match["name"]] = re.sub(r'\\(["\\$`\n])', lambda pair: pair[1].strip("\n"), match["value"])
        position = match.end()
    return found
