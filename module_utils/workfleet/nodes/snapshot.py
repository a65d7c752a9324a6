"""What ran before a rollout, kept on the host until the rollout is over on all hosts, so that it can be undone.

A node's unit and environment file say all of what it was; an undo writes them again under a new incarnation's name. So
it needs neither the inventory nor the release link of before.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from ..host import effects
from .plan import Intent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ..model import Name
    from .plan import Seen


@dataclass(frozen=True)
class Files:
    """A node's two files; ``env`` holds secrets. ``proved`` is whether it had been ready for as long as a rollout watches it."""

    slot: int
    incarnation: int
    generation: str
    text: str
    env: str
    proved: bool = True


@dataclass(frozen=True)
class Snapshot:
    """The nodes of an app that ran on a host, by group. ``to`` is what the rollout leads to: group → generation.

    ``run`` is the run of a playbook that may undo it: the one that began it, or took it over where that was cut short.
    """

    to: Mapping[str, str]
    groups: Mapping[str, list[Files]]
    run: str = ""

    def is_of(self, run: str, to: Mapping[str, str], only: Collection[str] | None) -> bool:
        """Whether it is what this run may undo: its own rollout, to this declaration of these groups."""
        return self.run == run and {group: one for group, one in self.to.items() if is_of(group, only)} == to

    def is_about(self, groups: Iterable[str]) -> bool:
        """Whether one of these groups has a part in the rollout."""
        return any(group in self.to or group in self.groups for group in groups)

    def was_proved(self, name: Name) -> bool:
        """Whether what ran in the slot of this node was ready; of what a rollout brought nothing is known."""
        return all(node.proved for node in self.groups.get(name.group, []) if node.slot == name.slot)

    def intents(self, app: str, declared: Iterable[Intent]) -> list[Intent]:
        """Return what should be on the host again; a group that did not run before is not to run."""
        by_name = {one.group: one for one in declared}
        others = [replace(one, state="absent") if one.state == "started" else one
                  for one in by_name.values() if one.group not in self.groups]
        return [restored(app, group, nodes, by_name.get(group)) for group, nodes in self.groups.items()] + others


def restored(app: str, group: str, nodes: list[Files], declared: Intent | None) -> Intent:
    """Return a group as it was; where an earlier rollout had been cut short, of the generation that most nodes had."""
    generation = Counter(node.generation for node in nodes).most_common(1)[0][0]
    of_it = {node.slot: node for node in nodes if node.generation == generation}
    any_node = next(iter(of_it.values()))

    def renamed(name: Name, kind: str) -> str:
        node = of_it.get(name.slot, any_node)
        # The name of the unit ends in it, the node's name on the broker begins with it.
        old = re.escape(f"{app}.{group}.{node.slot}.{node.incarnation}")
        return re.sub(rf"\b{old}(?!\d)", f"{app}.{group}.{name.slot}.{name.incarnation}", str(getattr(node, kind)))

    again = Intent(group, "started", len({node.slot for node in nodes}), generation,
                   text=lambda name: renamed(name, "text"), env=lambda name: renamed(name, "env"))
    return replace(again, order=declared.order, waits=declared.waits, comes_last=declared.comes_last) if declared else again


def running(seen: Iterable[Seen], unproved: Collection[Name]) -> dict[str, list[Files]]:
    """Return the nodes that run, and were not told to go, by group; one that crashed and is about to be started again is among them."""
    found: dict[str, list[Files]] = {}
    nodes = list(seen)
    up = {(node.name.group, node.name.slot) for node in nodes if node.present.is_up and not node.is_leaving}
    for node in nodes:
        text, generation = node.present.text, node.present.generation or node.present.file_generation
        crashed = node.present.activity == "failed" and (node.name.group, node.name.slot) not in up
        runs = crashed or (node.present.is_up and not node.is_leaving)
        if runs and text is not None and node.env is not None and generation:
            files = Files(node.name.slot, node.name.incarnation, generation, text, node.env, node.name not in unproved)
            found.setdefault(node.name.group, []).append(files)
    return found


def is_of(group: str, only: Collection[str] | None) -> bool:
    """Whether a run that is narrowed to ``only`` is about a group."""
    return only is None or group in only


def path(root: str) -> str:
    """Return where the snapshot of an app stands."""
    return os.path.join(root, "state", "rollout.json")


def load(root: str) -> Snapshot | None:
    """Return what is remembered, if anything is."""
    text = effects.read(path(root))
    if text is None:
        return None
    try:
        data = json.loads(text)
        groups = {group: [Files(**node) for node in nodes] for group, nodes in data["groups"].items()}
        return Snapshot(data["to"], groups, str(data.get("run", "")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkfleetError(f"{path(root)}, which tells what ran before the last rollout, cannot be read: {error}. "
                             "Remove it; that rollout cannot be undone then") from error


def save(root: str, snapshot: Snapshot) -> None:
    """Remember; nobody but the owner of the app's state reads it."""
    groups = {group: [asdict(node) for node in nodes] for group, nodes in snapshot.groups.items()}
    effects.write(path(root), json.dumps({"run": snapshot.run, "to": dict(snapshot.to), "groups": groups}), mode=0o600)


def forget(root: str, only: Collection[str] | None = None) -> None:
    """Forget the part of these groups in a rollout that is over."""
    before = load(root)
    if before is None:
        return
    left = Snapshot({group: one for group, one in before.to.items() if not is_of(group, only)},
                    {group: nodes for group, nodes in before.groups.items() if not is_of(group, only)}, before.run)
    if left.to or left.groups:
        save(root, left)
    else:
        effects.remove(path(root))


def remember(
    root: str, seen: Iterable[Seen], to: Mapping[str, str], run: str, only: Collection[str] | None = None, unproved: Collection[Name] = ()
) -> None:
    """Note what runs before a rollout to ``to``; in the middle of one, or of one that was cut short, what ran before that.

    Each group is judged by itself: what led to another generation and got there is past, and what runs now is what ran before.
    """
    nodes = [node for node in seen if is_of(node.name.group, only)]
    now, before = running(nodes, unproved), load(root)
    noted = before or Snapshot({}, {})
    groups = dict(noted.groups)
    for group in sorted({*now, *(name for name in groups if is_of(name, only))}):
        goes_on = noted.is_about([group]) and noted.to.get(group) == to.get(group)
        if not goes_on and (not noted.is_about([group]) or is_reached(noted.to.get(group), group, nodes)):
            groups.pop(group, None)
            if group in now:
                groups[group] = now[group]
    others = {group: one for group, one in noted.to.items() if not is_of(group, only)}
    wanted = Snapshot({**others, **to}, groups, run)
    if wanted != before:
        save(root, wanted)


def is_reached(generation: str | None, group: str, nodes: Iterable[Seen]) -> bool:
    """Whether a group has what a rollout led to: nodes of that generation and no others, or none where it was to go.

    Nodes that were told to take no new tasks had no part in it.
    """
    had_part = [node for node in nodes if node.name.group == group and not (node.is_leaving or node.is_quiesced)]
    living = [node.present for node in had_part if node.present.is_up]
    return {one.generation or one.file_generation for one in living} == ({generation} if generation else set())
