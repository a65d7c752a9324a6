"""Observe, plan, apply, report for all worker nodes of one app on one host.

One call works until its deadline at most and says whether there is more; the caller repeats it. Nothing is kept
between calls but what the host itself shows and ``Request.waiting``: the nodes that are being watched, each with how often its
manager had restarted it when this began. What a node went through before is no fault of this run.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import sys
import time
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from . import (
    answers,
    engines,
    envfile,
    foreign,
    host,
    leave,
    limits,
    managers,
    plan,
    postgresql_login,
    processes,
    scaled,
    shown,
    snapshot,
    stores,
)
from .errors import WorkfleetError
from .layout import Layout
from .lock import Lock
from .managers.base import Manager, Name, Present, Wanted, line_value, read_json
from .spec import Rollout
from .steps import Step, report, secret_diff, text_diff

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

#: What runs the launcher: the system's Python, whichever interpreter Ansible happens to use today.
PYTHON = next(path for path in ("/usr/bin/python3", sys.executable) if os.path.exists(path))
POLL_SECONDS = 0.1
#: Between two looks at run records, which cost next to nothing, and at what the manager tells of starting nodes where none has changed.
RECORD_POLL_SECONDS, START_POLL_SECONDS = 0.02, 0.4
LOG_LINES = 15
#: How much of what a trial said is told.
SAID = 2000
#: How long after its time a node that was told to stop is killed, and then said to be there still. Its manager was to kill it at its time.
OVERDUE_SECONDS, KILLED_SECONDS = 15.0, 10.0
#: What gives a node more time.
BY = " (worker_rollout.ready_timeout_seconds)"
#: Begins a line of a trial's output that is for people.
TRIAL_WARNING = "workfleet-warning:"
#: How long answers over the broker are waited for, between two looks at the nodes.
ASK_SECONDS = 1.0
#: What is told where counts of nodes are not changed.
CUT_SHORT = ("a rollout is under way on this host, or was cut short: nodes of which release they were to be is not told yet; "
             "site.yml, deploy.yml or rollback.yml ends it")


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
            if len(group.env_text.encode(errors="surrogateescape")) > host.LARGEST_ENVIRONMENT:
                raise WorkfleetError(f"group {group.name}: its environment has more than {host.LARGEST_ENVIRONMENT} bytes, and no process "
                                     "can be given so much: put large values into files")
        values["rollout"] = Rollout(**values["rollout"])
        return cls(**values)


@dataclass
class Outcome:
    """What a call did and found; the module's result."""

    steps: list[Step] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    going: dict[str, float] = field(default_factory=dict)
    more: bool = False
    doing: str = ""
    stale: int = 0
    remembered: bool = False
    restart_since: float | None = None
    cleans: list[str] | None = None
    checked: bool = False
    present: list[Present] = field(default_factory=list)


