"""The plan: the difference between the nodes that should be and those that are. Pure; touches nothing.

It is made anew before each stretch of work from what is present then, so that a run which was killed, or which works
in many short calls, goes on where the host is. Hence the one rule of this file: planning again in the middle of a plan
gives its rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

from ..host.steps import Step
from ..managers.base import Present
from ..model import Name

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

# Reasons that are the same whether a plan is made before a run or in the middle of it.
AT_BOOT = "it should start at boot"
DOWN = "it is not running"
REPLACED = "it is replaced"


@dataclass(frozen=True)
class Intent:
    """One worker group as it should be on this host. ``text`` and ``env`` give a node's two files.

    ``order`` is that of a replacement: with ``start-first`` the new node is ready before the old one is told to go.
    ``waits`` tells whether a run waits until nodes that were replaced, or are too many, have drained; where it does not,
    they drain in the background, and what is left of them is removed by a later run. A group that is not to run is always
    waited for. ``comes_last`` is said of what sends the tasks or looks at those who run them: it is no canary, and is replaced
    when they are.
    """

    group: str
    state: str
    nodes: int
    generation: str
    text: Callable[[Name], str]
    env: Callable[[Name], str]
    order: str = "stop-first"
    waits: bool = True
    comes_last: bool = False


@dataclass(frozen=True)
class Seen:
    """A present node with the text of its environment file (None where there is none).

    ``marked``: it was told by a drain, which it heeds, at the latest when a task that keeps it from looking has ended. What it
    says of that itself does not count: it could keep its group from being replaced.
    """

    present: Present
    env: str | None
    marked: bool = False

    @property
    def name(self) -> Name:
        """Its identity."""
        return self.present.name

    @property
    def is_remains(self) -> bool:
        """Whether there is neither a unit nor a process of it: what a run left that was killed between two files."""
        return self.present.text is None and not self.present.is_up

    @property
    def is_at_work(self) -> bool:
        """Whether it runs, and is not on its way down."""
        return self.present.activity in ("running", "starting")

    @property
    def is_leaving(self) -> bool:
        """Whether it was told to go: it stops, and will not come back at boot."""
        return self.present.activity == "stopping" and not self.present.enabled

    @property
    def is_quiesced(self) -> bool:
        """Whether it was told to take no new tasks and to stay."""
        return self.present.activity != "stopping" and self.marked and self.present.is_up

    @property
    def is_drained(self) -> bool:
        """Whether it was told to go and has gone; its files are still here."""
        return self.present.activity == "stopped" and not self.present.enabled


@dataclass(frozen=True)
class Phase:
    """Steps that are carried out in order; the next phase begins when the nodes of this one have settled."""

    steps: tuple[Step, ...]
    waits_for: tuple[Name, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is to be done. ``converge`` interrupts no running task but of nodes that are no longer wanted;
    ``rollout`` replaces running nodes of another generation, batch by batch. ``notes`` are sentences for people.
    ``overlapping`` are nodes that run beside the one they replace, which goes once they are proved. ``stale`` counts the
    running nodes of another generation."""

    converge: tuple[Phase, ...] = ()
    rollout: tuple[Phase, ...] = ()
    notes: tuple[str, ...] = ()
    wanted: tuple[Name, ...] = ()
    overlapping: tuple[Name, ...] = ()
    stale: int = 0

    def phases(self, *, rollout: bool, converge: bool = True) -> tuple[Phase, ...]:
        """Return the phases to carry out, with or without either part."""
        return (self.converge if converge else ()) + (self.rollout if rollout else ())

    def steps(self, *, rollout: bool, converge: bool = True) -> list[Step]:
        """Return all steps in the order of execution."""
        return list(chain.from_iterable(phase.steps for phase in self.phases(rollout=rollout, converge=converge)))


