"""The fleet's status: one value from what all hosts told, and the table a person reads."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet import shown
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

COLOURS = {
    "ready": "green", "starting": "yellow", "draining": "yellow", "stopped": "normal",
    "failed": "red", "unresponsive": "red", "unknown": "red",
}
#: Worker groups of one node that are told apart from the nodes.
SINGLES = ("scheduler", "dashboard")
COLUMNS = ("host", "group", "node", "state", "up", "run", "held", "done", "rss", "release", "queues")
NUMBERS = ("up", "run", "held", "done", "rss")
#: What is cut in a narrow terminal (but not below a few letters), and then left out, in this order.
CUT, SHORT = ("queues", "host", "group"), 8
DROPPED = ("rss", "release", "held", "done", "up", "run", "queues")
#: Above so many rows, groups in which all is well become one row each.
MOST_ROWS = 40


def combine(app: str, told: Mapping[str, Mapping[str, Any]], made_of: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the status JSON. ``told`` has each host's ``worker_info`` result, failed and unreachable ones too.

    ``made_of`` says by host what its release is declared to be made of: where that is not the same, hosts have releases of their own.
    """
    hosts: dict[str, dict[str, Any]] = {}
    alike: dict[str, list[str]] = {}
    strangers: list[str] = []
    queues: dict[tuple[str, str], dict[str, Any]] = {}
    for host, result in told.items():
        if result.get("unreachable") or result.get("failed") or "nodes" not in result:
            hosts[host] = entry({"nodes": [], "scaled": {}})
            what = "unreachable" if result.get("unreachable") else "cannot be read"
            alike.setdefault(f"{what}: {str(result.get('msg', 'it was not asked')).strip()}", []).append(host)
            continue
        hosts[host] = entry(result)
        for text in result["problems"]:
            alike.setdefault(text, []).append(host)
        strangers += result.get("strangers", ())
        for queue in result["queues"]:
            name = (queue["engine"], queue["queue"])
            queues[name] = joined(queues[name], queue) if name in queues else queue
    problems = [*(f"{', '.join(where)}: {text}" for text, where in alike.items()), *strangers]
    alike_declared: dict[str, dict[str, fleet.Known]] = {}
    for host, each in hosts.items():
        alike_declared.setdefault((made_of or {}).get(host, ""), {})[host] = fleet.Known(each["release"])
    for current in alike_declared.values():
        if len(releases := fleet.by_release(current)) > 1:
            problems.append(f"the hosts do not have one release: {fleet.told(releases)}. A run without --limit of site.yml, deploy.yml or "
                            "rollback.yml brings them together")
    told_all: dict[str, Any] = shown.value(
        {"app": app, "hosts": hosts, "queues": [queues[key] for key in sorted(queues)], "problems": problems})
    return told_all


