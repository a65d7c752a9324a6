"""Options of an engine's worker as data, and what is said about wrong ones."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from .. import forms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Option:
    """One option: its flag if it has one, what a value must be (``kind``), since which version it exists, why it is refused."""

    flag: str = ""
    kind: str = "text"
    minimum: float = 0
    maximum: float = 1e9
    choices: tuple[str, ...] = ()
    since: str = ""
    refused: str = ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no such name; the nearest of the known ones stands first."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{kind}.{name}: no such name; {hint}Known: {', '.join(known)}"


def check(table: Mapping[str, Option], options: Mapping[str, Any], kinds: Mapping[str, Kind] | None = None) -> list[str]:
    """Return what is wrong with a group's ``options``, one sentence each; ``kinds`` are the engine's own, over ours."""
    known = {**KINDS, **(kinds or {})}
    problems = []
    for name, value in options.items():
        option = table.get(name)
        if option is None:
            problems.append(unknown("options", name, (name for name, option in table.items() if not option.refused)))
        elif option.refused:
            problems.append(f"options.{name}: refused: {option.refused}")
        else:
            wanted = known[option.kind](option, value)
            problems += [f"options.{name} = {forms.quoted(value)}: must be {wanted}"] if wanted else []
    return problems


def _number(kinds: tuple[type, ...], name: str) -> Kind:
    def wanted(option: Option, value: Any) -> str:
        if type(value) in kinds and option.minimum <= value <= option.maximum:
            return ""
        least = " above 0" if 0 < option.minimum < 1 else f", {option.minimum:g} or more"
        return f"{name}{least} and at most {option.maximum:g}"
    return wanted


def _wanted_list(_: Option, value: Any) -> str:
    names = value if isinstance(value, (list, tuple)) else ()
    right = names and all(_is_line(name) and "," not in name for name in names)
    return "" if right else "a list of names, none of them empty or with a comma"


def _is_line(value: Any) -> bool:
    try:
        return bool(forms.name(value))
    except (ValueError, TypeError):
        return False


#: Says what a value should have been; empty where it is right.
Kind = Callable[[Option, Any], str]
KINDS: dict[str, Kind] = {
    "flag": lambda _, value: "" if isinstance(value, bool) else "true or false",
    "text": lambda _, value: "" if _is_line(value) else "a text of one line that is not empty",
    "int": _number((int,), "a whole number"),
    "float": _number((int, float), "a number of seconds"),
    "choice": lambda option, value: "" if value in option.choices else f"one of {', '.join(option.choices)}",
    "list": _wanted_list,
}
