"""Live controls as data: what each takes, and what is said about a wrong one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    #: What each control takes, by its name.
    Controls = Mapping[str, Sequence["Argument"]]

_RATE = re.compile(r"\d+(\.\d+)?(/[smh])?\Z")


@dataclass(frozen=True)
class Argument:
    """One argument of a control: the extra variable's name, what a value must be, the engine's own name for it."""

    name: str
    kind: str
    sent: str
    required: bool = False


def text(value: Any) -> Any:
    """Return a text; raises ValueError, as all of these do, with what it should have been."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not empty")
    return value


def number(value: Any, least: int = 0) -> Any:
    """Return a whole number; what comes from a command line is a text."""
    if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value)) or int(value) < least:
        raise ValueError(f"a whole number, {least} or more")
    return int(value)


def seconds(value: Any) -> Any:
    """Return seconds above 0."""
    if isinstance(value, bool) or not re.fullmatch(r"\d+(\.\d+)?", str(value)) or float(value) <= 0:
        raise ValueError("a number of seconds above 0")
    return float(value)


def rate(value: Any) -> Any:
    """Return a rate; 0 lifts the limit."""
    if isinstance(value, bool) or not _RATE.match(str(value)):
        raise ValueError("a number of tasks a second, or such as 10/m or 100/h; 0 lifts the limit")
    return str(value)


def flag(value: Any) -> Any:
    """Return true or false; what comes from a command line is a text."""
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(value).lower() not in known:
        raise ValueError("true or false")
    return known[str(value).lower()]


KINDS = {"text": text, "number": number, "count": lambda value: number(value, 1), "seconds": seconds, "rate": rate, "flag": flag}


def check(engine: str, controls: Mapping[str, Controls], name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a control's arguments as an engine takes them; ``controls`` are those of all engines, by name.

    Raises on a control that the engine does not have, and on wrong arguments.
    """
    if name not in controls[engine]:
        have = [other for other, known in controls.items() if name in known]
        every = sorted({control for known in controls.values() for control in known})
        raise WorkfleetError(f"control = {name}: engine {engine} does not have it; {', '.join(have)} has" if have
                             else f"control = {name}: there is no such control; known are {', '.join(every)}")
    wanted = {argument.name: argument for argument in controls[engine][name]}
    lacking = [argument.name for argument in wanted.values() if argument.required and argument.name not in given]
    problems = [f"{word}: is required for {name}" for word in lacking]
    problems += [f"{word}: means nothing to {name}, which takes {', '.join(wanted)}" for word in given if word not in wanted]
    found = {}
    for word in set(given) & set(wanted):
        try:
            found[word] = KINDS[wanted[word].kind](given[word])
        except ValueError as error:
            problems.append(f"{word} = {given[word]!r}: must be {error}")
    if found.get("autoscale_min", 0) > found.get("autoscale_max", float("inf")):
        problems.append("autoscale_min: is above autoscale_max")
    if found.get("soft_time_limit", 0) > found.get("time_limit", float("inf")):
        problems.append("soft_time_limit: is above time_limit")
    if problems:
        raise WorkfleetError("; ".join(sorted(problems)))
    return found
