"""Live control: running nodes of one group are told to do something, without a restart and until their next one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import engines
from ..errors import WorkfleetError
from ..host.steps import Step, report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .host_nodes import HostNodes

NOTE = "what is changed live is lost when a node is started again; worker_groups is what lasts"


@dataclass(frozen=True)
class Order:
    """What is asked for; ``arguments`` were checked on the control node."""

    group: str
    control: str
    arguments: Mapping[str, Any]
    timeout: float = 5.0


def require_consumed(host_nodes: HostNodes, order: Order, names: list[str]) -> None:
    """Refuse a queue that no node of the group consumes; who does not answer may."""
    request, queue = host_nodes.request, order.arguments["queue"]
    told = engines.named(host_nodes.groups[order.group].engine).inspect(request.broker_url, names, request.broker_options, order.timeout)
    known = dict.fromkeys(name for report in told.values() for name in report.queues or ())
    if names and len(told) == len(names) and queue not in known:
        raise WorkfleetError(f"queue = {queue!r}: no node of {order.group} here consumes it (no node was told). They consume: "
                             f"{', '.join(known) or 'nothing'}")


def control(host_nodes: HostNodes, order: Order, *, check: bool) -> dict[str, Any]:
    """Carry a control out on the nodes of a group that run here; return the module's result.

    Raises where a node refuses or is silent; the error's details tell what each answered.
    """
    request, group = host_nodes.request, host_nodes.groups[order.group]
    if not request.broker_url:
        raise WorkfleetError("nodes are told over the broker; set app_broker_url")
    if order.control in engines.named(group.engine).runner_controls and not group.notifies:
        raise WorkfleetError(f"{order.control} has no effect on a worker that a command of your own starts, though it would say so; "
                             "nothing was sent")
    up = [node for node in host_nodes.manager.present() if node.name.group == order.group and node.activity == "running"]
    quiet = [str(node.name) for node in up if host_nodes.quiet_since(node) is not None]
    if order.control == "add_consumer" and quiet:
        raise WorkfleetError(f"{', '.join(quiet)}: told to take no new tasks; run resume.yml first. No node was told")
    words = " ".join([order.control, *(f"{name}={value}" for name, value in order.arguments.items())])
    steps = [Step("live", str(node.name), words, node.name.group, node.name.slot, node.name.incarnation) for node in up]
    notes = [NOTE] if up else [f"no node of {order.group} runs here"]
    names = [host_nodes.broker_name(node.name) for node in up]
    if order.control == "cancel_consumer" and order.arguments["queue"] not in group.queues:
        require_consumed(host_nodes, order, names)
    answers: dict[str, str | None] = dict.fromkeys(names)
    if up and not check:
        answers = engines.named(group.engine).control(
            request.broker_url, names, order.control, order.arguments, request.broker_options, order.timeout)
    result = {"changed": bool(steps), "steps": report(steps, None), "notes": notes,
              "nodes": [{"node": name, "answered": name in answers and not check, "error": answers.get(name)} for name in names]}
    wrong = [f"{name}: {answers[name]}" for name in names if answers.get(name)]
    wrong += [f"{name}: no answer within {order.timeout:g} s; it may have heard, and do it when it can" for name in names
              if name not in answers]
    if wrong:
        raise WorkfleetError(f"{words}: {'; '.join(wrong)}", **{**result, "steps": report(
            [step for step, name in zip(steps, names) if name in answers and not answers[name]], None)})
    return result
