"""Observe, plan, apply, report for all worker nodes of one app on one host.

One call works until its deadline at most and says whether there is more; the caller repeats it. Nothing is kept
between calls but what the host itself shows and ``Request.waiting``: the nodes that are being watched, each with how often its
manager had restarted it when this began. What a node went through before is no fault of this run.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .. import engines, managers
from ..errors import WorkfleetError
from ..host import effects, envfile, ownership
from ..host.steps import Step, secret_diff, text_diff
from ..managers.base import Wanted, read_json
from . import leave, plan, snapshot
from .host_nodes import ASK_SECONDS, HostNodes, key_path
from .lease import Lock
from .outcome import Outcome
from .watch import Watch, some

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..managers.base import Manager
    from ..model import Name
    from .request import Request

#: What is told where counts of nodes are not changed.
CUT_SHORT = ("a rollout is under way on this host, or was cut short: nodes of which release they were to be is not told yet; "
             "site.yml, deploy.yml or rollback.yml ends it")


class Reconciler:
    """One call that makes the nodes of an app on this host what the request asks for."""

    def __init__(self, request: Request, manager: Manager, *, check: bool) -> None:
        if request.singles == "only" or (request.singles == "later" and request.undo):
            part = [group.name for group in request.groups if group.comes_last == (request.singles == "only")]
            request = replace(request, only=[name for name in part if request.only is None or name in request.only])
        self.manager, self.check = manager, check
        self.nodes = HostNodes(request, manager, check=check)
        self.outcome = Outcome(waiting=dict(request.waiting), going=dict(request.going), checked=request.checked, cleans=request.cleans,
                               restart_since=self.nodes.restart_since)
        self.watch = Watch(self.nodes, self.outcome)
        self.accounted: dict[Name, dict[str, Any]] = {}
        self.wanted = Wanted(request.manager_texts, request.user, request.group, request.longest_drain, request.pip_environment)

    @property
    def request(self) -> Request:
        """What is asked for."""
        return self.nodes.request

    # -- the call ---------------------------------------------------------------------------------------------------

    def call(self) -> Outcome:
        """Work until all is done or the deadline is near."""
        outcome = self.outcome
        if not self.check:
            self.keep_key()
        if self.request.phase or (self.request.undo and not self.nodes.is_undo):
            if not self.check:
                self.turn()
            if not self.request.phase:  # who undoes reads of the nodes what runs
                outcome.present = self.manager.present()
            return outcome
        self.refuse_other_manager()
        ownership.require_run(self.request.run_directory, self.request.app)
        held = self.held_counts()
        if held:
            outcome.notes = [held]
            return outcome
        if not self.check:
            leave.attend(self.manager)
        service = [] if self.request.after_stop else self.manager.prepare(self.wanted)
        seen = self.nodes.observe()
        self.leave_stopped(seen)
        made = self.difference(seen)
        outcome.present = [node.present for node in seen]
        self.describe(made, seen, service, outcome)
        is_wanting = outcome.steps or outcome.waiting or self.nodes.is_undo
        if not self.check and (is_wanting or is_draining(made, self.request) or unready(made, seen, self.nodes)):
            outcome.steps = done = []
            if service:
                self.manager.install(self.wanted)
                done += service_steps(service)
            outcome.more = not self.work(outcome, done)
        if not (self.check or outcome.more or self.nodes.started or self.request.only is not None):
            outcome.notes += self.manager.sweep()
        outcome.remembered = snapshot.load(self.request.root) is not None
        if not (self.check or outcome.more):
            self.close(outcome, seen)
        return outcome

    def keep_key(self) -> None:
        """Have the host keep its key for generations, which the first call on a host has made up."""
        path = key_path(self.request.root)
        if not self.nodes.has_key:
            effects.directory(os.path.dirname(path), mode=0o700)
            effects.write(path, self.nodes.key.hex(), mode=0o600)

    def difference(self, seen: list[plan.Seen]) -> plan.Plan:
        """Return the difference, and put what of it is told into the outcome."""
        made = self.nodes.make_plan(seen)
        self.outcome.stale, self.outcome.cleans = made.stale, self.nodes.cleans
        return made

    def turn(self) -> None:
        """Begin or end the run on this host without touching a node."""
        if self.request.phase == "begin":
            with Lock(self.request):
                if self.request.release:  # else it is not known yet what this run leads to
                    self.remember(self.nodes.observe(), anew=False)
                self.outcome.remembered = snapshot.load(self.request.root) is not None
        elif Lock(self.request).holder() is None:
            if self.request.phase == "end":
                snapshot.forget(self.request.root, self.request.only)
            if not self.request.keeps_host:
                Lock(self.request).give_back()

    def close(self, outcome: Outcome, seen: Sequence[plan.Seen]) -> None:
        """At the end of a task keep the host, where the run comes back to it, else give it back; forget a rollout that is over."""
        lock = Lock(self.request)
        if self.nodes.is_undo:
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
        stopped = self.nodes.counts.ignore_stopped([node.present for node in seen])
        if stopped:
            others = [name for name in self.nodes.groups if name in self.request.scale and name not in stopped]
            self.nodes.request = replace(self.request, only=others)
            self.outcome.notes += [f"{name}: its nodes were stopped on this host and stay so; start.yml starts them" for name in stopped]

    def refuse_other_manager(self) -> None:
        """Refuse to work beside nodes of the other process manager: they would have the same names on the broker."""
        request = self.request
        for name in managers.MANAGERS:
            if name == request.manager or not managers.has_traces(name, request.app, request.root):
                continue
            left = managers.named(name, request.app, request.root, request.run_directory).declared_here()
            if left:
                raise WorkfleetError(f"this host has nodes of {request.app} under {name} ({some(left)}), and worker_manager is "
                                     f"{request.manager}: with worker_manager: {name} set state: absent for all groups first")

    def describe(self, made: plan.Plan, seen: list[plan.Seen], service: list[str], outcome: Outcome) -> None:
        """Put the prediction into the outcome: steps, diff, notes."""
        if not self.request.only_rollout:  # the call before it has done that, or foretold it
            outcome.steps = [*service_steps(service), *self.nodes.counts.steps()]
            outcome.diff = self.nodes.counts.diff()
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
        intent = next(entry for entry in self.nodes.intents if entry.group == name.group)
        group = self.nodes.groups.get(name.group)
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
        yield text_diff(self.nodes.env_path(name), "".join(f"{line}\n" for line in shown_before) if before is not None else None,
                        "".join(f"{line}\n" for line in shown_after))

    # -- apply: the only code here that changes the host ---------------------------------------------------------------

    def work(self, outcome: Outcome, done: list[Step]) -> bool:
        """Carry the plan out, phase by phase, planning anew after each; return whether all is done.

        Raises :class:`WorkfleetError` at the first node that does not become ready; what comes later is not touched.
        """
        with Lock(self.request) as lock:
            try:
                if self.rolls_out:
                    self.remember(self.nodes.observe(), anew=False)
                done += self.nodes.counts.write()
                while True:
                    seen = self.nodes.observe()
                    made = self.difference(seen)
                    lock.is_kept = not self.watch.settled(made, seen)
                    phases = made.phases(rollout=self.request.with_rollout)
                    if lock.is_kept:
                        return False
                    if not phases:
                        return True
                    if not (outcome.checked or self.nodes.is_undo):
                        from . import trial  # most calls start nothing

                        outcome.warned = trial.preflight(self.nodes, starting(phases))
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
        return (request.with_rollout or request.undoable) and not self.nodes.is_undo and self.outcome.restart_since is None

    def remember(self, seen: Sequence[plan.Seen], *, anew: bool) -> None:
        """Note what runs before the rollout of this run; without ``anew`` only take over what a run noted that was cut short."""
        if anew or snapshot.load(self.request.root) is not None:
            seconds = self.request.rollout.monitor_seconds
            unproved = {node.name for node in seen if not self.nodes.is_proved(node.present, seconds)}
            snapshot.remember(self.request.root, seen, self.nodes.to, self.request.run, self.request.only, unproved)

    def can_undo(self) -> bool:
        """Whether a rollout that failed just now is to be undone, and can be."""
        wanted = self.request.rollout.failure_action == "rollback" and not self.request.undo
        return wanted and self.outcome.restart_since is None and self.nodes.own_snapshot() is not None

    def carry_out(self, phase: plan.Phase, seen: Sequence[plan.Seen], outcome: Outcome, done: list[Step]) -> bool:
        """Do the steps of one phase, many nodes at a time; return False where the deadline came first."""
        here = {node.name for node in seen}
        for action, items in groupby(phase.steps, key=lambda item: item.action):
            part = list(items)
            names = [plan.name_of(self.request.app, item) for item in part if item.group is not None]
            if action == "remove" and not self.watch.gone(names):
                return False
            # The file of a unit that stops is not changed, and what stops cannot be started.
            if action in ("write", "start") and not self.watch.gone(self.watch.stopping([name for name in names if name in here])):
                return False
            if action == "start":
                part = part[: self.start(names, outcome)]
            else:
                getattr(self, f"do_{action}")(names)
            done += part
            if len(part) < len(names):
                return False
        return self.watch.gone(phase.waits_for)

    def do_write(self, names: list[Name]) -> None:
        """Write environment files first: a unit never names one that is not there."""
        self.make_directories(names)
        for name in names:
            intent = next(entry for entry in self.nodes.intents if entry.group == name.group)
            effects.write(self.nodes.env_path(name), intent.env(name), mode=0o600, owner=self.request.user, group=self.request.group)
            self.manager.write(name, intent.text(name))

    def make_directories(self, names: list[Name]) -> None:
        """Have the directories in which nodes keep their state; nobody but the app's user reads them."""
        groups = {name.group for name in names} & set(self.nodes.groups)
        for path in sorted({path for group in groups for path in self.nodes.groups[group].directories}):
            effects.directory(path, mode=0o750, owner=self.request.user, group=self.request.group)

    def do_remove(self, names: list[Name]) -> None:
        """Remove every trace of nodes that are gone; what names them goes last, so that a killed run is finished."""
        for name in names:
            effects.remove(self.nodes.env_path(name))
            effects.remove(self.manager.mark_path(name))  # a later node of this name must take tasks
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
            group = self.nodes.groups.get(node.name.group)
            if node.is_up and group is not None and group.name in self.nodes.started and engines.named(group.engine).speaks:
                can_be = group.notifies and group.gives_back and self.nodes.is_ready(node)
                found[node.name] = leave.Note(
                    self.nodes.broker_name(node.name), time.time(), group.drain_seconds,
                    kills=self.request.rollout.drain_timeout_action == "kill",
                    by_mark=can_be and node.record is not None and node.record.mark is not None)
        return found

    def account(self, name: Name) -> None:
        """Keep the ledger's line of a node that has gone, and forget that it was told to."""
        line = read_json(self.manager.note_path(name)).get("line")
        if line:
            self.accounted[name] = line
        effects.remove(self.manager.note_path(name))

    def ledger(self) -> list[dict[str, Any]]:
        """Return a line for each node that was told to go and of which something is left, or was until this call."""
        told = {} if self.check else {**leave.lines(self.manager), **self.accounted}
        return [line for name, line in sorted(told.items()) if self.request.only is None or name.group in self.request.only]

    def dying(self, names: list[Name]) -> list[str]:
        """Say which tasks a kill of these nodes cuts short, as far as their engine tells."""
        said = []
        for group, members in groupby(sorted(names), key=lambda name: name.group):
            declared = self.nodes.groups.get(group)
            if declared is None or not self.request.broker_url:
                continue
            nodes = [self.nodes.broker_name(name) for name in members]
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
            if begun and self.watch.is_late:
                break
            self.manager.start(batch)
            begun += len(batch)
        outcome.waiting.update(dict.fromkeys(map(str, names[:begun]), 0))
        return begun


def is_draining(made: plan.Plan, request: Request) -> bool:
    """Whether nodes are on their way down that nothing is left to be done about but to wait."""
    return any(phase.waits_for for phase in made.phases(rollout=request.with_rollout))


def unready(made: plan.Plan, seen: Sequence[plan.Seen], nodes: HostNodes) -> bool:
    """Whether a node that should run is up without being ready yet."""
    present = {node.name: node.present for node in seen if node.name.group in nodes.started}
    return any(not nodes.is_ready(present[name]) for name in made.wanted if name in present)


def starting(phases: Sequence[plan.Phase]) -> set[str]:
    """Return the groups of which nodes are to be started."""
    return {item.group for phase in phases for item in phase.steps if item.action == "start" and item.group}


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
