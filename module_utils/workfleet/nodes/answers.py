"""What the nodes of this host answer over the broker, each by its node's name or, where it has another, by its process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import engines, resp
from ..engines import local
from ..engines.verbs.report import Report
from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..managers.base import Present
    from ..model import Name
    from .host_nodes import HostNodes
    from .request import GroupRequest


class Answers(dict["Name", Report]):
    """The nodes' answers; and which nodes were asked at all."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[Name] = set()

    def reached(self, name: Name) -> bool:
        """Whether a node was asked over a broker that works."""
        return name in self.asked


def ask(host_nodes: HostNodes, nodes: Iterable[Present], timeout: float, problems: list[str]) -> Answers:
    """Ask the live nodes of each engine over the broker; a broker that cannot be asked is a problem, not a failure."""
    request = host_nodes.request
    told = Answers()
    present = {node.name: node for node in nodes if node.is_up and node.name.group in host_nodes.groups}
    up = list(present)
    for engine in map(engines.named, dict.fromkeys(host_nodes.groups[name.group].engine for name in up)):
        names = {host_nodes.broker_name(name): name for name in up if host_nodes.groups[name.group].engine == engine.name}
        if not (engine.speaks and request.broker_url and names):
            continue
        try:
            answers = engine.inspect(request.broker_url, list(names), request.broker_options, timeout)
            silent = [node for node, name in names.items() if node not in answers and not host_nodes.groups[name.group].notifies]
            if silent:
                answers = {**answers, **engine.strangers(request.broker_url, silent, request.broker_options, timeout, request.result_url)}
        except WorkfleetError as error:
            problems.append(f"the broker cannot be asked: {error}")
            continue
        told.asked.update(names.values())
        told.update({names[node]: answer for node, answer in answers.items() if node in names})
        told.update(wrapped([present[names[node]] for node in silent if names[node] not in told], request.broker_url))
    return told


def wrapped(nodes: Iterable[Present], broker_url: str) -> dict[Name, Report]:
    """Return of nodes that tell nothing the process of their worker, where that is another than their main process."""
    address = resp.parse_url(broker_url)
    if address.path is not None:
        return {}  # a connection to a socket of the file system does not say to which
    workers = {node.name: local.wrapped(node.pid, str(node.name), address.port) for node in nodes if node.pid}
    return {name: Report(pid=pid) for name, pid in workers.items() if pid is not None}



def wrapper(node: Present, answer: Report | None) -> str | None:
    """Say what is wrong where a node's main process is not its worker: it would take the stop signal, and keep it."""
    if answer is None or answer.pid is None or node.pid is None or answer.pid == node.pid:
        return None
    return (f"wrapper: the worker is process {answer.pid}, but the unit's main process is {node.pid}, and a stop would kill its tasks or "
            "leave it running alone: have the command `exec` the worker, or leave `command` out")


def is_missed(group: GroupRequest, answer: Report | None) -> bool:
    """Whether a node that only its answer can tell to be ready, for its command loads no runner, has not given it."""
    return answer is None and not group.notifies and group.answers_while_busy and engines.named(group.engine).knows_strangers