@dataclass
class Slot:
    """What is to become of one slot: ``target`` is the node that should run there."""

    target: Name
    fresh: bool = False
    reason: str = ""
    others: list[Seen] = field(default_factory=list)
    seen: Seen | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether its target is at work."""
        return self.seen is not None and self.seen.is_at_work


@dataclass
class Draft:
    """Collects the parts of a plan, group by group."""

    app: str
    cleans: Container[Name] | None = None
    reload_reason: str | None = None
    writes: list[Step] = field(default_factory=list)
    removes: list[Step] = field(default_factory=list)
    enables: list[Step] = field(default_factory=list)
    disables: list[Step] = field(default_factory=list)
    starts: list[Step] = field(default_factory=list)
    stops: list[Step] = field(default_factory=list)
    gone: list[Step] = field(default_factory=list)
    gone_waits: list[Name] = field(default_factory=list)
    stale: list[tuple[Slot, str]] = field(default_factory=list)
    intents: dict[str, Intent] = field(default_factory=dict)
    #: Groups of which a node of the declared generation is at work: a canary of theirs is there.
    proved: set[str] = field(default_factory=set)
    #: Groups whose running nodes are left to a later call.
    skipped: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    wanted: list[Name] = field(default_factory=list)
    overlapping: list[Name] = field(default_factory=list)


def step(action: str, name: Name, reason: str) -> Step:
    """Return a step about a node."""
    return Step(action, str(name), reason, name.group, name.slot, name.incarnation)


def name_of(app: str, item: Step) -> Name:
    """Return the node that a step is about."""
    if item.group is None or item.slot is None or item.incarnation is None:
        raise ValueError(f"the step {item} is about no node")
    return Name(app, item.group, item.slot, item.incarnation)


def make(
    app: str,
    intents: Sequence[Intent],
    seen: Iterable[Seen],
    *,
    only: Sequence[str] | None = None,
    running: Mapping[Name, int] | None = None,
    batch: Callable[[int], int] = lambda nodes: 1,
    restart_older_than: float | None = None,
    canary: str = "",
    cleans: Container[Name] | None = None,
    leaves_last: bool = False,
) -> Plan:
    """Return the plan for one app on one host.

    ``only`` narrows everything, pruning too, to these groups. ``running`` tells how many tasks a node runs, so that a
    scale-down takes idle slots first. ``batch`` gives how many of n nodes a rollout may replace at once. With
    ``restart_older_than`` a node that has been up for so many seconds is replaced though it is current: a restart by
    wish, which ends by itself since what was started after the wish is younger. ``canary`` is ``only`` (replace one node of
    each group of which none is of the declared generation, no more) or ``done`` (all but those). ``cleans`` are the
    drained nodes whose files may go, all of them where it is None: a run that lets nodes drain in the background leaves
    what is left of them to the next one, so that a check can foretell what it does. ``leaves_last`` leaves the running nodes of
    groups that come last, so that other hosts go first.
    """
    draft = Draft(app, cleans)
    by_group: dict[str, list[Seen]] = {}
    remains: list[Seen] = []
    for node in seen:
        if only is None or node.name.group in only:
            (remains if node.is_remains else by_group.setdefault(node.name.group, [])).append(node)
            if node.present.needs_reload:
                draft.reload_reason = f"{node.name} was changed since it was loaded"
    chosen = [replace(intent, waits=intent.waits or intent.state != "started")
              for intent in intents if only is None or intent.group in only]
    declared = {intent.group for intent in chosen}
    for group in sorted(set(by_group) - declared):
        leave(draft, by_group[group], "its group is no longer declared")
    for intent in chosen:
        group_plan(draft, intent, by_group.get(intent.group, []), running or {}, restart_older_than)
    retire(draft, [node for node in remains if node.name not in draft.wanted], "nothing but remains of it is here")
    return assemble(draft, batch, canary, leaves_last=leaves_last)


def stopped(app: str, made: Plan, intents: Sequence[Intent], seen: Sequence[Seen]) -> list[Seen]:
    """Return what is seen once ``made``, a plan for ``intents`` none of which is to run, has been carried out."""
    changed = [(item.action, name_of(app, item)) for item in made.steps(rollout=True) if item.group is not None]
    removed = {name for action, name in changed if action == "remove"}
    found = {node.name: node for node in seen if node.name not in removed}
    for intent in intents:
        found.update((name, Seen(Present(name, intent.text(name), False, "stopped"), intent.env(name)))
                     for action, name in changed if action == "write" and name.group == intent.group)
    return [Seen(Present(name, node.present.text, False, "stopped"), node.env) for name, node in sorted(found.items())]


def group_plan(draft: Draft, intent: Intent, seen: list[Seen], running: Mapping[Name, int], age: float | None) -> None:
    """Plan one declared group."""
    if intent.state == "absent":
        leave(draft, seen, "its group is declared absent")
        return
    kept, dropped, free = slots(intent, seen, running)
    leave(draft, dropped, f"{intent.nodes} nodes are wanted", waits=intent.waits)
    draft.intents[intent.group] = intent
    quiesced = 0
    for number, nodes in kept.items():
        slot = settle(draft, intent, number, nodes, age)
        keep(draft, intent, slot)
        # Beside a target that is at work the others go.
        quiesced += sum(node.is_quiesced and (node is slot.seen or not slot.is_at_work) for node in nodes)
    if quiesced and intent.state == "started":
        # More of them, and successors, would take the tasks that the group was told not to take.
        more = "" if not free else f", and {len(free)} more {'is' if len(free) == 1 else 'are'} not started"
        draft.notes.append(f"{intent.group}: {'1 node was' if quiesced == 1 else f'{quiesced} nodes were'} told to take no new tasks and "
                           f"{'is' if quiesced == 1 else 'are'} left so{more}; resume.yml ends that")
        return
    for number, incarnation in free:
        keep(draft, intent, Slot(Name(draft.app, intent.group, number, incarnation), fresh=True, reason="new node"))


def slots(
    intent: Intent, seen: list[Seen], running: Mapping[Name, int]
) -> tuple[dict[int, list[Seen]], list[Seen], list[tuple[int, int]]]:
    """Choose slots: (kept slot → its nodes, nodes of slots that go, new slots with their incarnation).

    Slots where nothing is at work go first (an earlier run may have stopped them for this very reason), then idle ones, of
    equals the highest; the lowest free ones are filled.
    """
    by_slot: dict[int, list[Seen]] = {}
    for node in seen:
        by_slot.setdefault(node.name.slot, []).append(node)
    live = {slot: nodes for slot, nodes in by_slot.items()
            if intent.state == "stopped" or not all(node.is_leaving for node in nodes)}
    tasks = {slot: sum(running.get(node.name, 0) for node in nodes) for slot, nodes in live.items()}
    # What is on its way down counts as down: it may be in the middle of this plan.
    works = {slot: any(node.is_at_work for node in nodes) for slot, nodes in live.items()}
    excess = sorted(live, key=lambda slot: (works[slot], tasks[slot], -slot))[: max(0, len(live) - intent.nodes)]
    kept = {slot: live[slot] for slot in sorted(live) if slot not in excess}
    dropped = [node for slot, nodes in sorted(by_slot.items()) if slot not in kept for node in nodes]
    free: list[tuple[int, int]] = []
    slot = 0
    while len(kept) + len(free) < intent.nodes:
        slot += 1
        if slot not in kept:
            highest = max((node.name.incarnation for node in by_slot.get(slot, [])), default=0)
            free.append((slot, highest + 1))
    return kept, dropped, free


def settle(draft: Draft, intent: Intent, slot: int, nodes: list[Seen], age: float | None) -> Slot:
    """Find the node that should run in a slot: one of the declared generation, else a new incarnation."""
    ordered = sorted(nodes, key=lambda node: node.name.incarnation, reverse=True)
    newest_up = max((node.name.incarnation for node in ordered if node.present.is_up), default=0)
    for node in ordered:
        # One that is down below one that is up was replaced: whether it has drained yet makes no difference to what is to be done.
        leaving = (node.is_leaving or (not node.present.is_up and node.name.incarnation < newest_up)) and intent.state == "started"
        if is_current(node.present, intent.generation) and not leaving and not is_old(node.present, age):
            return Slot(node.name, seen=node, others=[other for other in ordered if other is not node])
    # What replaces a running node comes behind the removals, when all is planned anew: the number of one that is removed is free again.
    rolls = any(node.present.is_up for node in ordered)
    left = [node for node in ordered if node.present.is_up or not (rolls and goes(draft, node, intent.waits))]
    highest = left[0].name.incarnation
    why = "its generation is stale" if age is None else "a restart was asked for"
    return Slot(Name(draft.app, intent.group, slot, highest + 1), fresh=True, reason=why, others=ordered)


def is_current(present: Present, generation: str) -> bool:
    """Whether a node is of this generation: by the file that it was started by, which is ours, and by what runs, where it tells.

    The file of a node that is up is never made another generation's, so what runs is current by neither word alone. A
    process whose record cannot be read is judged by its file, and where that is gone too it is left alone: what cannot be
    read is reported, never called stale for that; see ``run``.
    """
    if not present.is_up:
        return present.file_generation == generation
    return {present.generation, present.file_generation} <= {None, generation}


def is_old(present: Present, age: float | None) -> bool:
    """Whether a node has been up since before a restart was asked for."""
    return age is not None and present.is_up and (present.uptime_seconds or 0) >= age


def keep(draft: Draft, intent: Intent, slot: Slot) -> None:
    """Plan one slot that should exist: its files, its process, and what of older incarnations is left."""
    target = slot.target
    draft.wanted.append(target)
    older_up = [node for node in slot.others if node.present.is_up]
    # With start-first a node that was told to go is no reason to hold its successor back.
    in_the_way = [node for node in older_up if intent.order == "stop-first" or not node.is_leaving]
    if intent.state == "started" and not slot.is_at_work and any(node.is_quiesced for node in in_the_way):
        return  # a successor would take the tasks that it was told not to take
    rolls = bool(in_the_way) and intent.state == "started"
    if rolls and slot.is_at_work:
        # Both run (a rollout is between start and stop, or was interrupted there): the old one goes.
        draft.overlapping.append(target)
        leave(draft, older_up, REPLACED, waits=intent.waits)
        older_up, rolls = [], False
    idle = [node for node in slot.others if not node.present.is_up]
    retire(draft, idle, REPLACED, waits=intent.waits)
    if rolls:
        draft.stale.append((slot, write_reason(intent, slot)))
        return
    if slot.is_at_work:
        draft.proved.add(target.group)
    why = write_reason(intent, slot)
    if why:
        draft.writes.append(step("write", target, why))
    if intent.state == "stopped":
        leave(draft, older_up, REPLACED)
        halt(draft, slot)
    else:
        run(draft, slot)
        leave(draft, older_up, REPLACED, waits=intent.waits)


def write_reason(intent: Intent, slot: Slot) -> str:
    """Say why a node's files are to be written, or return nothing where they are right."""
    if slot.fresh or slot.seen is None:
        return slot.reason
    present = slot.seen.present
    if present.text is None:
        return "its unit file is missing"
    if slot.seen.env is None:
        return "its environment file is missing"
    if present.text != intent.text(slot.target):
        return "its unit file differs"
    if slot.seen.env != intent.env(slot.target):
        return "its environment file differs"
    return ""