class Reconciler:
    """The nodes of one app on this host, and what is asked of them."""

    def __init__(self, request: Request, manager: Manager, *, check: bool) -> None:
        if request.singles == "only" or (request.singles == "later" and request.undo):
            part = [group.name for group in request.groups if group.comes_last == (request.singles == "only")]
            request = replace(request, only=[name for name in part if request.only is None or name in request.only])
        self.request = request
        self.manager = manager
        self.check = check
        self.release = request.release or current_release(request.root)
        self.key = host_key(request.root, make=not check)
        self.counts = scaled.Counts(request.root, request.groups, request.scale, request.only)
        self.groups = {group.name: group for group in self.counts.applied()}
        self.intents = [self.intent(group) for group in self.groups.values()]
        self.deadline = time.monotonic() + request.deadline_seconds
        #: From then on a call ends where it would begin to wait for nodes that start: the next one's beginning takes none of their time.
        self.turn_of_call = time.monotonic() + request.deadline_seconds / 2
        since = request.restart_since
        self.outcome = Outcome(waiting=dict(request.waiting), going=dict(request.going), checked=request.checked, cleans=request.cleans,
                               restart_since=uptime() if since == 0 else since)
        self.to = {one.group: one.generation for one in self.intents if one.state == "started" and snapshot.is_of(one.group, request.only)}
        self.before = self.ours() if request.undo else None
        self.is_undo = self.before is not None
        if self.before is not None:
            # What sends tasks goes back before those that run them.
            self.intents = sorted(self.before.intents(request.app, self.intents), key=lambda one: not one.comes_last)
        self.started = {one.group for one in self.intents if one.state == "started"}
        self.accounted: dict[Name, dict[str, Any]] = {}
        self.wanted = Wanted(request.manager_texts, request.user, request.group, request.longest_drain,
                             request.pip_environment)

    # -- what should be ---------------------------------------------------------------------------------------------

    def intent(self, group: GroupRequest) -> plan.Intent:
        """Return a group as the plan wants it: this host's generation, and the two texts of a node."""
        fixed = {token: f"<{word}>" for word, token in self.request.tokens.items() if word != "release"}
        values = fill(group.values, {**fixed, self.request.tokens["release"]: self.release or ""})
        generation = hmac.new(self.key, values.encode(), hashlib.sha256).hexdigest()[:16]
        overlaps = group.overlaps and self.request.rollout.order == "start-first"
        return plan.Intent(
            group.name, group.state, group.nodes, generation,
            text=lambda name: self.filled(group.unit_text, name, generation),
            env=lambda name: self.filled(group.env_text, name, generation),
            order="start-first" if overlaps else "stop-first", waits=not overlaps or self.request.rollout.wait_for_drain,
            comes_last=group.comes_last,
        )

    def filled(self, text: str, name: Name, generation: str) -> str:
        """Put what only the host knows into a text."""
        tokens = self.request.tokens
        return fill(text, {tokens["slot"]: str(name.slot), tokens["incarnation"]: str(name.incarnation),
                           tokens["generation"]: generation, tokens["release"]: self.release or "", tokens["python"]: PYTHON})

    def env_path(self, name: Name) -> str:
        """Return the environment file of a node."""
        return os.path.join(self.request.root, "env", f"{name}.env")

    # -- what is ----------------------------------------------------------------------------------------------------

    @host.one_look()
    def observe(self) -> list[plan.Seen]:
        """Return the nodes of this app on this host with their environment files.

        An environment file that no unit names, left by a run that was killed between the two, counts as a node that
        is down: so it is removed, or its slot is filled.
        """
        present = {node.name: node for node in self.manager.present()}
        for name in self.environment_files() - set(present):
            present[name] = Present(name, None, False, "stopped")
        seen = [plan.Seen(node, self.environment(name), self.quiet_since(node) is not None) for name, node in sorted(present.items())]
        if not (self.check and self.request.after_stop):
            return seen
        stopped = [intent if intent.state == "absent" else replace(intent, state="stopped") for intent in self.intents]
        return plan.stopped(self.request.app, plan.make(self.request.app, stopped, seen), stopped, seen)

    def quiet_since(self, node: Present) -> float | None:
        """Return since when a node is told to take no new tasks (Unix time), by its mark; ``None`` where it is not.

        A node that heeds no mark was told as the process that stands there.
        """
        group = self.groups.get(node.name.group)
        if group is None or not self.manager.has_mark(node.name):
            return None
        mark = self.manager.marked(node.name)
        if not group.notifies:
            here = None if node.pid is None else [node.pid, processes.start_time(node.pid)]
            # A mark that was written before they named one does for the process that is there.
            if here is None or mark.get("process", here) != here:
                return None
        since = mark.get("since")  # a person may have made it
        return float(since) if isinstance(since, (int, float)) else time.time()

    def has_heeded(self, node: Present) -> bool:
        """Whether a node that was told to take no new tasks says that it takes none; one that heeds no mark does so at once."""
        group = self.groups.get(node.name.group)
        says = group is not None and (not group.notifies or (node.record is not None and node.record.quiesced is not None))
        return says and self.quiet_since(node) is not None

    def environment(self, name: Name) -> str | None:
        """Return the text of a node's environment file. It is the app's user's: one that root cannot read is replaced."""
        try:
            return host.read(self.env_path(name), limit=host.LARGEST_ENVIRONMENT)
        except host.Unreadable:
            if os.geteuid() != 0:
                raise
            return ""  # no environment is like this, so it differs from the declared one

    def environment_files(self) -> set[Name]:
        """Return the nodes of this app that have an environment file."""
        files = host.names(os.path.join(self.request.root, "env"))
        names = (Name.parse(file[: -len(".env")]) for file in files if file.endswith(".env"))
        return {name for name in names if name is not None and name.app == self.request.app}

    def make_plan(self, seen: list[plan.Seen]) -> plan.Plan:
        """Return the difference."""
        wish = self.outcome.restart_since
        return plan.make(
            self.request.app, self.intents, seen, only=self.request.only, batch=self.request.rollout.batch,
            restart_older_than=None if wish is None else uptime() - wish, running=self.running(seen),
            canary=self.request.canary, cleans=self.cleans(seen), leaves_last=self.request.singles == "later",
        )

    def cleans(self, seen: list[plan.Seen]) -> set[Name]:
        """Return the drained nodes whose remains this run removes: those that were there when it began."""
        if self.outcome.cleans is None:
            self.outcome.cleans = [str(node.name) for node in seen if node.is_drained]
        units = set(self.outcome.cleans)
        return {node.name for node in seen if str(node.name) in units}

    def running(self, seen: list[plan.Seen]) -> dict[Name, int]:
        """Return how many tasks the nodes of groups that shrink are running, where their engine tells."""
        found: dict[Name, int] = {}
        for group in self.groups.values():
            mine = [node for node in seen if node.name.group == group.name]
            here = [node.present for node in mine if node.present.is_up]
            slots = {node.name.slot for node in mine if not node.is_leaving}
            engine = engines.named(group.engine)
            if len(slots) > group.nodes and group.state == "started" and engine.speaks and self.request.broker_url:
                names = {self.filled(group.node_name, node.name, ""): node.name for node in here if self.is_ready(node)}
                told = {}
                with contextlib.suppress(WorkfleetError):  # nobody to ask: all count as busy, and each drains anyway
                    told = engine.inspect(self.request.broker_url, list(names), self.request.broker_options, 1.0)
                found.update(answers.tasks(names, told))
        return found

    # -- the call ---------------------------------------------------------------------------------------------------

    def call(self) -> Outcome:
        """Work until all is done or the deadline is near."""
        outcome = self.outcome
        if self.request.phase or (self.request.undo and not self.is_undo):
            if not self.check:
                self.turn()
            if not self.request.phase:  # who undoes reads of the nodes what runs
                outcome.present = self.manager.present()
            return outcome
        self.refuse_other_manager()
        held = self.held_counts()
        if held:
            outcome.notes = [held]
            return outcome
        if not self.check:
            leave.attend(self.manager)
        service = [] if self.request.after_stop else self.manager.prepare(self.wanted)
        seen = self.observe()
        self.leave_stopped(seen)
        made = self.make_plan(seen)
        outcome.stale, outcome.present = made.stale, [node.present for node in seen]
        self.describe(made, seen, service, outcome)
        if not self.check and (outcome.steps or outcome.waiting or self.is_undo or self.is_draining(made) or self.unready(made, seen)):
            outcome.steps = done = []
            if service:
                self.manager.install(self.wanted)
                done += service_steps(service)
            outcome.more = not self.work(outcome, done)
        if not (self.check or outcome.more or self.started or self.request.only is not None):
            outcome.notes += self.manager.sweep()
        outcome.remembered = snapshot.load(self.request.root) is not None
        if not (self.check or outcome.more):
            self.close(outcome, seen)
        return outcome

    def turn(self) -> None:
        """Begin or end the run on this host without touching a node."""
        if self.request.phase == "begin":
            with Lock(self.request):
                if self.request.release:  # else it is not known yet what this run leads to
                    self.remember(self.observe(), anew=False)
                self.outcome.remembered = snapshot.load(self.request.root) is not None
        elif Lock(self.request).holder() is None:
            if self.request.phase == "end":
                snapshot.forget(self.request.root, self.request.only)
            if not self.request.keeps_host:
                Lock(self.request).give_back()

    def close(self, outcome: Outcome, seen: Sequence[plan.Seen]) -> None:
        """At the end of a task keep the host, where the run comes back to it, else give it back; forget a rollout that is over."""
        lock = Lock(self.request)
        if self.is_undo:
            if self.request.singles != "only":  # the others follow
                snapshot.forget(self.request.root, self.request.only)
        elif not self.request.undoable:
            # A run that would not replace anything cannot tell that all is replaced; one that another run has begun is not ours.
            if self.request.with_rollout and not outcome.stale and outcome.remembered and lock.holder() is None:
                snapshot.forget(self.request.root, self.request.only)
        elif outcome.stale or outcome.remembered:
            with lock:
                self.remember(seen, anew=False)
            return
        if not self.request.keeps_host:
            lock.give_back()

    def held_counts(self) -> str:
        """Say why no count of nodes is changed now: in the middle of a rollout ``current`` is not what all nodes are to run."""
        request = self.request
        counts = [wish for wish in request.scale.values() if wish["nodes"] is not None]
        if not counts or request.with_rollout:
            return ""
        follows = all(wish.get("follows") for wish in counts)
        holder = Lock(request).holder() if follows else None
        if holder:
            return f"{', '.join(request.scale)}: as many nodes as before, for {holder} is changing them"
        before = snapshot.load(request.root)
        if before is None or not before.is_about(request.scale):
            return ""
        if not follows:
            raise WorkfleetError(f"the number of nodes was not changed: {CUT_SHORT}")
        return f"{', '.join(request.scale)}: as many nodes as before, for {CUT_SHORT}"

    def leave_stopped(self, seen: list[plan.Seen]) -> None:
        """Leave groups alone that somebody has stopped, where their number of nodes only follows the backlog."""
        stopped = self.counts.ignore_stopped([node.present for node in seen])
        if stopped:
            self.request = replace(self.request, only=[name for name in self.groups if name in self.request.scale and name not in stopped])
            self.outcome.notes += [f"{name}: its nodes were stopped on this host and stay so; start.yml starts them" for name in stopped]

    def refuse_other_manager(self) -> None:
        """Refuse to work beside nodes of the other process manager: they would have the same names on the broker."""
        request = self.request
        for name in managers.MANAGERS:
            other = managers.named(name, request.app, request.root, request.run_directory)
            left = [] if name == request.manager else other.declared_here()
            if left:
                raise WorkfleetError(f"this host has nodes of {request.app} under {name} ({some(left)}), and worker_manager is "
                                     f"{request.manager}: with worker_manager: {name} set state: absent for all groups first")

    def describe(self, made: plan.Plan, seen: list[plan.Seen], service: list[str], outcome: Outcome) -> None:
        """Put the prediction into the outcome: steps, diff, notes."""
        if not self.request.only_rollout:  # the call before it has done that, or foretold it
            outcome.steps = [*service_steps(service), *self.counts.steps()]
            outcome.diff = self.counts.diff()
        outcome.steps += made.steps(rollout=self.request.with_rollout, converge=not self.request.only_rollout)
        outcome.notes += made.notes
        by_name = {node.name: node for node in seen}
        for item in outcome.steps:
            if item.group is not None and item.action in ("write", "remove"):
                name = plan.name_of(self.request.app, item)
                outcome.diff += list(self.differences(item, name, by_name))

    def differences(self, item: Step, name: Name, seen: dict[Name, plan.Seen]) -> Iterator[dict[str, str]]:
        """Yield the diff of a node's two files; of a secret it says only whether it changes."""
        old = seen.get(name)
        if item.action == "remove":
            yield text_diff(self.manager.path(name), f"{name}\n", None)
            return
        if old is None:
            slot = [node for key, node in seen.items() if (key.group, key.slot) == (name.group, name.slot)]
            old = max(slot, key=lambda node: node.name) if slot else None
        intent = next(entry for entry in self.intents if entry.group == name.group)
        group = self.groups.get(name.group)
        yield text_diff(self.manager.path(name), old.present.text if old else None, intent.text(name))
        before, after = env_of(old.env if old else None), env_of(intent.env(name)) or {}
        shown_before, shown_after = [], []
        for key in sorted({*after, *(before or {})}):
            secret = group is None or key in group.secret_names or key not in after
            was, will = (before or {}).get(key), after.get(key)
            if was is not None:
                shown_before.append(f"{key}={'<secret>' if secret and was != will else '<secret unchanged>' if secret else was}")
            if will is not None:
                shown_after.append(f"{key}={secret_diff(was, will) if secret else will}")
        yield text_diff(self.env_path(name), "".join(f"{line}\n" for line in shown_before) if before is not None else None,
                        "".join(f"{line}\n" for line in shown_after))

    def is_draining(self, made: plan.Plan) -> bool:
        """Whether nodes are on their way down that nothing is left to be done about but to wait."""
        return any(phase.waits_for for phase in made.phases(rollout=self.request.with_rollout))

    def unready(self, made: plan.Plan, seen: list[plan.Seen]) -> bool:
        """Whether a node that should run is up without being ready yet."""
        by_name = {node.name: node.present for node in seen}
        return any(not self.is_ready(by_name[name]) for name in made.wanted
                   if name in by_name and name.group in self.started)

    # -- apply: the only code here that changes the host ---------------------------------------------------------------

    def work(self, outcome: Outcome, done: list[Step]) -> bool:
        """Carry the plan out, phase by phase, planning anew after each; return whether all is done.

        Raises :class:`WorkfleetError` at the first node that does not become ready; what comes later is not touched.
        """
        with Lock(self.request) as lock:
            try:
                if self.rolls_out:
                    self.remember(self.observe(), anew=False)
                done += self.counts.write()
                while True:
                    seen = self.observe()
                    made = self.make_plan(seen)
                    outcome.stale = made.stale
                    lock.is_kept = not self.settled(made, seen, outcome)
                    phases = made.phases(rollout=self.request.with_rollout)
                    if lock.is_kept:
                        return False
                    if not phases:
                        return True
                    if not (outcome.checked or self.is_undo):
                        outcome.warned = self.preflight(phases)
                        outcome.checked = True
                    if made.rollout and self.rolls_out:  # before anything is written, though what is to be undone comes in a later task
                        self.remember(seen, anew=True)
                    lock.is_kept = not self.carry_out(phases[0], seen, outcome, done)
                    if lock.is_kept:
                        return False
            except WorkfleetError:
                lock.is_kept = self.can_undo()
                raise

    @property
    def rolls_out(self) -> bool:
        """Whether what this run replaces can be undone; a restart leads to what is there already."""
        request = self.request
        return (request.with_rollout or request.undoable) and not self.is_undo and self.outcome.restart_since is None

    def remember(self, seen: Sequence[plan.Seen], *, anew: bool) -> None:
        """Note what runs before the rollout of this run; without ``anew`` only take over what a run noted that was cut short."""
        if anew or snapshot.load(self.request.root) is not None:
            seconds = self.request.rollout.monitor_seconds
            unproved = {node.name for node in seen if not self.is_proved(node.present, seconds)}
            snapshot.remember(self.request.root, seen, self.to, self.request.run, self.request.only, unproved)

    def ours(self) -> snapshot.Snapshot | None:
        """Return what ran before the rollout, where it is one of this very run to this very declaration."""
        before = snapshot.load(self.request.root)
        return before if before is not None and before.is_of(self.request.run, self.to, self.request.only) else None

    def can_undo(self) -> bool:
        """Whether a rollout that failed just now is to be undone, and can be."""
        wanted = self.request.rollout.failure_action == "rollback" and not self.request.undo
        return wanted and self.outcome.restart_since is None and self.ours() is not None

    def carry_out(self, phase: plan.Phase, seen: Sequence[plan.Seen], outcome: Outcome, done: list[Step]) -> bool:
        """Do the steps of one phase, many nodes at a time; return False where the deadline came first."""
        here = {node.name for node in seen}
        for action, items in groupby(phase.steps, key=lambda item: item.action):
            part = list(items)
            names = [plan.name_of(self.request.app, item) for item in part if item.group is not None]
            if action == "remove" and not self.gone(names, outcome):
                return False
            # The file of a unit that stops is not changed, and what stops cannot be started.
            if action in ("write", "start") and not self.gone(self.stopping([name for name in names if name in here]), outcome):
                return False
            if action == "start":
                part = part[: self.start(names, outcome)]
            else:
                getattr(self, f"do_{action}")(names)
            done += part
            if len(part) < len(names):
                return False
        return self.gone(phase.waits_for, outcome)

    def do_write(self, names: list[Name]) -> None:
        """Write environment files first: a unit never names one that is not there."""
        self.make_directories(names)
        for name in names:
            intent = next(entry for entry in self.intents if entry.group == name.group)
            host.write(self.env_path(name), intent.env(name), mode=0o600, owner=self.request.user, group=self.request.group)
            self.manager.write(name, intent.text(name))

    def make_directories(self, names: list[Name]) -> None:
        """Have the directories in which nodes keep their state; nobody but the app's user reads them."""
        groups = {name.group for name in names} & set(self.groups)
        for path in sorted({path for group in groups for path in self.groups[group].directories}):
            host.directory(path, mode=0o750, owner=self.request.user, group=self.request.group)

    def do_remove(self, names: list[Name]) -> None:
        """Remove every trace of nodes that are gone; what names them goes last, so that a killed run is finished."""
        for name in names:
            host.remove(self.env_path(name))
            host.remove(self.manager.mark_path(name))  # a later node of this name must take tasks
            self.account(name)
        self.manager.remove(names)

    def do_reload(self, _names: list[Name]) -> None:
        """Have the manager read its files."""
        self.manager.reload()

    def do_enable(self, names: list[Name]) -> None:
        """Start at boot."""
        self.manager.enable(names)

    def do_disable(self, names: list[Name]) -> None:
        """Do not start at boot."""
        self.manager.disable(names)

    def do_stop(self, names: list[Name]) -> None:
        """Tell nodes to drain and exit."""
        if self.request.kill:
            self.outcome.warned += self.dying(names)
        going = {} if self.request.kill else self.going(names)
        others = [name for name in names if name not in going]
        if others:
            self.manager.stop(others)
        leave.tell(self.manager, going)

    def going(self, names: list[Name]) -> dict[Name, leave.Note]:
        """Return the notes of those of these nodes that have tasks to end, and whose group goes on: a stop is bounded by the manager."""
        found = {}
        for node in self.manager.present_of(names):
            group = self.groups.get(node.name.group)
            if node.is_up and group is not None and group.name in self.started and engines.named(group.engine).speaks:
                can_be = group.notifies and group.gives_back and self.is_ready(node)
                found[node.name] = leave.Note(
                    self.filled(group.node_name, node.name, ""), time.time(), group.drain_seconds,
                    kills=self.request.rollout.drain_timeout_action == "kill",
                    by_mark=can_be and node.record is not None and node.record.mark is not None)
        return found

    def account(self, name: Name) -> None:
        """Keep the ledger's line of a node that has gone, and forget that it was told to."""
        line = read_json(self.manager.note_path(name)).get("line")
        if line:
            self.accounted[name] = line
        host.remove(self.manager.note_path(name))

    def ledger(self) -> list[dict[str, Any]]:
        """Return a line for each node that was told to go and of which something is left, or was until this call."""
        told = {} if self.check else {**leave.lines(self.manager), **self.accounted}
        return [line for name, line in sorted(told.items()) if self.request.only is None or name.group in self.request.only]

    def dying(self, names: list[Name]) -> list[str]:
        """Say which tasks a kill of these nodes cuts short, as far as their engine tells."""
        said = []
        for group, members in groupby(sorted(names), key=lambda name: name.group):
            declared = self.groups.get(group)
            if declared is None or not self.request.broker_url:
                continue
            nodes = [self.filled(declared.node_name, name, "") for name in members]
            with contextlib.suppress(WorkfleetError):  # nobody to ask: what they hold is not told
                told = engines.named(declared.engine).held(self.request.broker_url, nodes, self.request.broker_options, ASK_SECONDS)
                for node, held in sorted(told.items()):
                    said += [f"{node} is killed while it runs {task['task'] or 'a task'} ({task['id']}), "
                             + ("which is lost" if task["acked"] else "which is dumped with its queue")
                             for task in held.tasks if task["since"] is not None or task["task"] is None]  # Chicory tells no more
        return said

    def start(self, names: list[Name], outcome: Outcome) -> int:
        """Start nodes, staggered where that is asked for, and watch them from now on; return how many were begun."""
        pause = self.request.rollout.start_stagger_seconds
        begun = 0
        self.make_directories(names)
        for name in names:
            self.account(name)
        for batch in [[name] for name in names] if pause else [names]:
            if begun:
                time.sleep(pause)
            if begun and time.monotonic() > self.deadline:
                break
            self.manager.start(batch)
            begun += len(batch)
        outcome.waiting.update(dict.fromkeys(map(str, names[:begun]), 0))
        return begun

    def preflight(self, phases: Sequence[plan.Phase]) -> list[str]:
        """Find out before anything is touched what would make every start fail; return what may only hurt."""
        starting = {item.group for phase in phases for item in phase.steps if item.action == "start"}
        warned: dict[str, None] = {}
        if not starting:
            return []
        if self.request.has_release:
            self.check_release()
        for name in sorted(group for group in starting if group):
            try:
                self.check_stores(self.groups[name])
                values = json.loads(fill(self.groups[name].values, {self.request.tokens["release"]: self.release or ""}))
                warned.update(dict.fromkeys(postgresql_login.check(values["environment"])))
                warned.update(dict.fromkeys(self.check_start(name, values)))
            except WorkfleetError as error:
                what = f"nodes of {name} were not started, and none was stopped for them"
                raise WorkfleetError(f"{what}: {error}", **error.details) from error
        return list(warned)

    def check_stores(self, group: GroupRequest) -> None:
        """Refuse to start nodes on a broker or result store that this host does not reach, or on a key that is no queue of theirs."""
        engine, request = engines.named(group.engine), self.request
        if engine.schemes:  # a command of the user's may need neither
            stores.require_reached(request.broker_url, request.result_url)
        if request.broker_url:
            engine.waiting(request.broker_url, group.queues, request.broker_options)

    def check_start(self, name: str, values: Mapping[str, Any]) -> list[str]:
        """Have the engine make a worker without running it, as the node would be made; return what it warns of."""
        group = self.groups[name]
        trial = engines.named(group.engine).trial(values["command"], Layout(self.request.root).workfleet, group.drain_seconds)
        if not trial:
            return []
        done = foreign.run(values["user"], trial, check=False, env=values["environment"], cwd=values["directory"],
                           timeout=limits.of_import(self.request.rollout.ready_timeout_seconds))
        if done.rc:
            raise WorkfleetError(f"a worker cannot be made: {shown.end(done.err, SAID)}", blame=f"a worker of {name} cannot be made of it")
        return [f"{name}: {line[len(TRIAL_WARNING):].strip()}" for line in done.out.splitlines() if line.startswith(TRIAL_WARNING)]

    def check_release(self) -> None:
        """Refuse to start nodes on a release that is not there."""
        if not self.release:
            raise WorkfleetError(f"no node was touched: {self.request.root}/current names no release; run site.yml, which builds one")
        python = os.path.join(self.request.root, "releases", self.release, "venv", "bin", "python")
        if not os.path.exists(python):
            raise WorkfleetError(f"no node was touched: the virtualenv of release {self.release} is missing ({python}); "
                                 "remove that release's directory and run site.yml, which builds it again")

    # -- waiting ----------------------------------------------------------------------------------------------------

    def gone(self, names: Sequence[Name], outcome: Outcome) -> bool:
        """Wait until no process of these nodes is left; return False at the deadline."""
        left = set(names)
        # A stop, and a kill the more, is bounded by the manager also for those that a rollout before had all the time.
        bounded = left if self.request.kill else {name for name in left if name.group not in self.started}
        ended = sorted(bounded & set(leave.pending(self.manager)))
        if ended:
            self.manager.stop(ended)
        if self.request.kill and left:
            self.manager.kill(self.manager.present_of(sorted(left)))
        while left:
            here = [node for node in self.manager.present_of(sorted(left)) if node.is_up]
            up = {node.name: node.stopping_seconds or 0.0 for node in here}
            leaving = leave.pending(self.manager)
            left &= {*up, *leaving}
            if not left:
                break
            outcome.doing = f"{count(len(left))} draining, since {max(up.values(), default=0.0):.0f} s: {some(left)}"
            late = [name for name in left & set(leaving) if leaving[name].is_late and not leaving[name].kills]
            if late:
                outcome.doing += f"; longer than drain_seconds, and waited for: {some(late)}"
            self.enforce([node for node in here if node.name in left and node.name not in leaving])
            if time.monotonic() > self.deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def enforce(self, nodes: Sequence[Present]) -> None:
        """End nodes that were told to stop and of which the manager has not ended what is left in time, as it was to.

        Raises where one is said to be there even then: a manager that lies, or a process that cannot be killed, keeps nobody waiting.
        """
        for node in nodes:
            waited = uptime() - self.outcome.going.setdefault(str(node.name), uptime())
            seconds = 0 if self.request.kill else stop_seconds(node.text)
            if seconds is not None and waited > seconds + OVERDUE_SECONDS:
                self.manager.kill([node])
                if waited > seconds + OVERDUE_SECONDS + KILLED_SECONDS:
                    raise WorkfleetError(
                        f"{node.name} was to be gone {waited - seconds:.0f} s ago, and {self.request.manager} says that process {node.pid} "
                        "of it is there, though it was killed: look at that process (ps), then at the manager, which may be another"
                        + (f" ({node.doubt})" if node.doubt else ""))

    def stopping(self, names: Sequence[Name]) -> list[Name]:
        """Return those of these nodes that are on their way down, or of which it is not written down yet what became of them."""
        return [node.name for node in self.manager.present_of(names)
                if node.activity == "stopping" or self.manager.leaving_since(node.name) is not None]

    def settled(self, made: plan.Plan, seen: Sequence[plan.Seen], outcome: Outcome) -> bool:
        """Wait until the nodes that were started, and any that is still starting, are ready and stay so.

        ``seen`` was there a moment ago; only nodes that keep us waiting are looked at again.
        """
        present = {node.name: node.present for node in seen}
        # A node that takes another's place is watched in any case: a run that was killed told nobody that it began to. So is all
        # that ran before, once it is there again: who brings it back proves it, though he started none of it.
        is_back = self.is_undo and not made.phases(rollout=True)
        for name in made.wanted if is_back else made.overlapping:
            if name in present:
                outcome.waiting.setdefault(str(name), present[name].restarts)
        told: dict[Name, int] = {}
        deadline = self.deadline if time.monotonic() < self.turn_of_call else 0.0
        while True:
            outcome.present = [present[name] for name in sorted(present)]
            watched = {name for name in present if str(name) in outcome.waiting}
            mine = [name for name in made.wanted if name in present and name.group in self.started]
            for name in sorted({*watched, *mine}):
                self.raise_failure(present[name], outcome.waiting.get(str(name)))
            unready = [name for name in {*watched, *mine} if present[name].is_up and not self.is_ready(present[name])]
            rollout = self.request.rollout
            seconds = rollout.monitor_seconds + (rollout.delay_seconds if made.rollout else 0)
            young = [name for name in watched if not self.is_proved(present[name], seconds)]
            if not unready and not young:
                unready = self.unheard([present[name] for name in sorted(watched)])
            if not unready and not young:
                outcome.waiting = {}
                return True
            outcome.doing = (f"{count(len(unready))} starting: {some(unready)}" if unready
                             else f"{count(len(young))} ready, watched for {seconds:g} s")
            if time.monotonic() > deadline:
                return False
            awaited = {*unready, *young}
            told = self.await_news(awaited, told)
            present = {name: node for name, node in present.items() if name not in awaited}
            present.update((node.name, node) for node in self.manager.present_of(sorted(awaited)))

    def await_news(self, names: Collection[Name], told: Mapping[Name, int]) -> dict[Name, int]:
        """Wait until run records are other than ``told``, or for a moment; return what they are, in the same form.

        It spares the manager, which starting workers would otherwise share the CPU with.
        """
        end = time.monotonic() + START_POLL_SECONDS
        while (times := self.manager.record_times(names)) == told and time.monotonic() < end:
            time.sleep(RECORD_POLL_SECONDS)
        return times

    def is_ready(self, node: Present) -> bool:
        """Whether a node consumes, as far as its runner tells; one without a runner is ready when it is up."""
        if node.activity != "running":
            return False
        group = self.groups.get(node.name.group)
        told = group is not None and group.notifies and node.record is not None
        return not told or (node.record is not None and node.record.ready is not None)

    def is_proved(self, node: Present, seconds: float) -> bool:
        """Whether a node has been ready for so long."""
        if not self.is_ready(node):
            return False
        age = node.uptime_seconds or 0.0
        if node.record is not None and node.record.ready is not None:
            age = min(age, time.time() - node.record.ready)
        return age >= seconds

    def unheard(self, nodes: Sequence[Present]) -> list[Name]:
        """Return those of these nodes, of commands of the user's own, whose worker does not answer over the broker yet.

        No runner tells of them, so they are asked. Raises where one does not answer in time, or is wrapped.
        """
        own = [node for node in nodes if node.name.group in self.groups and not self.groups[node.name.group].notifies]
        told = answers.ask(self, own, ASK_SECONDS, [])
        limit = self.request.rollout.ready_timeout_seconds
        awaited = []
        for node in own:
            answer, group = told.get(node.name), self.groups[node.name.group]
            wrapped = answers.wrapper(node, answer)
            if wrapped:
                self.fail(node, f"is no good: {wrapped}")
            if told.reached(node.name) and answers.is_missed(group, answer):
                if (node.uptime_seconds or 0) > limit:
                    self.fail(node, f"is up, but its worker did not answer over the broker within {limit:g} s{BY}")
                awaited.append(node.name)
        return awaited

    def raise_failure(self, node: Present, restarts: int | None) -> None:
        """Raise where a node takes too long or has crashed, with its last log lines. ``restarts`` is how often it had been restarted
        when it began to be watched; None where it is not.
        """
        limit = self.request.rollout.ready_timeout_seconds
        if restarts is not None and (node.activity == "failed" or node.restarts > restarts):
            what = f"does not stay up: {node.result or f'it was restarted {node.restarts - restarts} times'}"
        elif node.is_up and not self.is_ready(node) and (node.uptime_seconds or 0) > limit:
            what = f"is up but did not become ready within {limit:g} s{BY}"
        else:
            return
        self.fail(node, what)

    def fail(self, node: Present, what: str) -> None:
        """Raise with a node's last log lines."""
        lines = self.manager.log(node.name, LOG_LINES)
        said = "\n".join(f"  | {line}" for line in lines) or "  (it wrote nothing)"
        if self.before is not None and not self.before.was_proved(node.name):
            what += f". Before the rollout it had not been ready for {self.request.rollout.monitor_seconds:g} s either"
        raise WorkfleetError(f"node {node.name} {what}. The nodes behind it are untouched. Its last log lines:\n{said}",
                             node=str(node.name), log=lines, blame=f"node {node.name} {what}")


