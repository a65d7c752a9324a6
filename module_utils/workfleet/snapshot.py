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

from . import host
from .errors import WorkfleetError
from .plan import Intent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .managers.base import Name
    from .plan import Seen


@dataclass(frozen=True)
class Files:
    """A node's two files; ``env`` holds secrets."""

    slot: int
    incarnation: int
    generation: str
    text: str
    env: str


@dataclass(frozen=True)
class Snapshot:
    """The nodes of an app that ran on a host, by group. ``to`` is what the rollout leads to: group → generation."""

    to: Mapping[str, str]
    groups: Mapping[str, list[Files]]

    def is_reached(self, groups: Mapping[str, list[Files]]) -> bool:
        """Whether these nodes, which run now, are what the rollout led to; what is remembered is then long past."""
        return {(group, node.generation) for group, nodes in groups.items() for node in nodes} <= set(self.to.items())

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

    again = Intent(group, "started", len(nodes), generation,
                   text=lambda name: renamed(name, "text"), env=lambda name: renamed(name, "env"))
    return replace(again, order=declared.order, waits=declared.waits) if declared else again


def running(seen: Iterable[Seen]) -> dict[str, list[Files]]:
    """Return the nodes that run, and were not told to go, by group."""
    found: dict[str, list[Files]] = {}
    for node in seen:
        text, generation = node.present.text, node.present.generation or node.present.file_generation
        if node.present.is_up and not node.is_leaving and text is not None and node.env is not None and generation:
            files = Files(node.name.slot, node.name.incarnation, generation, text, node.env)
            found.setdefault(node.name.group, []).append(files)
    return found


def path(root: str) -> str:
    """Return where the snapshot of an app stands."""
    return os.path.join(root, "state", "rollout.json")


def load(root: str) -> Snapshot | None:
    """Return what is remembered, if anything is."""
    text = host.read(path(root))
    if text is None:
        return None
    try:
        data = json.loads(text)
        return Snapshot(data["to"], {group: [Files(**node) for node in nodes] for group, nodes in data["groups"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkfleetError(f"{path(root)}, which tells what ran before the last rollout, cannot be read: {error}. "
                             "Remove it; that rollout cannot be undone then") from error


def save(root: str, snapshot: Snapshot) -> None:
    """Remember; nobody but the owner of the app's state reads it."""
    groups = {group: [asdict(node) for node in nodes] for group, nodes in snapshot.groups.items()}
    host.write(path(root), json.dumps({"to": dict(snapshot.to), "groups": groups}), mode=0o600)


def drop(root: str) -> None:
    """Forget."""
    host.remove(path(root))


def remember(root: str, seen: Iterable[Seen], to: Mapping[str, str]) -> None:
    """Note what runs before a rollout to ``to``; in the middle of one, or of one that was cut short, what ran before that."""
    now, before = running(seen), load(root)
    groups = now if before is None or before.is_reached(now) else before.groups
    noted = Snapshot(dict(to), groups)
    if noted != before:
        save(root, noted)