def run(draft: Draft, slot: Slot) -> None:
    """Plan that the target runs and is enabled."""
    present = None if slot.seen is None else slot.seen.present
    if present is None or not present.enabled:
        draft.enables.append(step("enable", slot.target, AT_BOOT))
    if present is None:
        draft.starts.append(step("start", slot.target, DOWN))
    elif present.activity == "failed":
        draft.starts.append(step("start", slot.target, f"it failed ({present.result or 'not running'})"))
    elif present.activity in ("stopped", "stopping"):
        draft.starts.append(step("start", slot.target, DOWN))
    elif present.generation is None:
        draft.notes.append(f"{slot.target}: what it was started with cannot be read; it is left as it is")


def halt(draft: Draft, slot: Slot) -> None:
    """Plan that the target is stopped and disabled."""
    if slot.seen is None:
        return
    if slot.seen.present.enabled:
        draft.disables.append(step("disable", slot.target, "the group is declared stopped"))
    if slot.seen.present.activity in ("running", "starting", "failed"):
        draft.stops.append(step("stop", slot.target, "the group is declared stopped"))
    if slot.seen.present.is_up:
        draft.gone_waits.append(slot.target)


def retire(draft: Draft, nodes: Iterable[Seen], reason: str, *, waits: bool = True) -> None:
    """Plan the removal of nodes of which no process is left."""
    for node in sorted(nodes, key=lambda item: item.name):
        if not goes(draft, node, waits):
            continue
        if node.present.activity == "failed":
            # Down, but its manager may be about to start it again.
            draft.removes.append(step("stop", node.name, reason))
        draft.removes.append(step("remove", node.name, reason))