def uptime() -> float:
    """Return the seconds since boot, which nobody sets to another time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def stop_seconds(text: str | None) -> int | None:
    """Return after how many seconds its manager kills a node that was told to stop, as its unit's or program's text says."""
    value = line_value(text, "TimeoutStopSec=") or line_value(text, "stopwaitsecs=") or ""
    return int(value) if value.isascii() and value.isdigit() else None


def current_release(root: str) -> str | None:
    """Return the build that is current, or None."""
    target = host.points_to(os.path.join(root, "current"))
    return os.path.basename(target) if target else None


def host_key(root: str, *, make: bool) -> bytes:
    """Return this host's key for generations; a run in check mode on a bare host gets one that is not kept."""
    path = os.path.join(root, "state", "generation.key")
    text = host.read(path)
    if text is None:
        text = secrets.token_hex(32)
        if make:
            host.directory(os.path.dirname(path), mode=0o700)
            host.write(path, text, mode=0o600)
    return bytes.fromhex(text)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace tokens."""
    for token, value in values.items():
        text = text.replace(token, value)
    return text


def env_of(text: str | None) -> dict[str, str] | None:
    """Return the variables of an environment file; one that somebody broke counts as empty."""
    if text is None:
        return None
    try:
        return dict(envfile.parse(text))
    except WorkfleetError:
        return {}


def service_steps(reasons: Sequence[str]) -> list[Step]:
    """Return the steps for the manager's own service."""
    return [Step("write", "process manager", reason) for reason in reasons]


