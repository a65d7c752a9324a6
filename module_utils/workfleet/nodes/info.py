"""What the nodes of a host really do: the host's view and the engine's, put together and judged. Changes nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .. import engines
from ..engines import local, taskqueues
from ..engines.verbs.figures import Figures, Question
from ..engines.verbs.report import Report
from ..errors import WorkfleetError
from ..host.layout import release_of
from ..model import Name
from . import answers, consumers, leave
from .ledger import ending
from .plan import is_current

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..managers.base import Present
    from .host_nodes import HostNodes
    from .plan import Plan
    from .request import GroupRequest

QUIESCED = "told to take no new tasks; resume.yml ends that"
PROBLEM_STATES = ("failed", "unresponsive", "unknown")


def look(host_nodes: HostNodes, timeout: float, asking: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return ``manager``, ``release``, ``nodes``, ``queues``, ``scaled`` and ``problems`` as in the status JSON, and ``processes``.

    Where the host is the one that asks for all, ``strangers`` tells who else consumes the queues: see :func:`consumers.look`.
    ``timeout`` bounds the wait for answers over the broker, in seconds; the wait ends when all nodes have answered.
    """
    request = host_nodes.request
    seen = host_nodes.observe()
    made = host_nodes.make_plan(seen)
    # Of a node that has drained only its files are left, which the next converge removes.
    nodes = [node.present for node in seen if (request.only is None or node.name.group in request.only)
             and (node.name in made.wanted or not node.is_drained)]
    problems: list[str] = []
    told = answers.ask(host_nodes, nodes, timeout, problems)
    entries = [entry(host_nodes, node, told.get(node.name), reached=told.reached(node.name)) for node in nodes]
    problems += [problem(item) for item in entries if item["state"] in PROBLEM_STATES]
    problems += missing(made, nodes, host_nodes)
    problems += [ending(line) for line in leave.lines(host_nodes.manager).values() if line["lost"]]
    release = host_nodes.release and release_of(host_nodes.release)
    return {"manager": request.manager, "release": release, "nodes": entries, "queues": queues(host_nodes, told, problems),
            "scaled": host_nodes.counts.told(), "problems": problems, "strangers": consumers.look(asking) if asking else [],
            "processes": processes(host_nodes, [node.present for node in seen], told)}


def processes(host_nodes: HostNodes, nodes: list[Present], told: answers.Answers) -> list[dict[str, Any]]:
    """Return the units that have any process here, also a child that outlived the worker: ``unit``, ``engine``, ``pids``, ``name``.

    ``name`` is the one under which it answered, where that is not its node's. The engine of a group that is not declared
    any more stands in its unit's text, where a runner of the toolkit's does.
    """
    present = {str(node.name): node for node in nodes}
    pids = {unit: set(found) for unit, found in local.pids_of(host_nodes.request.app, host_nodes.manager.run_directory).items()}
    for unit, node in present.items():
        if node.pid:
            pids.setdefault(unit, set()).add(node.pid)
    found = []
    for unit, alive in sorted(pids.items()):
        name = Name.parse(unit)
        if name is None or name.app != host_nodes.request.app:
            continue
        group, answer, text = host_nodes.groups.get(name.group), told.get(name), (present[unit].text if unit in present else None) or ""
        engine = group.engine if group else engine_in(text)
        found.append({"unit": unit, "engine": engine, "pids": sorted(alive), "name": answer.name if answer else None})
    return found


def engine_in(text: str) -> str | None:
    """Return the engine whose runner stands in the text of a unit."""
    return next((engine.name for engine in engines.ENGINES.values() if engine.runner and engine.runner in text), None)


def entry(host_nodes: HostNodes, node: Present, answer: Report | None, *, reached: bool) -> dict[str, Any]:
    """Return one node in the form of the status JSON."""
    group = host_nodes.groups.get(node.name.group)
    declared = next((intent for intent in host_nodes.intents if intent.group == node.name.group), None)
    state, reason = judge(host_nodes, node, group, answer, reached=reached)
    report = answer or Report()
    current = None if declared is None or (node.is_up and node.generation is None) else is_current(node, declared.generation)
    release = node_release(node)
    return {
        "group": node.name.group, "slot": node.name.slot, "incarnation": node.name.incarnation, "unit": str(node.name),
        "engine": group.engine if group else None,
        "node": host_nodes.broker_name(node.name) if group else None,
        "state": state, "reason": reason, "pid": node.pid, "generation": node.generation, "release": release,
        "current": current,
        "uptime_seconds": tenths(node.uptime_seconds), "draining_seconds": tenths(draining_seconds(host_nodes, node)),
        "restarts": node.restarts,
        "memory_bytes": node.memory_bytes, "cpu_seconds": node.cpu_seconds,
        "concurrency": report.concurrency, "running": report.running, "reserved": report.reserved, "processed": report.processed,
        "failed": report.failed, "queues": None if report.queues is None else list(report.queues),
    }


