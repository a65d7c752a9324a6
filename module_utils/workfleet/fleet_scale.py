"""The wanted totals of groups that follow their backlog: evaluated, set by hand, and kept in the broker.

Every host of a run asks; the first one evaluates, and the others find its decision under the run's name. A decision is
stored only over the state that it was made from (``WATCH``), so that two runs at once cannot undo each other's history.
"""

from __future__ import annotations

import functools
import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from . import engines, resp
from .engines import queues
from .errors import WorkfleetError
from .scaling import Decision, Figures, Policy, Run, State, decide, shares

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ATTEMPTS = 10
#: Beyond so long without an evaluation nobody wants to know; the key goes by itself.
KEPT_SECONDS = 90 * 86400


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
    ``pause``, ``resume`` or empty. With neither of these two the policies are evaluated."""

    app: str
    host: str
    broker_url: str
    broker_options: dict[str, Any]
    groups: list[Group]
    run: str
    by: str
    nodes: int | str = ""
    control: str = ""

    @property
    def sets(self) -> bool:
        """Whether a person sets something, and no policy is evaluated."""
        return self.nodes != "" or self.control != ""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Request:
        """Return the request in a decoded payload."""
        groups = [Group(**{**entry, "policy": Policy(**entry["policy"])}) for entry in raw["groups"]]
        return cls(**{**raw, "groups": groups})


@dataclass(frozen=True)
class Kept:
    """What the broker keeps of a group.

    ``at`` is the broker's time; ``boot`` and ``uptime`` are of the host that evaluated: where the same one does so again,
    the time between is told by a clock that nobody sets.
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

    @classmethod
    def parse(cls, key: str, text: str) -> Kept:
        """Return what a key holds."""
        try:
            raw = json.loads(text)
            state = State(int(raw["state"]["nodes"]), *(tuple(Run(float(age), int(nodes)) for age, nodes in raw["state"][name])
                                                        for name in ("high", "low")))
            if not (state.high and state.low):
                raise ValueError
            return cls(**{**raw, "state": state})
        except (ValueError, TypeError, KeyError) as error:
            raise WorkfleetError(f"the key {key} in the broker cannot be read as what the autoscaler keeps; delete it, and all begins "
                                 "anew") from error


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
    for group in request.groups:
        try:
            with resp.connect(request.broker_url) as client:
                found.append(one(request, group, client, check=check))
        except WorkfleetError as error:
            if request.sets:
                raise
            found.append(Told(group.name, reason=f"held: {error}", held=True))
    return found


def one(request: Request, group: Group, client: resp.Client, *, check: bool) -> Told:
    """Take the state of one group, make the next one and store it, again where another run was quicker."""
    key = f"workfleet:{request.app}:scale:{group.name}"
    figures = functools.lru_cache(maxsize=None)(lambda: look(request, group))  # once, and only if it comes to that
    for _ in range(ATTEMPTS):
        _, text, clock = client.pipeline([("WATCH", key), ("GET", key), ("TIME",)])
        kept = None if text is None else Kept.parse(key, resp.text(text))
        if kept is not None and kept.run == request.run:
            return told(request, group, kept, evaluated=False)
        if kept is not None and has_changed(kept.declared, group.hosts):
            kept = None
        if request.nodes == "inventory":
            here = Told(group.name, before=kept.state.nodes if kept else None, reason="as in the inventory", by=request.by, evaluated=True)
            change: tuple[resp.Argument, ...] = ("DEL", key)
        else:
            made = following(request, group, kept, Moment(queues.seconds(clock)), figures)
            here = told(request, group, made, evaluated=True)
            change = ("SET", key, json.dumps(asdict(made)), "EX", KEPT_SECONDS)
            if kept is None and made.held:
                here.here = None  # nothing was ever decided: each host keeps what it has
                if not request.sets:
                    return here
        if check:
            return here
        if client.pipeline([("MULTI",), change, ("EXEC",)])[-1] is not None:
            return here
    raise WorkfleetError(f"the key {key} was changed by others {ATTEMPTS} times while this run looked at it")


def has_changed(then: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Whether the inventory says another ``nodes`` for a host; hosts that came or went are no such change."""
    return any(now.get(host, nodes) != nodes for host, nodes in then.items())


def following(request: Request, group: Group, kept: Kept | None, now: Moment, figures: Callable[[], Figures]) -> Kept:
    """Return what is to be kept from now on."""
    old = kept or Kept(State.start(sum(group.hosts.values())), group.hosts, by="the inventory")
    paused = {"pause": True, "resume": False}.get(request.control, old.paused)
    new = replace(old, declared=group.hosts, run=request.run, before=old.state.nodes, paused=paused,
                  at=now.at, boot=now.boot, uptime=now.uptime)
    if request.sets:
        nodes = old.state.nodes if request.nodes == "" else int(request.nodes)
        word = {"pause": "paused", "resume": "resumed"}.get(request.control, "")
        said = ", ".join(part for part in ("" if request.nodes == "" else "set by hand", word) if part)
        by = old.by if request.nodes == "" else request.by
        return replace(new, state=State.start(nodes), by=by, reason=said, held=request.nodes == "")
    policy = replace(group.policy, paused=paused or group.policy.paused)
    made: Decision = decide(policy, Figures() if policy.paused else figures(), old.state, now.since(old) if kept else 0.0)
    return replace(new, state=made.state, reason=made.reason, held=made.held, by=request.by if made.nodes != old.state.nodes else old.by)


def told(request: Request, group: Group, kept: Kept, *, evaluated: bool) -> Told:
    """Return a decision as this host sees it."""
    here = shares(kept.state.nodes, list(group.hosts))[request.host]
    return Told(group.name, kept.state.nodes, kept.before, here, kept.reason, kept.held, kept.by, evaluated)


def look(request: Request, group: Group) -> Figures:
    """Return the figures of a group's queues together: what waits, and what nodes hold of what is due."""
    engine = engines.named(group.engine)
    backlog, ages = 0, []
    try:
        asked = engine.figures(queues.Question(request.broker_url, request.app, group.queues, request.broker_options, all_of_it=True))
    except WorkfleetError as error:
        return Figures(missing=str(error))
    found = {figures.queue: figures for figures in asked}
    for queue in group.queues:
        figures = found.get(queue)
        if figures is None or figures.waiting is None:
            return Figures(missing=(figures and figures.problem) or f"what waits in queue {queue} cannot be told")
        held = [] if figures.running is None else [figures.running]
        if figures.unacknowledged is not None:
            held.append(figures.unacknowledged - (figures.scheduled or 0 if engine.holds_scheduled else 0))
        if not held:
            return Figures(missing=f"what nodes hold of queue {queue} cannot be told")
        backlog += figures.waiting + max(0, *held)
        if figures.waiting:
            ages.append(None if figures.oldest_age_is == "unknown" else figures.oldest_age_seconds)
    known = [age for age in ages if age is not None]
    return Figures(backlog, (max(known) if known else 0.0) if len(known) == len(ages) else None)