def count(number: int) -> str:
    """Return ``1 node`` or ``n nodes``."""
    return "1 node" if number == 1 else f"{number} nodes"


def some(names: Sequence[Name] | set[Name]) -> str:
    """Return the first few names."""
    ordered = [f"{name.group} {name.slot}" for name in sorted(names)]
    return ", ".join(ordered[:4]) + (f" and {len(ordered) - 4} more" if len(ordered) > 4 else "")


def outcome_result(outcome: Outcome) -> dict[str, Any]:
    """Return the module's result; ``changed`` and ``diff`` come from the same steps."""
    return {
        "changed": bool(outcome.steps), "steps": report(outcome.steps, None), "diff": outcome.diff, "more": outcome.more,
        "waiting": outcome.waiting, "going": outcome.going,
        "doing": outcome.doing, "notes": outcome.notes, "warned": outcome.warned, "stale": outcome.stale,
        "remembered": outcome.remembered,
        "restart_since": outcome.restart_since, "checked": outcome.checked, "cleans": outcome.cleans,
        "nodes": [node_result(node) for node in outcome.present],
    }


def node_result(node: Present) -> dict[str, Any]:
    """Return what a reconcile tells of a node; ``worker_info`` tells more."""
    return {"unit": str(node.name), "group": node.name.group, "slot": node.name.slot, "incarnation": node.name.incarnation,
            "activity": node.activity, "pid": node.pid, "generation": node.generation}
