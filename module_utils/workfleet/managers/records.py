"""Run records: what a node's launcher and its runner tell in a file of the app's, and whatever else the app's user writes there.

A record is a node's word about itself. It counts for the process alone that it names and that is the node's (:mod:`processes`),
it is read by this one decoder, and it can make its node look stale, not ready or busy, but never anything that the service
manager's or our own files deny; see ``docs/decisions/0008-a-record-is-a-claim.md``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Callable, NoReturn

#: A name or an id of a task is cut at so many characters; no more tasks are told of.
TEXT_CHARACTERS, MOST_TASKS = 300, 100_000
#: In UTC: the year 5138.
LAST_MOMENT = 1e11
MOST = 2**53


class Broken(ValueError):
    """A record that no launcher or runner wrote; says what of it is wrong."""


@dataclass(frozen=True)
class Record:
    """A run record: what the launcher wrote when it started the process that is alive now.

    ``ready`` and ``stopping`` are Unix times written by a runner inside the worker, or ``None``. ``starts`` counts
    the starts of this unit since it was last started on purpose. ``quiesced`` is since when it takes no new tasks, by the
    order of ``drain.yml``, and ``holds`` what it tells of those that it still has; see ``runners/workfleet_tell.py``.
    ``mark`` is the file that it heeds; an older launcher named none.
    """

    generation: str
    starts: int = 1
    ready: float | None = None
    stopping: float | None = None
    quiesced: float | None = None
    holds: dict[str, Any] | None = field(default=None, hash=False)
    mark: str | None = None


@dataclass(frozen=True)
class Claim:
    """A record with the process that it says it is of."""

    pid: int
    started: int
    record: Record


def decode(text: str, unit: str) -> Claim:
    """Return what a record of the node ``unit`` tells. Raises :class:`Broken`, and nothing else, whatever it holds."""
    try:
        data = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise Broken("it is no JSON") from error
    if not isinstance(data, dict):
        raise Broken("it is no mapping")
    if "unit" in data and data["unit"] != unit:
        raise Broken("unit: it is another node's")
    record = Record(
        _needed(data, "generation", _text), _optional(data, "starts", _whole, 1), _optional(data, "ready", _moment),
        _optional(data, "stopping", _moment), _optional(data, "quiesced", _moment), _optional(data, "holds", _holds),
        _optional(data, "mark", _path))
    return Claim(_needed(data, "pid", _whole), _needed(data, "starttime", _whole), record)


def _refused(word: str) -> NoReturn:
    raise ValueError(word)


def _needed(data: dict[str, Any], key: str, kind: Callable[[Any], Any]) -> Any:
    try:
        return kind(data[key])
    except KeyError:
        raise Broken(f"{key}: it is missing") from None
    except Broken:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise Broken(f"{key}: it is no {error}") from None


def _optional(data: dict[str, Any], key: str, kind: Callable[[Any], Any], default: Any = None) -> Any:
    return default if data.get(key) is None else _needed(data, key, kind)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST:
        raise ValueError("whole number that can be")
    return value


def _moment(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= LAST_MOMENT or not math.isfinite(value):
        raise ValueError("moment that can be")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return value[:TEXT_CHARACTERS].encode(errors="replace").decode()


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("path")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _holds(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("tasks"), list) or len(value["tasks"]) > MOST_TASKS:
        raise ValueError("account of tasks")
    found = {key: _optional(value, key, _whole) for key in ("before", "held", "more", "returned")}
    return {"tasks": [_task(task) for task in value["tasks"]], "idle": _optional(value, "idle", _moment),
            **{key: number for key, number in found.items() if number is not None}}


def _task(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("list of tasks")
    return {"id": _needed(value, "id", _text), "task": _optional(value, "task", _text), "since": _optional(value, "since", _moment),
            "acked": _needed(value, "acked", _flag)}