def goes(draft: Draft, node: Seen, waits: bool) -> bool:
    """Whether what is left of a node without a process is removed by this run."""
    return waits or not node.is_drained or draft.cleans is None or node.name in draft.cleans


def leave(draft: Draft, nodes: Iterable[Seen], reason: str, *, waits: bool = True) -> None:
    """Plan that nodes finish their tasks and go, with every trace where the run waits for that."""
    for node in sorted(nodes, key=lambda item: item.name):
        if not node.present.is_up:
            retire(draft, [node], reason, waits=waits)
            continue
        if node.present.enabled:
            draft.disables.append(step("disable", node.name, reason))
        if node.present.activity != "stopping":
            draft.stops.append(step("stop", node.name, reason))
        if waits:
            draft.gone.append(step("remove", node.name, reason))


def assemble(draft: Draft, batch: Callable[[int], int], canary: str, *, leaves_last: bool) -> Plan:
    """Put the parts in order: what is new first, then what goes, then the rollout batch by batch."""
    phases = []
    first = [*draft.removes, *draft.writes]
    reload_reason = draft.reload_reason or ("files were written" if draft.writes else None)
    if reload_reason:
        first.append(Step("reload", None, reload_reason))
    first += [*draft.enables, *draft.starts]
    if first:
        phases.append(Phase(tuple(first)))
    going = [*draft.disables, *draft.stops, *draft.gone]
    if going or draft.gone_waits:
        phases.append(Phase(tuple(going), tuple(draft.gone_waits)))
    if leaves_last or canary == "only":
        draft.skipped = {group for group, intent in draft.intents.items() if intent.comes_last}
    return Plan(tuple(phases), tuple(rollout(draft, batch, canary)), tuple(draft.notes), tuple(draft.wanted),
                tuple(draft.overlapping), len(draft.stale))


