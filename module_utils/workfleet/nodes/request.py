"""What the control node asks of a host about the nodes of one app."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import WorkfleetError
from ..host import effects
from ..model import Rollout

if TYPE_CHECKING:
    from collections.abc import Mapping

@dataclass(frozen=True)
class GroupRequest:
    """One worker group, with the texts of its nodes. Texts hold the tokens of ``Request.tokens``."""

    name: str
    engine: str
    state: str
    nodes: int
    queues: list[str]
    drain_seconds: int
    node_name: str
    notifies: bool
    answers_while_busy: bool
    gives_back: bool
    unit_text: str
    env_text: str
    env: dict[str, str]
    secret_names: list[str]
    values: str
    directories: list[str] = field(default_factory=list)
    overlaps: bool = False
    comes_last: bool = False


@dataclass(frozen=True)
class Request:
    """What the control node asks of a host, as it comes out of the payload.

    ``tokens`` maps ``slot``, ``incarnation``, ``generation``, ``release`` and ``python`` to the placeholders in the texts.
    ``release`` is the build that the nodes should run; None means the current one. ``restart_since`` is the time of a
    wish to restart: 0 for now, and then what the first call told (by this host's own clock). ``scale`` are new counts of nodes,
    see :class:`scaled.Counts`. ``canary`` is that of :func:`plan.make`. ``singles`` says when nodes that come last in a rollout
    are replaced: ``later`` (not by this call), or nothing but them: ``only``. ``undo`` brings back what ran before the rollout
    of this very run to this very declaration; ``undoable`` says that more tasks have yet to follow, on other hosts too, so that
    this may still be asked for. ``phase`` touches no node: ``begin`` takes the host for the run, and takes over what a run that was
    cut short remembers there, ``end`` forgets what ran before and gives it back, ``pause`` gives it back. ``cleans`` are units whose
    remains may go: None, and then what the first call told. ``going`` says since when this run has waited
    for nodes to be gone. ``kill`` does not let nodes that are to go end their tasks. In check
    mode ``after_stop`` takes it that a run with all groups stopped has been here before. ``run`` names this run of a playbook,
    ``ended_run`` one that was seen to be no more; ``holder`` says for people who it is.
    """

    app: str
    user: str
    group: str
    root: str
    run_directory: str
    manager: str
    has_release: bool
    groups: list[GroupRequest]
    tokens: dict[str, str]
    rollout: Rollout
    manager_texts: dict[str, str]
    longest_drain: int
    release: str | None = None
    pip_environment: dict[str, str] = field(default_factory=dict)
    broker_url: str = ""
    result_url: str = ""
    broker_options: dict[str, Any] = field(default_factory=dict)
    only: list[str] | None = None
    with_rollout: bool = True
    only_rollout: bool = False
    checked: bool = False
    restart_since: float | None = None
    scale: dict[str, dict[str, Any]] = field(default_factory=dict)
    canary: str = ""
    singles: str = ""
    undo: bool = False
    undoable: bool = False
    phase: str = ""
    cleans: list[str] | None = None
    kill: bool = False
    after_stop: bool = False
    waiting: dict[str, int] = field(default_factory=dict)
    going: dict[str, float] = field(default_factory=dict)
    deadline_seconds: float = 5
    run: str = ""
    ended_run: str = ""
    holder: str = ""

    @property
    def keeps_host(self) -> bool:
        """Whether the run keeps the host when this call ends well, or badly: from its first replaced node on."""
        return self.undoable and self.with_rollout

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Request:
        """Return the request in a decoded payload."""
        values = dict(raw)
        values["groups"] = [GroupRequest(**entry) for entry in values["groups"]]
        for group in values["groups"]:
            if len(group.env_text.encode(errors="surrogateescape")) > effects.LARGEST_ENVIRONMENT:
                raise WorkfleetError(f"group {group.name}: its environment has more than {effects.LARGEST_ENVIRONMENT} bytes, and no "
                                     "process can be given so much: put large values into files")
        values["rollout"] = Rollout(**values["rollout"])
        return cls(**values)


