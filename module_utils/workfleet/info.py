"""What the nodes of a host really do: the host's view and the engine's, put together and judged. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import engines
from .engines.base import Report
from .errors import WorkfleetError
from .plan import is_current

if TYPE_CHECKING:
    from .managers.base import Name, Present
    from .plan import Plan
    from .reconcile import GroupRequest, Reconciler

PROBLEM_STATES = ("failed", "unresponsive", "unknown")


def look(reconciler: Reconciler, timeout: float) -> dict[str, Any]:
    """Return ``manager``, ``release``, ``nodes``, ``queues`` and ``problems`` in the form of the status JSON.

    ``timeout`` bounds the wait for answers over the broker, in seconds; the wait ends when all nodes have answered.
    """
    request = reconciler.request
    seen = reconciler.observe()
    made = reconciler.make_plan(seen)
    nodes = [node.present for node in seen if request.only is None or node.name.group in request.only]
    problems: list[str] = []
    told = ask(reconciler, nodes, timeout, problems)
    entries = [entry(reconciler, node, told.get(node.name), reached=told.reached(node.name)) for node in nodes]
    problems += [problem(item) for item in entries if item["state"] in PROBLEM_STATES]
    problems += missing(made, nodes, reconciler)
    return {"manager": request.manager, "release": reconciler.release, "nodes": entries, "queues": queues(reconciler, problems),
            "problems": problems}


class Told(dict["Name", Report]):
    """The nodes' answers; and which nodes were asked at all."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[Name] = set()

    def reached(self, name: Name) -> bool:
        """Whether a node was asked over a broker that works."""
        return name in self.asked


def ask(reconciler: Reconciler, nodes: list[Present], timeout: float, problems: list[str]) -> Told:
    """Ask the live nodes of each engine over the broker; a broker that cannot be asked is a problem, not a failure."""
    request = reconciler.request
    told = Told()
    for name in sorted({group.engine for group in request.groups}):
        engine = engines.named(name)
        groups = {group.name: group for group in request.groups if group.engine == name}
        names = {reconciler.filled(groups[node.name.group].node_name, node.name, ""): node.name
                 for node in nodes if node.name.group in groups and node.is_up}
        if not (engine.speaks and request.broker_url and names):
            continue
        try:
            answers = engine.inspect(request.broker_url, list(names), request.broker_options, timeout)
        except WorkfleetError as error:
            problems.append(f"the broker cannot be asked: {error}")
            continue
        told.asked.update(names.values())
        told.update({names[node]: answer for node, answer in answers.items() if node in names})
    return told


def entry(reconciler: Reconciler, node: Present, answer: Report | None, *, reached: bool) -> dict[str, Any]:
    """Return one node in the form of the status JSON."""
    group = reconciler.groups.get(node.name.group)
    declared = next((intent for intent in reconciler.intents if intent.group == node.name.group), None)
    state, reason = judge(reconciler, node, group, answer, reached=reached)
    report = answer or Report()
    current = None if declared is None or (node.is_up and node.generation is None) else is_current(node, declared.generation)
    release = release_of(node)
    return {
        "group": node.name.group, "slot": node.name.slot, "incarnation": node.name.incarnation, "unit": str(node.name),
        "engine": group.engine if group else None,
        "node": reconciler.filled(group.node_name, node.name, "") if group else None,
        "state": state, "reason": reason, "pid": node.pid, "generation": node.generation, "release": release,
        "current": current,
        "uptime_seconds": tenths(node.uptime_seconds), "draining_seconds": tenths(node.stopping_seconds), "restarts": node.restarts,
        "memory_bytes": node.memory_bytes, "cpu_seconds": node.cpu_seconds,
        "concurrency": report.concurrency, "running": report.running, "reserved": report.reserved, "processed": report.processed,
        "failed": report.failed, "queues": None if report.queues is None else list(report.queues),
    }


