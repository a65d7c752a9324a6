"""What others wrote, read: JSON of bounded size, depth and count, and its values by their types.

Whoever can write to the broker decides what is in it. So everything that is read there comes through here: what is not as
it has to be is one bad entry, :class:`BadEntry`, which is counted and named (:class:`Unread`), and the rest goes on.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import math
import re
from datetime import datetime, timezone
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from .errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Bytes of one document; a text of them may take four times as much.
LARGEST = 4 << 20
#: Brackets, commas and colons of a document: values, and the keys of mappings.
MOST_MARKS = 250_000
#: The same of what a node answers, who tells of every task that it holds: of some 18,000 with an ETA.
LARGEST_ANSWER, MOST_MARKS_OF_ANSWER = 12 << 20, 750_000
DEEPEST = 64
#: Digits of a number.
_LONGEST_NUMBER = 1000
_LARGEST_INTEGER = 2**63 - 1
_LARGEST_NUMBER = 1e300
_LAST_MOMENT = 253402300799.0  # of the year 9999
#: Of bad entries so many keys are told by name, each with its first.
_MOST_KEYS = 20
_LONGEST_NAME = 100

_STRING = re.compile(rb'"[^"]*(?:"|\Z)')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DEPTH = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")

_REQUIRED = object()


class BadEntry(WorkfleetError):
    """What somebody else wrote is not what it has to be; the message says what is wrong with it."""


def document(
    data: Any, largest: int = LARGEST, marks: int = MOST_MARKS, *, odd_numbers: bool = False, odd_texts: bool = False,
) -> Any:
    """Return what a JSON text holds: finite numbers, whole characters, and no more than can be borne.

    With ``odd_numbers`` they may be NaN or infinite, as Python writes them: an app's own affair, in what goes back as it came. Who asks
    for such a one by its type gets a bad entry all the same. With ``odd_texts`` a half of a pair of surrogates, which is no
    character, becomes a question mark: for what does not go back.
    """
    raw = _bytes(data)
    if len(raw) > largest:
        raise BadEntry(f"it has {len(raw)} bytes, more than {largest}")
    outside = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if outside.count(b'"') <= 2 * marks:
        outside = _STRING.sub(b'"', outside)
    if sum(map(outside.count, (b"[", b"{", b",", b":"))) > marks or outside.count(b'"') > marks:
        raise BadEntry(f"it has more than {marks} values")
    if max(accumulate(map(_DEPTH.__getitem__, outside.translate(None, _NO_BRACKETS))), default=0) > DEEPEST:
        raise BadEntry(f"it is nested more than {DEEPEST} deep")
    try:
        finite: dict[str, Any] = {} if odd_numbers else {"parse_constant": _no_number, "parse_float": _number}
        found = json.loads(raw.decode(), parse_int=_integer, **finite)
        if _HALF_PAIR.search(raw):
            whole = json.dumps(found, ensure_ascii=False).encode(errors="replace" if odd_texts else "strict")
            found = json.loads(whole) if odd_texts else found
    except BadEntry:
        raise
    except (ValueError, RecursionError) as error:
        raise BadEntry("it is no JSON") from error
    return found


def _bytes(data: Any) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode("utf-8", "surrogatepass")
    raise BadEntry("it is no text")


def _no_number(text: str) -> Any:
    raise BadEntry(f"{text} is no number")


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise BadEntry(f"a number has {len(text)} digits")
    return int(text)


def _number(text: str) -> float:
    if len(text) > _LONGEST_NUMBER or not math.isfinite(found := float(text)):
        raise BadEntry("a number is too large")
    return found


def base64(told: str) -> bytes:
    """Return what a text of base64 holds."""
    try:
        return binascii.a2b_base64(told)
    except ValueError as error:
        raise BadEntry("it is no base64") from error


# Values by their types


def text(told: Any) -> str:
    """A text."""
    if not isinstance(told, str):
        raise BadEntry(f"{_kind(told)} in place of a text")
    return told


def integer(told: Any) -> int:
    """A whole number of 64 bits."""
    if isinstance(told, bool) or not isinstance(told, int) or not -_LARGEST_INTEGER <= told <= _LARGEST_INTEGER:
        raise BadEntry(f"{_kind(told)} in place of a whole number")
    return told


def count(told: Any) -> int:
    """A whole number that is not negative."""
    if integer(told) < 0:
        raise BadEntry("a negative number in place of a count")
    return integer(told)


def number(told: Any) -> float:
    """A finite number."""
    if isinstance(told, bool) or not isinstance(told, (int, float)):
        raise BadEntry(f"{_kind(told)} in place of a number")
    if not -_LARGEST_NUMBER <= told <= _LARGEST_NUMBER:
        raise BadEntry("a number is too large")
    return float(told)


def moment(told: Any) -> float:
    """A time, in seconds since 1970 or in ISO 8601, as seconds; without a zone it is UTC."""
    try:
        if isinstance(told, str):
            found = datetime.fromisoformat(told.replace("Z", "+00:00"))
            seconds = (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
        else:
            seconds = number(told)
    except (ValueError, OverflowError) as error:
        raise BadEntry("a text in place of a time") from error
    if not 0 <= seconds <= _LAST_MOMENT:
        raise BadEntry("a time that no clock shows")
    return seconds


def flag(told: Any) -> bool:
    """Yes or no."""
    if not isinstance(told, bool):
        raise BadEntry(f"{_kind(told)} in place of true or false")
    return told


def items(told: Any) -> list[Any]:
    """A list."""
    if not isinstance(told, list):
        raise BadEntry(f"{_kind(told)} in place of a list")
    return told


def parts(told: Any, number: int) -> list[Any]:
    """A list of just so many."""
    if len(items(told)) != number:
        raise BadEntry(f"it is no list of {number}")
    return items(told)


def fields(told: Any) -> Fields:
    """A mapping."""
    if not isinstance(told, dict):
        raise BadEntry(f"{_kind(told)} in place of a mapping")
    return Fields(told)


def _kind(told: Any) -> str:
    kinds = {type(None): "nothing", bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list",
             dict: "a mapping"}
    return kinds.get(type(told), "something else")


class Fields:
    """A mapping; each value is asked for by its type. With a value for ``otherwise`` it may be missing, or nothing."""

    def __init__(self, told: dict[Any, Any]) -> None:
        self.told = told

    def _ask(self, name: str, kind: Callable[[Any], Any], otherwise: Any) -> Any:
        value = self.told.get(name)
        if value is None and otherwise is not _REQUIRED:
            return otherwise
        try:
            return kind(value)
        except BadEntry as error:
            raise BadEntry(f"{name}: {error}") from error

    def text(self, name: str, otherwise: Any = _REQUIRED) -> Any:
        """A text."""
        return self._ask(name, text, otherwise)

    def integer(self, name: str, otherwise: Any = _REQUIRED) -> Any:
        """A whole number."""
        return self._ask(name, integer, otherwise)

    def count(self, name: str, otherwise: Any = _REQUIRED) -> Any:
        """A whole number that is not negative."""
        return self._ask(name, count, otherwise)

    def number(self, name: str, otherwise: Any = _REQUIRED) -> Any:
        """A finite number."""
        return self._ask(name, number, otherwise)

    def moment(self, name: str, otherwise: Any = _REQUIRED) -> Any:
        """A time."""
        return self._ask(name, moment, otherwise)

    def flag(self, name: str, otherwise: Any = _REQUIRED) -> Any:
        """Yes or no."""
        return self._ask(name, flag, otherwise)

    def items(self, name: str, otherwise: Any = _REQUIRED) -> Any:
        """A list."""
        return self._ask(name, items, otherwise)

    def texts(self, name: str, otherwise: Any = _REQUIRED) -> Any:
        """A list of texts."""
        return self._ask(name, lambda told: [text(item) for item in items(told)], otherwise)

    def fields(self, name: str, otherwise: Any = _REQUIRED) -> Any:
        """A mapping."""
        return self._ask(name, fields, otherwise)


class Unread:
    """Bad entries: how many of each key, and what was wrong with the first."""

    def __init__(self) -> None:
        self.found: dict[str, list[Any]] = {}
        self.others = 0

    @contextlib.contextmanager
    def entry(self, key: str, name: bytes | str = "") -> Iterator[None]:
        """Count what is read in this block where it is a bad entry of a key, and go on behind it."""
        try:
            yield
        except BadEntry as error:
            self.add(key, name, error)

    @property
    def total(self) -> int:
        """How many there are."""
        return self.others + sum(int(number) for number, _, _ in self.found.values())

    def add(self, key: str, name: bytes | str, error: BadEntry) -> None:
        """Count one."""
        if key in self.found:
            self.found[key][0] += 1
        elif len(self.found) < _MOST_KEYS:
            shown = name.decode(errors="replace") if isinstance(name, bytes) else name
            self.found[key] = [1, shown[:_LONGEST_NAME], str(error)]
        else:
            self.others += 1

    def said(self) -> list[str]:
        """Return a sentence for each key."""
        told = []
        for key, (number, name, why) in self.found.items():
            what = "an entry that cannot be read was" if number == 1 else f"{number} entries that cannot be read were"
            told.append(f"key {key}: {what} left alone{', the first' if number > 1 else ''}{f' ({name})' if name else ''}: {why}")
        return told + ([f"{self.others} entries of other keys cannot be read"] if self.others else [])