def judge(
    host_nodes: HostNodes, node: Present, group: GroupRequest | None, answer: Report | None, *, reached: bool
) -> tuple[str, str | None]:
    """Return a node's state and the reason where it needs one."""
    if node.activity == "stopped":
        return "stopped", None
    if node.activity == "failed":
        return "failed", node.result or "it does not run"
    if node.activity == "stopping":
        is_late = group is not None and (node.stopping_seconds or 0.0) > group.drain_seconds
        return "draining", "longer than its drain_seconds" if is_late else None
    if group is None:
        return "ready", "its group is not declared"
    if node.doubt:
        return "failed", node.doubt
    if host_nodes.has_heeded(node):
        return "draining", QUIESCED
    if not host_nodes.is_ready(node):
        return "starting", engines.named(group.engine).awaited
    if reached and answer is None and not (group.notifies or engines.named(group.engine).knows_strangers):
        return "ready", f"up; what a command of your own does cannot be told by engine {group.engine}"
    if reached and answer is None and not group.answers_while_busy:
        return "ready", "busy or silent: this pool does not answer while it runs a task"
    is_young = (node.uptime_seconds or 0.0) < host_nodes.request.rollout.ready_timeout_seconds
    if reached and is_young and answers.is_missed(group, answer):
        return "starting", engines.named(group.engine).awaited
    if reached and answer is None:
        return "unresponsive", "no answer over the broker"
    wrapped = answers.wrapper(node, answer)
    if wrapped:
        return "failed", wrapped
    if answer is not None and answer.doubt:
        return "unknown", answer.doubt
    if answer is not None and answer.queues is not None:
        # What is declared now is no measure for a node that was started before.
        declared = next(intent for intent in host_nodes.intents if intent.group == group.name)
        lacking = sorted(set(group.queues) - set(answer.queues))
        if lacking and node.generation == declared.generation:
            return "unresponsive", f"does not consume {', '.join(lacking)}"
    if not node.is_up or (node.record is None and node.generation is None):
        return "unknown", "what it was started with cannot be read"
    if engines.named(group.engine).speaks and not reached and host_nodes.request.broker_url:
        return "unresponsive", "the broker cannot be asked"
    return "ready", None


def draining_seconds(host_nodes: HostNodes, node: Present) -> float | None:
    """Return since when a node takes no new tasks: it stops, or was told to by ``drain.yml``."""
    quiet = host_nodes.quiet_since(node) if host_nodes.has_heeded(node) else None
    return node.stopping_seconds if quiet is None else max(0.0, time.time() - quiet)


def node_release(node: Present) -> str | None:
    """Return the release that stands in a node's unit text, or None."""
    _, found, rest = (node.text or "").partition("/releases/")
    return release_of(rest.split("/", 1)[0]) or None if found else None


def tenths(seconds: float | None) -> float | None:
    """Return seconds as precise as anybody wants to read them."""
    return None if seconds is None else round(seconds, 1)


def problem(item: dict[str, Any]) -> str:
    """Return a sentence about a node that is not well."""
    return f"{item['group']} {item['slot']}: {item['state']}: {item['reason']}"


def missing(made: Plan, nodes: list[Present], host_nodes: HostNodes) -> list[str]:
    """Name declared nodes that are not there or do not run, and running ones of another generation."""
    present = {node.name: node for node in nodes}
    kept = {(name.group, name.slot) for name in made.wanted}
    found = [f"{name.group} {name.slot}: runs, but is not declared any more; run site.yml"
             for name, node in present.items() if node.activity in ("running", "starting") and (name.group, name.slot) not in kept]
    for name in made.wanted:
        if host_nodes.groups[name.group].state != "started":
            continue
        slot = [node for node in present.values() if (node.name.group, node.name.slot) == (name.group, name.slot)]
        if not slot:
            found.append(f"{name.group} {name.slot}: declared, but not there; run site.yml")
        elif all(node.activity == "stopped" for node in slot):
            found.append(f"{name.group} {name.slot}: declared started, but stopped; run start.yml")
        elif name not in present or present[name].activity == "stopped":
            found.append(f"{name.group} {name.slot}: runs another generation than declared; run site.yml")
    return found


def queues(host_nodes: HostNodes, told: answers.Answers, problems: list[str]) -> list[dict[str, Any]]:
    """Return the declared queues with their figures; ``running`` and ``consumers`` are those of this host's nodes."""
    request = host_nodes.request
    found = []
    for name in sorted({group.engine for group in request.groups}):
        engine = engines.named(name)
        wanted = sorted({queue for group in request.groups if group.engine == name for queue in group.queues})
        if not (engine.speaks and wanted):
            continue
        figures = [Figures(queue) for queue in wanted]
        if request.broker_url and not any(text.startswith("the broker cannot") for text in problems):
            reports = {str(node): report for node, report in told.items()}
            try:
                figures = taskqueues.named(name).figures(Question(request.broker_url, request.app, wanted, request.broker_options, reports))
            except WorkfleetError as error:
                problems.append(f"the queues cannot be read: {error}")
        silent = {queue for node in told.asked - set(told) for queue in host_nodes.groups[node.group].queues}
        for item in figures:
            if item.queue in silent:
                item.of_nodes({}, whole=False)
        problems += [item.problem for item in figures if item.problem]
        found += [item.entry(name) for item in figures]
    return found
