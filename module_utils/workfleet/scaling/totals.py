"""The wanted totals of groups that follow their backlog: evaluated, set by hand, and kept in the broker.

Every host of a run asks; the first one evaluates, and the others find its decision under the run's name. A decision is
stored only over the state that it was made from (``WATCH``), so that two runs at once cannot undo each other's history.

Where the broker keeps nothing (it is the first run, or the broker was emptied, or an empty replica took over) nothing is decided:
each host of the run adds the nodes that it has, and from their sum the next run goes on.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .. import decode, engines, resp
from ..decode import BadEntry, Fields
from ..engines import taskqueues
from ..engines.verbs import figures as queues
from ..errors import WorkfleetError
from ..host import effects
from ..model import Policy
from ..nodes import counts as scaled
from .policy import Decision, Figures, Run, State, decide, demand, shares

if TYPE_CHECKING:
    from collections.abc import Mapping

ATTEMPTS = 10
#: Beyond so long without an evaluation nobody wants to know; the key goes by itself.
KEPT_SECONDS = 90 * 86400
#: Bytes of what is kept; nodes that a group may have.
_LARGEST, _MOST_NODES = 256 << 10, 100_000


@dataclass(frozen=True)
class Group:
    """A group with a policy. ``hosts`` are all that have it, in the inventory's order, with their declared nodes."""

    name: str
    engine: str
    queues: list[str]
    policy: Policy
    hosts: dict[str, int]


@dataclass(frozen=True)
class Request:
    """What one host is asked. ``run`` names the run of the playbook; ``nodes`` is a total, ``inventory`` or empty; ``control`` is
    ``pause``, ``resume`` or empty. With neither of these two the policies are evaluated. ``root`` is where the app is on the host."""

    app: str
    host: str
    broker_url: str
    broker_options: dict[str, Any]
    groups: list[Group]
    run: str
    by: str
    nodes: int | str = ""
    control: str = ""
    root: str = ""

    @property
    def sets(self) -> bool:
        """Whether a person sets something, and no policy is evaluated."""
        return self.nodes != "" or self.control != ""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Request:
        """Return the request in a decoded payload."""
        groups = [Group(**{**entry, "policy": Policy(**entry["policy"])}) for entry in raw["groups"]]
        return cls(**{**raw, "groups": groups})

    def key(self, group: Group) -> str:
        """Where the broker keeps what was decided; where others may be under a prefix, it is too."""
        return f"{self.broker_options.get('global_keyprefix') or ''}workfleet:{self.app}:scale:{group.name}"

    def has(self, group: Group) -> int:
        """Return how many nodes this host has of a group: as many as were set on it last, or as the inventory says."""
        path = scaled.path(self.root)
        entry = scaled.parse(path, effects.read(path) if self.root else None).get(group.name, {})
        declared = group.hosts[self.host]
        return int(entry["nodes"]) if entry.get("declared") == declared else declared


@dataclass(frozen=True)
class Kept:
    """What the broker keeps of a group.

    ``counted`` is not empty in the run that found nothing there: the nodes that hosts have, as far as they have asked.
    ``at`` is the broker's time; ``boot`` and ``uptime`` are of the host that evaluated: where the same one does so again, the
    time between is told by a clock that nobody sets.
    """

    state: State
    declared: dict[str, int]
    paused: bool = False
    by: str = ""
    run: str = ""
    before: int = 0
    reason: str = ""
    held: bool = False
    at: float = 0.0
    boot: str = ""
    uptime: float = 0.0
    counted: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, key: str, text: str) -> Kept:
        """Return what a key holds."""
        try:
            raw = decode.fields(decode.document(text, _LARGEST))
            state = raw.fields("state")
            return cls(
                State(nodes_in(state.told.get("nodes")), _runs(state, "high"), _runs(state, "low")), _by_host(raw.fields("declared")),
                raw.flag("paused", False), raw.text("by", ""), raw.text("run", ""), nodes_in(raw.told.get("before", 0)),
                raw.text("reason", ""), raw.flag("held", False), raw.moment("at", 0.0), raw.text("boot", ""), raw.number("uptime", 0.0),
                _by_host(raw.fields("counted", Fields({}))))
        except BadEntry as error:
            raise WorkfleetError(f"the key {key} in the broker cannot be read as what the autoscaler keeps ({error}); delete it, and all "
                                 "begins anew") from error


