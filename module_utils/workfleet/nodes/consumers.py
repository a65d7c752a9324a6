"""Who consumes an app's queues: nodes of the inventory's hosts, and others, whose answers prove nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import engines
from ..errors import WorkfleetError
from ..model import Name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..engines.verbs.probe import Proof, Request
    from ..engines.verbs.report import Report

WAIT_SECONDS = 1.0
_MOST_SAID = 20
_MOST_NAMES = 3


@dataclass(frozen=True)
class Ours:
    """By what a node is known as one of ours: its name has the app and a host of the inventory.

    Workers of ``unnamed`` queues may have any name, for a command of the user's own starts them; ``*`` stands for all queues.
    """

    app: str
    hosts: Sequence[str]
    unnamed: Sequence[str] = ()

    def has(self, node: str) -> bool:
        """Whether a name on the broker is that of a node of ours."""
        name = Name.of_node(node)
        return name is not None and name.app == self.app and node.rpartition("@")[2] in self.hosts

    def can_tell(self, queue: str) -> bool:
        """Whether the workers of a queue are known by their names."""
        return not {"*", queue} & set(self.unnamed)

    def strangers(self, heard: Mapping[str, Report], queues: Iterable[str]) -> dict[str, list[str]]:
        """Return who consumes any of these queues and is none of ours, each with what he consumes of them."""
        known = {queue for queue in queues if self.can_tell(queue)}
        taken = {node: sorted(known & set(report.queues or ())) for node, report in heard.items() if not self.has(node)}
        return {node: names for node, names in sorted(taken.items()) if names}

    def problems(self, heard: Mapping[str, Report], queues: Iterable[str]) -> list[str]:
        """Return a sentence for each of them, and for each name that several workers have."""
        said = [f"{node} consumes {', '.join(names)} and is no node of this inventory: it takes tasks to code that is not declared here; "
                "stop it, or give it queues of its own" for node, names in self.strangers(heard, queues).items()]
        said += [f"{node}: {report.doubt}" for node, report in sorted(heard.items()) if report.doubt and self.has(node)]
        return said[:_MOST_SAID] + ([f"and {len(said) - _MOST_SAID} workers more of that kind"] if len(said) > _MOST_SAID else [])


def look(asking: Mapping[str, Any]) -> list[str]:
    """Ask all that listen who they are; ``asking`` has ``ours`` and ``sources``, as the control node gathers them."""
    ours, said = Ours(**asking["ours"]), []
    for source in asking["sources"]:
        try:
            heard, _ = engines.named(source["engine"]).everybody(source["url"], source["options"], WAIT_SECONDS)
            said += ours.problems(heard, source["queues"])
        except WorkfleetError as error:
            said.append(f"who else consumes the queues of engine {source['engine']} cannot be asked: {error}")
    return said


def judged(proofs: Sequence[Proof], request: Request, ours: Ours) -> Iterator[Proof]:
    """Yield the proofs, an answer as one only where a node of ours can have given it and nobody else."""
    engine = engines.named(request.engine)
    try:
        heard, whole = engine.everybody(request.broker_url, request.broker_options, WAIT_SECONDS)
    except WorkfleetError:  # the canaries went another way, or came back before it was lost
        heard, whole = {}, False
    strangers = ours.strangers(heard, request.queues)
    for proof in proofs:
        others = [node for node, queues in strangers.items() if proof.queue in queues]
        mine = any(ours.has(node) and proof.queue in (report.queues or ()) for node, report in heard.items())
        who = f"{', '.join(others[:_MOST_NAMES])}{' and others' if len(others) > _MOST_NAMES else ''}"
        alone = whole and not mine and ours.can_tell(proof.queue)
        if proof.ok and alone and (others or engine.beats):
            yield replace(proof, ok=False, state="failed", reason=(
                f"it came back, but no node of this inventory consumes the queue: the answer is of {who or 'somebody else'}"))
        elif proof.ok and others:
            yield replace(proof, ok=None, state="not proved", reason=(
                f"it came back, but {who} consumes the queue too and is no node of this inventory: the answer may be of either"))
        elif others:
            yield replace(proof, reason=f"{proof.reason}; {who} consumes the queue too, and is no node of this inventory")
        else:
            yield proof
