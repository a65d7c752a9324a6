"""The queues of an app as its hosts declare them, and the table of their figures that a person reads."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import engines, model, shown
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.taskqueue import Source
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.queues.info import own as own_queues
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ansible.template import Templar

COLUMNS = ("queue", "engine", "waiting", "held", "running", "later", "again", "dead", "oldest", "in/s", "out/s", "nodes")
LEFT = ("queue", "engine")
EXACT = {"exact": "", "at_least": "≥"}


def declarations(arguments: Mapping[str, Any], task_vars: Mapping[str, Any], templar: Templar) -> list[model.Declaration]:
    """Return what the task's own host declares, and after it the other hosts that the task names."""
    own = str(task_vars["inventory_hostname"])
    found = [actions.declaration(arguments, own)]
    for name in arguments.get("hosts") or []:
        if name != own and name in task_vars["hostvars"]:
            raw = {**task_vars["hostvars"].raw_get(name), "hostvars": task_vars["hostvars"]}
            host = inventory.Host(name, raw, templar)
            given = host.declaration()
            if host.unread:
                raise AnsibleActionFail(f"{name}: {'. '.join(host.unread.values())}")
            found.append(actions.declaration(given, name))
    return [declared for declared in found if declared.app.name == found[0].app.name]


def sources(declared: Sequence[model.Declaration], only: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return the queues of all worker groups by engine and broker, as the modules take them."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for declaration in declared:
        app = declaration.app
        for group in declaration.groups:
            engine = engines.named(group.engine)
            if not engine.speaks or group.name in (model.SCHEDULER, model.DASHBOARD) or (only is not None and group.name not in only):
                continue
            if not app.broker_url:
                raise AnsibleActionFail("app_broker_url: is needed to look at queues, and is not declared")
            source = found.setdefault((group.engine, app.broker_url), asdict(Source(
                group.engine, app.broker_url, [], dict(app.broker_options))))
            names = () if group.command and not group.queues else engine.queues(group)
            source["queues"] += [name for name in names if name not in source["queues"]]
    return list(found.values())


def ours(declared: Sequence[model.Declaration], task_vars: Mapping[str, Any]) -> dict[str, Any]:
    """Return by what nodes of the inventory are known, whatever ``--limit`` says, as ``consumers.Ours``.

    In a play of one's own its hosts may be in other groups than in ours.
    """
    grouped = [host for part in model.PARTS for host in task_vars["groups"].get(part, ())]
    hosts = dict.fromkeys(map(str, [*grouped, *task_vars["ansible_play_hosts_all"]]))
    commands = [group for each in declared for group in each.groups if group.command and engines.named(group.engine).speaks]
    unnamed = ["*"] if any(not group.queues for group in commands) else sorted({queue for group in commands for queue in group.queues})
    return {"app": declared[0].app.name, "hosts": list(hosts), "unnamed": unnamed}


def asking(arguments: Mapping[str, Any], task_vars: Mapping[str, Any], templar: Templar) -> dict[str, Any] | None:
    """Return what the first host of a play asks for all of them: who consumes the queues that any declares."""
    hosts = list(task_vars["ansible_play_hosts_all"])
    if task_vars["inventory_hostname"] != hosts[0]:
        return None
    declared = [each for each in declarations({**arguments, "hosts": hosts}, task_vars, templar) if each.app.broker_url]
    return {"ours": ours(declared, task_vars), "sources": sources(declared, actions.only(arguments))} if declared else None


def own(declared: Sequence[model.Declaration]) -> dict[str, list[str]]:
    """Return all queues of the app by engine."""
    return own_queues([Source(**source) for source in sources(declared, None)])


def with_queue(own: Mapping[str, list[str]], engine: str, queue: str) -> dict[str, list[str]]:
    """Return them with one that no group consumes, and that a person has named."""
    return {**own, engine: [*own.get(engine, []), queue]}


def source_of(found: Sequence[dict[str, Any]], queue: str) -> dict[str, Any]:
    """Return where a queue is: the engine that declares it, or the only one there is."""
    named = [source for source in found if queue in source["queues"]] or list(found)
    if len(named) != 1:
        known = ", ".join(name for source in found for name in source["queues"]) or "none"
        raise AnsibleActionFail(f"queue = {queue!r}: no worker group consumes it, and the app has "
                                f"{'several engines' if found else 'no queues'}; declared are: {known}")
    return named[0]


def table(queues: Sequence[Mapping[str, Any]], problems: Sequence[str], paint: Callable[[str, str], str]) -> list[str]:
    """Return the lines of the table, problems last."""
    rows = [{name: name.upper() for name in COLUMNS}, *map(row, queues)]
    columns = [name for name in COLUMNS if name in LEFT or any(line[name] != "-" for line in rows[1:])]
    widths = {name: max(len(line[name]) for line in rows) for name in columns}
    lines = ["  ".join(line[name].ljust(room) if name in LEFT else line[name].rjust(room) for name, room in widths.items()).rstrip()
             for line in rows]
    lines[0] = paint(lines[0], "bright gray")
    if any(not queue["declared"] for queue in queues):
        lines.append("* consumed by no declared worker group")
    if problems:
        lines += ["", paint("problems:", "red"), *(paint(f"  {shown.line(text)}", "red") for text in problems)]
    return lines


def row(queue: Mapping[str, Any]) -> dict[str, str]:
    """Return one queue as texts; a dash is a figure that is not told."""
    age = queue["oldest_age_seconds"]
    return {
        "queue": shown.line(queue["queue"]) + ("" if queue["declared"] else " *"), "engine": shown.line(queue["engine"]),
        "waiting": figure(queue["waiting"]), "held": figure(queue["unacknowledged"]), "running": figure(queue["running"]),
        "later": figure(queue["scheduled"]), "again": figure(queue["retrying"]), "dead": figure(queue["dead"]),
        "oldest": "-" if age is None else f"{EXACT[queue['oldest_age_is']]}{span(age)}",
        "in/s": figure(queue.get("in_per_second")), "out/s": figure(queue.get("out_per_second")), "nodes": figure(queue["consumers"]),
    }


def figure(value: float | None) -> str:
    """Return a number, or a dash for one that is not told."""
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def span(seconds: float) -> str:
    """Return a duration in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{int(seconds)}s"