def nodes_in(said: Any) -> int:
    """Return a count of nodes; raises where it is none that a fleet could have."""
    if decode.count(said) > _MOST_NODES:
        raise BadEntry(f"{said} nodes")
    return decode.count(said)


def _by_host(said: Fields) -> dict[str, int]:
    return {decode.text(name): nodes_in(nodes) for name, nodes in said.told.items()}


def _runs(said: Fields, name: str) -> tuple[Run, ...]:
    found = tuple(Run(decode.number(age), nodes_in(nodes)) for age, nodes in (decode.parts(run, 2) for run in said.items(name)))
    if not found or any(run.age < 0 for run in found):
        raise BadEntry(f"{name}: no run, or one that has not begun")
    return found


@dataclass
class Told:
    """What became of one group: totals ``before`` and now, and ``here``, this host's share (None: leave it as it is)."""

    group: str
    nodes: int | None = None
    before: int | None = None
    here: int | None = None
    reason: str = ""
    held: bool = False
    by: str = ""
    evaluated: bool = False


@dataclass
class Moment:
    """Now, by the broker's clock and by this host's own."""

    at: float
    boot: str = field(default_factory=lambda: boot_id())
    uptime: float = field(default_factory=lambda: time.clock_gettime(time.CLOCK_BOOTTIME))

    def since(self, kept: Kept) -> float:
        """Return the seconds since an evaluation; where its clock was set back meanwhile, none."""
        return max(0.0, self.uptime - kept.uptime if kept.boot == self.boot else self.at - kept.at)


def boot_id() -> str:
    """Return what names this boot of this host."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def work(request: Request, *, check: bool) -> list[Told]:
    """Evaluate or set every group. Where the broker fails an evaluation, its groups are held; setting raises."""
    found = []
    looks = Looks(request)
    for group in request.groups:
        try:
            with resp.connect(request.broker_url) as client:
                found.append(one(request, group, client, looks, check=check))
        except WorkfleetError as error:
            if request.sets:
                raise
            found.append(Told(group.name, reason=f"held: {error}", held=True))
    return found


def one(request: Request, group: Group, client: resp.Client, looks: Looks, *, check: bool) -> Told:
    """Take the state of one group, make the next one and store it, again where another run was quicker."""
    key = request.key(group)
    for _ in range(ATTEMPTS):
        _, text, clock = client.pipeline([("WATCH", key), ("GETRANGE", key, 0, _LARGEST), ("TIME",)])
        kept = None if not text else Kept.parse(key, resp.text(text))
        if kept is not None and kept.run == request.run and (not kept.counted or request.host in kept.counted):
            return told(request, group, kept, evaluated=False)
        now = Moment(queues.seconds(clock))
        begun = kept is not None and has_changed(kept.declared, group.hosts)
        if request.nodes == "inventory":
            here = Told(group.name, before=kept.state.nodes if kept else None, reason="as in the inventory", by=request.by, evaluated=True)
            change: tuple[resp.Argument, ...] = ("DEL", key)
        else:
            if request.nodes == "" and (kept is None or kept.run == request.run):
                made = counted(request, group, kept, now, looks)
            else:
                made = following(request, group, None if begun else kept, now, looks)
            here = told(request, group, made, evaluated=True)
            if begun and made.held:
                here.here = None  # nothing was decided since the inventory says something else: each host has what that says
                if not request.sets:
                    return here
            change = ("SET", key, json.dumps(asdict(made)), "EX", KEPT_SECONDS)
        if check:
            return here
        if client.pipeline([("MULTI",), change, ("EXEC",)])[-1] is not None:
            return here
    raise WorkfleetError(f"the key {key} was changed by others {ATTEMPTS} times while this run looked at it")


def counted(request: Request, group: Group, kept: Kept | None, now: Moment, looks: Looks) -> Kept:
    """Return what is to be kept where there was nothing: what hosts have. For one that is not heard of, as many as others have."""
    have = {**(kept.counted if kept else {}), request.host: request.has(group)}
    each = -(-sum(have.values()) // len(have))
    nodes = sum(have.get(name, each) for name in group.hosts)
    why = {"pause": "paused", "resume": "resumed"}.get(request.control, "")
    if not why:
        why = (f"held: {request.key(group)} is not in the broker, so it is not known what was decided. This host has "
               f"{have[request.host]} of the nodes, and the next run goes on from what all have{'' if kept else looks.asks(group)}")
    return Kept(State.start(nodes), group.hosts, request.control == "pause", "what hosts have", request.run, nodes, why, True,
                now.at, now.boot, now.uptime, have)


def has_changed(then: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Whether the inventory says another ``nodes`` for a host; hosts that came or went are no such change."""
    return any(now.get(host, nodes) != nodes for host, nodes in then.items())