def judge(
    reconciler: Reconciler, node: Present, group: GroupRequest | None, answer: Report | None, *, reached: bool
) -> tuple[str, str | None]:
    """Return a node's state and the reason where it needs one."""
    if node.activity == "stopped":
        return "stopped", None
    if node.activity == "failed":
        return "failed", node.result or "it does not run"
    if node.activity == "stopping":
        return "draining", None
    if group is None:
        return "ready", "its group is not declared"
    if not reconciler.is_ready(node):
        return "starting", engines.named(group.engine).awaited
    if reached and answer is None and not group.answers_while_busy:
        return "ready", "busy or silent: this pool does not answer while it runs a task"
    if reached and answer is None:
        return "unresponsive", "no answer over the broker"
    if answer is not None and answer.pid is not None and node.pid is not None and answer.pid != node.pid:
        return "failed", (f"wrapper: the worker is process {answer.pid}, but the unit's main process is {node.pid}; "
                          "a stop would kill its tasks")
    if answer is not None and answer.queues is not None:
        # What is declared now is no measure for a node that was started before.
        declared = next(intent for intent in reconciler.intents if intent.group == group.name)
        lacking = sorted(set(group.queues) - set(answer.queues))
        if lacking and node.generation == declared.generation:
            return "unresponsive", f"does not consume {', '.join(lacking)}"
    if not node.is_up or (node.record is None and node.generation is None):
        return "unknown", "what it was started with cannot be read"
    if engines.named(group.engine).speaks and not reached and reconciler.request.broker_url:
        return "unresponsive", "the broker cannot be asked"
    return "ready", None


def release_of(node: Present) -> str | None:
    """Return the release that stands in a node's unit text, or None."""
    _, found, rest = (node.text or "").partition("/releases/")
    return rest.split("/", 1)[0] or None if found else None


def tenths(seconds: float | None) -> float | None:
    """Return seconds as precise as anybody wants to read them."""
    return None if seconds is None else round(seconds, 1)


def problem(item: dict[str, Any]) -> str:
    """Return a sentence about a node that is not well."""
    return f"{item['group']} {item['slot']}: {item['state']}: {item['reason']}"


def missing(made: Plan, nodes: list[Present], reconciler: Reconciler) -> list[str]:
    """Name declared nodes that are not there or do not run, and running ones of another generation."""
    present = {node.name: node for node in nodes}
    kept = {(name.group, name.slot) for name in made.wanted}
    found = [f"{name.group} {name.slot}: runs, but is not declared any more; run site.yml"
             for name, node in present.items() if node.activity in ("running", "starting") and (name.group, name.slot) not in kept]
    for name in made.wanted:
        if reconciler.groups[name.group].state != "started":
            continue
        slot = [node for node in present.values() if (node.name.group, node.name.slot) == (name.group, name.slot)]
        if not slot:
            found.append(f"{name.group} {name.slot}: declared, but not there; run site.yml")
        elif all(node.activity == "stopped" for node in slot):
            found.append(f"{name.group} {name.slot}: declared started, but stopped; run start.yml")
        elif name not in present or present[name].activity == "stopped":
            found.append(f"{name.group} {name.slot}: runs another generation than declared; run site.yml")
    return found


def queues(reconciler: Reconciler, problems: list[str]) -> list[dict[str, Any]]:
    """Return the declared queues with what waits in them; what is not told here is null."""
    request = reconciler.request
    found = []
    for name in sorted({group.engine for group in request.groups}):
        engine = engines.named(name)
        wanted = sorted({queue for group in request.groups if group.engine == name for queue in group.queues})
        if not (engine.speaks and wanted):
            continue
        waiting: dict[str, int] = {}
        if request.broker_url and not any(text.startswith("the broker cannot") for text in problems):
            try:
                waiting = engine.waiting(request.broker_url, wanted, request.broker_options)
            except WorkfleetError as error:
                problems.append(f"the queues cannot be read: {error}")
        unknown = dict.fromkeys(("unacknowledged", "running", "scheduled", "dead", "oldest_age_seconds"))
        found += [{"queue": queue, "engine": name, "waiting": waiting.get(queue), **unknown, "oldest_age_is": "unknown"}
                  for queue in wanted]
    return found
