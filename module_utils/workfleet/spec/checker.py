"""Readers of a declaration's single values: each returns a sound one, or notes what is wrong with it."""

from __future__ import annotations

import difflib
import logging
import re
from typing import TYPE_CHECKING, Any

from .. import forms, shown
from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?\Z")
#: Neither unit files nor ini files hold a line end or a blank at a value's end.
ABSOLUTE = re.compile(r"/(?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f/])\Z")
PATH = "an absolute path, without control characters and with neither / nor a blank at its end"
SIZE = re.compile(r"[1-9][0-9]{0,17}[KMGT]?\Z")
LEAST_MEMORY, MOST_MEMORY = 1 << 20, 1 << 50
#: What the kernel takes as one word of an environment or a command.
LONGEST_VALUE = 100_000
#: Names that the toolkit itself gives to every node; see the closed list in docs/environment.md.
RESERVED_ENVIRONMENT = ("NOTIFY_SOCKET", "SPT_NOENV", "WORKFLEET_GENERATION", "WORKFLEET_RECORD")


class SpecError(WorkfleetError):
    """A declaration that cannot be used. ``problems`` holds one sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        problems = [shown.line(text) for text in problems]
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__(f"the declaration has {count}:\n" + "\n".join(f"- {text}" for text in problems))
        self.problems = problems


class Checker:
    """Collects the mistakes of one mapping, and gives back sound values (or the default) for each key."""

    def __init__(self, entry: str, raw: Mapping[str, Any], problems: list[str]) -> None:
        self.entry = entry
        self.raw = raw
        self.problems = problems
        #: Keys with a mistake; what else is said of them would be said of a default.
        self.refused: set[str] = set()

    def wrong(self, key: str, allowed: str, *, given: Any = None, secret: bool = False) -> None:
        """Note a mistake: which entry, which key, what was given (unless it may be secret), what is allowed."""
        self.refused.add(key.partition(".")[0])
        said = "" if secret else f" = {forms.quoted(given)}"
        # An entry that ends in _ is the prefix of variables: app_ and env make app_env.
        where = f"{self.entry}{key}" if self.entry.endswith("_") else f"{self.entry}: {key}"
        self.problems.append(f"{where}{said}: {allowed}")

    def unknown(self, known: Iterable[str]) -> None:
        """Refuse keys that nobody reads, the nearest known one first."""
        names = list(known)
        for key in self.raw:
            if key not in names:
                near = difflib.get_close_matches(str(key), names, 1)
                hint = f"did you mean {near[0]}? " if near else ""
                self.problems.append(f"{self.entry}: {shown_name(key)}: unknown key; {hint}known are {', '.join(names)}")

    def value(
        self, key: str, default: Any, sound: Callable[[Any], Any], allowed: str, *, secret: bool = False
    ) -> Any:
        """Return ``sound(value)``; ``sound`` raises ValueError, TypeError or OverflowError on a wrong one."""
        if self.raw.get(key) is None:
            return default
        try:
            return sound(self.raw[key])
        except (ValueError, TypeError, OverflowError):
            self.wrong(key, f"must be {allowed}", given=self.raw[key], secret=secret)
            return default

    def text(self, key: str, default: str, *, pattern: re.Pattern[str] | None = None, allowed: str = "a text of one line") -> str:
        """Return a text of one line; with ``pattern`` one that matches it whole."""

        def sound(value: Any) -> str:
            if pattern is not None and not pattern.match(forms.line(value)):
                raise ValueError
            return forms.line(value)

        return str(self.value(key, default, sound, allowed))

    def directory(self, key: str, default: str) -> str:
        """Return a directory that is the app's own; a default is one, if its name is."""
        path = self.text(key, default, pattern=ABSOLUTE, allowed=PATH)
        wrong = forms.not_ones_own(path) if key not in self.refused and self.raw.get(key) is not None else ""
        if wrong:
            self.wrong(key, wrong, given=path)
        return path

    def account(self, key: str, default: str, *, root: bool = False) -> str:
        """Return the name of a user or group that can be an app's; with ``root`` that is left to others to judge."""
        name = self.text(key, default, pattern=ACCOUNT, allowed="the name of an account: letters, digits and . _ - $")
        wrong = "" if key in self.refused or (root and name == "root") else forms.not_ones_account(name)
        if wrong:
            self.wrong(key, wrong, given=name)
        return name

    def whole(self, key: str, default: int | None, least: int = 0, most: int = forms.MOST) -> Any:
        """Return a whole number from ``least`` to ``most``."""
        return self.value(key, default, lambda value: whole(value, least, most), f"a whole number, {least} or more and at most {most}")

    def seconds(self, key: str, default: float | None, *, zero: bool = True) -> Any:
        """Return a number of seconds, of 30 days at most."""
        least = ", 0 or more" if zero else " above 0"
        return self.value(key, default, seconds if zero else age, f"a number of seconds{least} and at most {forms.MOST_SECONDS}")

    def choice(self, key: str, default: str, choices: Iterable[str]) -> str:
        """Return one of ``choices``."""
        allowed = tuple(choices)

        def sound(value: Any) -> str:
            if value not in allowed:
                raise ValueError
            return str(value)

        return str(self.value(key, default, sound, f"one of {', '.join(allowed)}"))

    def texts(self, key: str, allowed: str = "a list of texts of one line", *, each: Callable[[Any], str] = forms.name) -> tuple[str, ...]:
        """Return a list of texts; ``each`` returns a sound one, or raises."""

        def sound(value: Any) -> tuple[str, ...]:
            if not isinstance(value, (list, tuple)):
                raise TypeError
            return tuple(each(item) for item in value)

        found: tuple[str, ...] = self.value(key, (), sound, allowed)
        return found

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return a mapping with text keys. What else is given may hold a secret, and is never repeated."""

        def sound(value: Any) -> dict[str, Any]:
            return {forms.name(name): item for name, item in value.items()}

        if self.raw.get(key) is not None and not hasattr(self.raw[key], "items"):
            self.wrong(key, "must be a mapping", secret=True)
            return {}
        found: Mapping[str, Any] = self.value(key, {}, sound, "a mapping with texts of one line as keys", secret=True)
        return found

    def data(self, key: str) -> Mapping[str, Any]:
        """Return a mapping that stands in a command line or a file: of plain data, without credentials."""
        found = {}
        for name, item in self.mapping(key).items():
            try:
                found[name] = forms.data(item)
            except (ValueError, TypeError):
                self.wrong(f"{key}.{name}", "must be made of texts without NUL, finite numbers, true, false, lists and mappings, "
                           "not too long and not too deep", secret=True)
        return found

    def environment(self, key: str) -> dict[str, str]:
        """Return environment variables. Their values are never repeated in a message."""
        raw = self.raw.get(key)
        if raw is None:
            return {}
        if not hasattr(raw, "items"):
            self.wrong(key, "must be a mapping of environment names to values", secret=True)
            return {}
        found = {}
        for name, value in raw.items():
            if not isinstance(name, str) or not ENVIRONMENT_NAME.match(name):
                self.wrong(f"{key}.{name}", "is no environment name: letters, digits and _ are allowed, no digit first", secret=True)
            elif name in RESERVED_ENVIRONMENT:
                self.wrong(f"{key}.{name}", "is set by the toolkit itself", secret=True)
            elif isinstance(value, bool) or not isinstance(value, (str, int)):
                self.wrong(f"{key}.{name}", "must be a text or a whole number; put quotes around it "
                           "(YAML turns a bare yes, 1.10 or null into something else)", secret=True)
            else:
                try:
                    found[str(name)] = plain(value)
                except ValueError:
                    self.wrong(f"{key}.{name}", f"must be unicode text without NUL, of at most {LONGEST_VALUE} characters", secret=True)
        return found


def plain(value: Any) -> str:
    """Return a text that a process can be given; NUL and broken unicode cannot."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError
    text = str(value)
    if "\0" in text or len(text) > LONGEST_VALUE:
        raise ValueError
    text.encode()
    return text