def following(request: Request, group: Group, kept: Kept | None, now: Moment, looks: Looks) -> Kept:
    """Return what is to be kept from now on."""
    old = kept or Kept(State.start(sum(group.hosts.values())), group.hosts, by="the inventory")
    paused = {"pause": True, "resume": False}.get(request.control, old.paused)
    new = replace(old, declared=group.hosts, run=request.run, before=old.state.nodes, paused=paused,
                  at=now.at, boot=now.boot, uptime=now.uptime, counted={})
    if request.sets:
        nodes = old.state.nodes if request.nodes == "" else int(request.nodes)
        word = {"pause": "paused", "resume": "resumed"}.get(request.control, "")
        said = ", ".join(part for part in ("" if request.nodes == "" else "set by hand", word) if part)
        by = old.by if request.nodes == "" else request.by
        return replace(new, state=State.start(nodes), by=by, reason=said, held=request.nodes == "")
    policy = replace(group.policy, paused=paused or group.policy.paused)
    made: Decision = decide(policy, Figures() if policy.paused else looks.figures(group), old.state, now.since(old) if kept else 0.0)
    return replace(new, state=made.state, reason=made.reason, held=made.held, by=request.by if made.nodes != old.state.nodes else old.by)


def told(request: Request, group: Group, kept: Kept, *, evaluated: bool) -> Told:
    """Return a decision as this host sees it; where nothing was decided each host keeps what it has.

    Whatever the key says, the policy's ``max`` holds: the shares of any total are no larger than those of a larger one.
    """
    if kept.counted:
        return Told(group.name, reason=kept.reason, held=True, by=kept.by, evaluated=evaluated)
    nodes = min(kept.state.nodes, group.policy.max)
    here = shares(nodes, list(group.hosts))[request.host]
    return Told(group.name, nodes, kept.before, here, kept.reason, kept.held, kept.by, evaluated)


class Looks:
    """What the queues of the groups hold: one look for all groups of an engine, and only if it comes to that."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.seen: dict[str, dict[str, queues.Figures] | WorkfleetError] = {}

    def engine(self, name: str) -> dict[str, queues.Figures]:
        """Return the figures of all queues of an engine, by queue."""
        if name not in self.seen:
            wanted = [queue for group in self.request.groups if group.engine == name for queue in group.queues]
            question = queues.Question(self.request.broker_url, self.request.app, wanted, self.request.broker_options, all_of_it=True)
            try:
                self.seen[name] = {figures.queue: figures for figures in taskqueues.named(name).figures(question)}
            except WorkfleetError as error:
                self.seen[name] = error
        found = self.seen[name]
        if isinstance(found, WorkfleetError):
            raise found
        return found

    def figures(self, group: Group) -> Figures:
        """Return the figures of a group's queues together: what waits, and what nodes hold of what is due."""
        engine = engines.named(group.engine)
        backlog, ages, more = 0, [], ""
        try:
            found = self.engine(group.engine)
        except WorkfleetError as error:
            return Figures(missing=str(error))
        for queue in group.queues:
            figures = found.get(queue)
            if figures is None or figures.waiting is None:
                return Figures(missing=(figures and figures.problem) or f"what waits in queue {queue} cannot be told")
            held = [] if figures.running is None else [figures.running]
            if figures.unacknowledged is not None:
                held.append(figures.unacknowledged - (figures.scheduled or 0 if engine.holds_scheduled else 0))
            if not held:
                return Figures(missing=f"what nodes hold of queue {queue} cannot be told")
            if figures.running is None and engine.acknowledges_first:
                more = f"what runs of queue {queue} cannot be told, for not all nodes answer"
            backlog += figures.waiting + max(0, *held)
            if figures.waiting:
                ages.append(None if figures.oldest_age_is == "unknown" else figures.oldest_age_seconds)
        known = [age for age in ages if age is not None]
        return Figures(backlog, (max(known) if known else 0.0) if len(known) == len(ages) else None, more=more)

    def asks(self, group: Group) -> str:
        """Say what the backlog would ask for, as the end of a sentence."""
        figures = self.figures(group)
        if figures.backlog is None:
            return f"; {figures.missing}"
        nodes, why = demand(group.policy, figures, group.policy.min)
        return f"; {why} ask for {nodes}"
