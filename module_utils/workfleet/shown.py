"""What others wrote, as it may be shown: in a terminal, in JSON, in the journal.

Names of tasks and queues, log lines, answers of workers and messages of programs are anybody's. What would act on a terminal, or make a
line look like another one, is shown by its number: ``\\x1b``, ``\\u202e``.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

#: Control characters but tab and line end, DEL, C1, marks of direction, separators of lines and paragraphs, halves of characters.
UNSHOWN = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def text(foreign: str) -> str:
    """Return a text that may have lines and tabs of its own."""
    if not UNSHOWN.search(foreign):
        return foreign
    return UNSHOWN.sub(_number, foreign.replace("\r\n", "\n"))


def line(foreign: str) -> str:
    """Return a text that stays in its line, and in its column."""
    return text(foreign).replace("\n", " ").replace("\t", " ")


def end(foreign: str, most: int) -> str:
    """Return the end of what a program said, ``most`` characters at most; it begins with a whole line, or at least a whole word."""
    said = foreign.strip()
    if len(said) <= most:
        return said
    kept = said[-most:]
    for begins in ("\n", " "):
        _, found, rest = kept.partition(begins)
        if found and rest.strip():
            return rest.lstrip()
    return kept


def value(foreign: Any) -> Any:
    """Return a value as JSON can hold it, keys and texts fit to be shown; a number that is none, or has no end, is told as null."""
    if isinstance(foreign, str):
        return text(foreign)
    if isinstance(foreign, float):
        return foreign if math.isfinite(foreign) else None
    if isinstance(foreign, dict):
        return {text(key) if isinstance(key, str) else key: value(item) for key, item in foreign.items()}
    if isinstance(foreign, (list, tuple)):
        return [value(item) for item in foreign]
    return foreign


def json_file(foreign: Any) -> str:
    """Return the text of a JSON file for programs and people."""
    return json.dumps(value(foreign), indent=1, allow_nan=False) + "\n"


def _number(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def without_credentials(text: str) -> str:
    """Return ``text`` with the user and password of every URL in it left out."""
    return _CREDENTIALS.sub("***@", text)