def rollout(draft: Draft, batch: Callable[[int], int], canary: str) -> Iterator[Phase]:
    """Yield the phases of the rollout, group by group; a slot that is under way comes first.

    The width follows from the group's size, not from what is left to do: planned again in the middle it is the same.
    """
    by_group: dict[str, list[tuple[Slot, str]]] = {}
    for item in sorted(draft.stale, key=is_begun, reverse=True):
        by_group.setdefault(item[0].target.group, []).append(item)
    for group, items in by_group.items():
        intent = draft.intents[group]
        if group in draft.skipped:
            continue
        width = batch(intent.nodes)
        first = 1 if canary and not intent.comes_last and group not in draft.proved else 0
        for start in range(first, 0 if canary == "only" else len(items), width):
            yield from replacement(items[start:start + width], intent)
        if canary == "only":
            yield from replacement(items[:first], intent)


def is_begun(item: tuple[Slot, str]) -> bool:
    """Whether the replacement of a slot is under way."""
    slot, _ = item
    # What an earlier rollout has replaced may still leave beside the node that is replaced now.
    return slot.seen is not None or (any(node.is_leaving for node in slot.others) and not any(node.is_at_work for node in slot.others))


def replacement(part: list[tuple[Slot, str]], intent: Intent) -> Iterator[Phase]:
    """Yield the phases that replace the nodes of one batch, in the order that is asked for."""
    if not part:
        return
    olds = [node for slot, _ in part for node in slot.others if node.present.is_up]
    writes = [step("write", slot.target, why) for slot, why in part if why]
    reloads = [Step("reload", None, "files were written")] if writes else []
    enables = [step("enable", slot.target, AT_BOOT) for slot, _ in part if slot.seen is None or not slot.seen.present.enabled]
    starts = [*enables, *(step("start", slot.target, DOWN) for slot, _ in part)]
    disables = [step("disable", node.name, REPLACED) for node in olds if node.present.enabled]
    stops = [step("stop", node.name, REPLACED) for node in olds if node.present.activity != "stopping"]
    removes = [step("remove", node.name, REPLACED) for node in olds]
    if intent.order == "stop-first":
        yield Phase((*writes, *disables, *reloads, *stops, *removes, *starts))
    else:
        yield Phase((*writes, *reloads, *starts))
        yield Phase((*disables, *stops, *(removes if intent.waits else ())))
