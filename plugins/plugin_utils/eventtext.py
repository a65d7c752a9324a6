"""How task events and the figures of a load look in a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet import shown
from ansible_collections.workfleet.core.plugins.plugin_utils import logtext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FIGURES = ("p50", "p95", "p99", "max")


def line(app: str, event: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return ``HH:MM:SS.mmm host group slot.incarnation event task[id] seconds text`` and a colour."""
    at = event["at"]
    clock = f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at * 1000) % 1000:03d}"
    words = [clock, node(app, event["node"]), event["event"] if event["is_of_task"] else f"worker {event['event']}"]
    if event["id"]:
        words.append(f"{event['task'] or '?'}[{event['id']}]")
    if event["seconds"] is not None:
        words.append(f"{event['seconds']:.3f} s")
    if event["text"]:
        words.append(event["text"])
    return shown.line(" ".join(words)), logtext.COLOURS.get(event["level"])


def node(app: str, name: str) -> str:
    """Return ``host group slot.incarnation`` for a node of the app; others keep their name."""
    words, _, host = name.partition("@")
    parts = words.rsplit(".", 3)
    return f"{host} {parts[1]} {parts[2]}.{parts[3]}" if len(parts) == 4 and parts[0] == app else name


def progress(told: Mapping[str, Any]) -> str:
    """Return how far a load is."""
    untold = f"{told['ended_untold']} ended untold, " if told["ended_untold"] else ""
    return (f"{told['seconds']:6.1f} s: {told['sent']} sent, {told['succeeded']} succeeded, {told['failed']} failed, {untold}"
            f"{told['unanswered']} under way")


def report(told: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the lines of a load's report, each with a colour."""
    untold = f"{told['ended_untold']} of which it is not told how they ended, " if told["ended_untold"] else ""
    rate = "" if told["ended_per_second"] is None else f"; {told['ended_per_second']:g} a second, over {told['seconds']:.2f} s"
    bad = told["unanswered"] or told["failed"]
    yield (f"{told['sent']} sent in {told['sending_seconds']:.2f} s, {told['succeeded']} succeeded, {told['failed']} failed, {untold}"
           f"{told['unanswered']} did not come back{rate}"), "red" if bad else "green"
    yield "seconds" + "".join(f"{name:>10}" for name in FIGURES), None
    for name in ("total", "wait", "run"):
        figures = told["latency"][name]
        yield f"{name:7}" + "".join(f"{figures[key]:10.3f}" if figures else f"{'-':>10}" for key in FIGURES), None
    ended = told["sent"] - told["unanswered"]
    if told["runs_told"] < ended:
        yield f"wait and run are of the {told['runs_told']} tasks whose worker told how long they ran", None
    for reason in told["reasons"]:
        yield f"{reason['tasks']} × {shown.line(reason['reason'])}", "yellow"