def joined(known: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a queue as two hosts tell of it: the broker is the same, what their nodes do adds up."""
    whole = known if known["waiting"] is not None else other
    sums = {name: None if known.get(name) is None or other.get(name) is None else known[name] + other[name]
            for name in ("running", "consumers")}
    return {**whole, **sums}


def entry(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the status JSON tells of one host; ``result`` is its ``worker_info``, of which little may be there."""
    nodes = result["nodes"]
    workers = [node for node in nodes if node["group"] not in SINGLES]
    # While one is replaced there are two: the one that goes is the older.
    singles = {name: max((node for node in nodes if node["group"] == name), key=lambda node: int(node["incarnation"]), default=None)
               for name in SINGLES}
    known = {name: result.get(name) for name in ("manager", "release", "declared_release", "hold")}
    return {**known, "nodes": workers, **singles, "scaled": result["scaled"]}


def processes(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a host's nodes with its scheduler and its dashboard."""
    return [*entry["nodes"], *(entry[name] for name in SINGLES if entry.get(name))]


def table(status: Mapping[str, Any], width: int, paint: Callable[[str, str], str]) -> list[str]:
    """Return the lines of the table, at most ``width`` characters each; ``paint(text, colour)`` colours a text."""
    rows = [{name: shown.line(cell) for name, cell in row.items()}
            for host, entry in status["hosts"].items() for row in host_rows(host, processes(entry))]
    if len(rows) > MOST_ROWS:
        rows = fold(rows)
    lines = [*folded(f"{status['app']}: {summary(status)}", width), ""]
    if rows:
        lines += grid([{name: name.upper() for name in COLUMNS}, *rows], width, paint)
        if any(row["state"].endswith("*") for row in rows):
            lines.append("* of another generation: the next site.yml replaces it")
    for host, entry in status["hosts"].items():
        lines += [line for name, count in entry["scaled"].items() for line in folded(
            f"{host}: {name}: {count['nodes']} nodes, set by {count['by']}; the inventory has {count['declared']}", width, 2)]
    if status["queues"]:
        # A blank that is not broken keeps a number with its queue.
        waits = [f"{queue['queue']}\u00a0{'?' if queue['waiting'] is None else queue['waiting']}" for queue in status["queues"]]
        lines += ["", *(line.replace("\u00a0", " ") for line in folded(f"waiting: {', '.join(waits)}", width, 9))]
    if status["problems"]:
        lines += ["", paint("problems:", "red")]
        lines += [paint(line, "red") for text in status["problems"] for line in paragraph(text, width)]
    return lines


def folded(text: str, width: int, indent: int = 0) -> list[str]:
    """Return a line as lines of at most ``width``; all but the first are indented."""
    return textwrap.wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)


def paragraph(text: str, width: int) -> list[str]:
    """Return a problem, which may hold log lines, indented below its head."""
    first, *others = text.splitlines() or [""]
    lines = folded(f"  {first}", width, 4)
    return lines + [line for other in others for line in folded(f"    {other.rstrip()}", width, 6)]


def summary(status: Mapping[str, Any]) -> str:
    """Return one clause on the whole fleet."""
    states = [node["state"] for entry in status["hosts"].values() for node in entry["nodes"]]
    told = ", ".join(f"{states.count(state)} {state}" for state in COLOURS if state in states)
    hosts = len(status["hosts"])
    singles = "".join(f", {name} {entry[name]['state']} on {host}" for name in SINGLES
                      for host, entry in status["hosts"].items() if entry.get(name))
    return (f"{len(states)} node{'' if len(states) == 1 else 's'} on {hosts} host{'' if hosts == 1 else 's'}: "
            f"{told or 'nothing runs'}{singles}")


def host_rows(host: str, nodes: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return one row a node."""
    return [{
        "host": host, "group": node["group"], "node": f"{node['slot']}.{node['incarnation']}",
        "state": state(node), "up": span(node["uptime_seconds"]),
        "run": figure(node["running"]), "held": figure(node["reserved"]), "done": figure(node["processed"]),
        "rss": size(node["memory_bytes"]), "release": (node["release"] or "-")[:12], "queues": ",".join(node["queues"] or ["-"]),
    } for node in nodes]


def state(node: Mapping[str, Any]) -> str:
    """Return a node's state; of one that drains, for how long, and a mark at one of another generation that will not go by itself."""
    since = f" {span(node['draining_seconds'])}" if node["draining_seconds"] is not None else ""
    return f"{node['state']}{since}{' *' if node['current'] is False and node['state'] != 'draining' else ''}"


def fold(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Make one row of the nodes of a host's group where all of them are ready and current."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["host"], row["group"]), []).append(row)
    folded = []
    for members in groups.values():
        if len(members) > 1 and all(row["state"] == "ready" for row in members):
            folded.append({**members[0], "node": f"×{len(members)}", "run": total(members, "run"), "held": total(members, "held"),
                           "done": total(members, "done"), "rss": "-", "up": "-"})
        else:
            folded += members
    return folded


def total(rows: Iterable[Mapping[str, str]], name: str) -> str:
    """Return the sum of a column; what one node cannot tell, the sum cannot."""
    values = [row[name] for row in rows]
    return "-" if "-" in values else str(sum(int(value) for value in values))


def grid(rows: list[dict[str, str]], width: int, paint: Callable[[str, str], str]) -> list[str]:
    """Return aligned lines; what the terminal has no room for is left out or cut, the least important first."""
    widths = fit({name: max(len(row[name]) for row in rows) for name in COLUMNS
                  if any(row[name] not in ("-", name.upper()) for row in rows)}, width)
    last = list(widths)[-1]
    lines = []
    for number, row in enumerate(rows):
        cells = []
        for name, room in widths.items():
            text = row[name] if len(row[name]) <= room else row[name][:room - 1] + "…"
            padded = text.rjust(room) if name in NUMBERS else text if name == last else text.ljust(room)
            colour = COLOURS.get(row["state"].split(" ")[0], "normal") if number else "bright gray"
            cells.append(paint(padded, colour) if name == "state" or not number else padded)
        lines.append("  ".join(cells).rstrip())
    return lines


def fit(wanted: dict[str, int], width: int) -> dict[str, int]:
    """Return the widths of the columns that have room."""
    found = dict(wanted)

    def excess() -> int:
        return sum(found.values()) + 2 * (len(found) - 1) - width

    for name in CUT:
        if name in found and excess() > 0:
            found[name] = max(min(found[name], SHORT), found[name] - excess())
    for name in DROPPED:
        if excess() > 0:
            found.pop(name, None)
    # Room that is free again goes to those that were cut.
    for name in reversed(CUT):
        if name in found:
            found[name] = min(wanted[name], found[name] + max(0, -excess()))
    return found


def figure(value: int | None) -> str:
    """Return a number, or a dash for one that is not told."""
    return "-" if value is None else str(value)


def span(seconds: float | None) -> str:
    """Return a duration in its largest unit."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def size(value: int | None) -> str:
    """Return bytes as megabytes."""
    return "-" if value is None else f"{value / 1e6:.0f}M"