def whole(value: Any, least: int = 0, most: int = forms.MOST) -> int:
    """Return a whole number; a text of digits counts, as ``-e`` gives it."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError
    if isinstance(value, str) and not re.match(r"-?[0-9]{1,18}\Z", value):
        raise ValueError
    number = int(value)
    if not least <= number <= most:
        raise ValueError
    return number


def seconds(value: Any) -> float:
    """Return a number of seconds, 0 or more."""
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not 0 <= number <= forms.MOST_SECONDS:
        raise ValueError
    return number


def age(value: Any) -> float:
    """Return a number of seconds above 0."""
    number = seconds(value)
    if not number:
        raise ValueError
    return number


def size(value: Any) -> str:
    """Return a size in systemd's words: bytes, or with K, M, G, T."""
    text = str(value)
    if isinstance(value, bool) or not SIZE.match(text):
        raise ValueError
    number = int(text.rstrip("KMGT")) << 10 * " KMGT".index(text[-1] if text[-1] in "KMGT" else " ")
    if not LEAST_MEMORY <= number <= MOST_MEMORY:
        raise ValueError
    return text


def percentage(value: Any) -> str:
    """Return a share of one processor, ``150%``."""
    text = str(value)
    if not re.match(r"[1-9][0-9]{0,5}%\Z", text):
        raise ValueError
    return text


def parallelism(value: Any) -> int | str:
    """Return a count of at least 1, or a percentage from 1 % to 100 %."""
    if isinstance(value, str) and value.endswith("%"):
        if not re.match(r"[0-9]{1,3}%\Z", value) or not 1 <= int(value[:-1]) <= 100:
            raise ValueError
        return str(value)
    return whole(value, 1, forms.MOST_NODES)


def boolean(value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise TypeError
    return value


def port(value: Any) -> int:
    """Return a TCP port."""
    return whole(value, 1, 65535)


def niceness(value: Any) -> int:
    """Return a niceness from -20 to 19."""
    return whole(value, -20, 19)


def shown_name(name: Any) -> str:
    """Return a name as it stands in messages, whatever was given for it."""
    return name if isinstance(name, str) and len(name) <= forms.SHOWN and not forms.has_credentials(name) else forms.quoted(name)


def log_format(value: Any) -> str:
    """Return a format in which every record can be written; empty for the engine's own."""
    forms.line(value)
    try:
        logging.Formatter(value or None).format(logging.makeLogRecord({}))
    except (KeyError, TypeError) as error:
        raise ValueError from error
    return str(value)
