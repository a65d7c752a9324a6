"""The counts of nodes that were set on this host, by hand or by the autoscaler, in place of the inventory's ``nodes``.

A count holds while the inventory declares what it declared when the count was set: whoever changes ``nodes`` there is obeyed.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import WorkfleetError
from ..host import effects
from ..host.steps import Step, text_diff

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ..managers.base import Present
    from .request import GroupRequest

    Entry = dict[str, Any]


class Counts:
    """What ``state/scale.json`` holds, ``{group: {"nodes", "declared", "by"}}``, and what it is to hold.

    ``wishes`` are new counts: ``{group: {"nodes", "by", "follows"}}``, where ``nodes`` is None for the inventory's again, and
    ``follows`` says that the count follows the backlog and is nobody's order.
    """

    def __init__(
        self, root: str, groups: Sequence[GroupRequest], wishes: Mapping[str, Mapping[str, Any]], only: Collection[str] | None = None
    ) -> None:
        self.path = path(root)
        self.groups = {group.name: group for group in groups}
        self.text = effects.read(self.path)
        self.present = parse(self.path, self.text)
        self.wishes = wishes
        self.wanted = {name: entry for name, entry in self.present.items() if self.holds(name, entry, only)}
        for name, wish in wishes.items():
            self.wish(name, wish)

    def holds(self, name: str, entry: Entry, only: Collection[str] | None) -> bool:
        """Whether a count still stands; one of a group that this run is not about is left alone."""
        if only is not None and name not in only:
            return True
        return name in self.groups and entry.get("declared") == self.groups[name].nodes

    def wish(self, name: str, wish: Mapping[str, Any]) -> None:
        """Take a new count for a group of this host; the same count again changes nothing."""
        group = self.groups.get(name)
        if group is None or wish["nodes"] is None:
            self.wanted.pop(name, None)
        elif self.wanted.get(name, {}).get("nodes") != wish["nodes"]:
            self.wanted[name] = {"nodes": int(wish["nodes"]), "declared": group.nodes, "by": str(wish["by"])}

    def ignore_stopped(self, present: Sequence[Present]) -> list[str]:
        """Drop and return wishes for groups whose nodes somebody has stopped: the backlog that grows then starts none of them."""
        found = []
        for name, wish in self.wishes.items():
            here = [node for node in present if node.name.group == name and node.text is not None]
            stopped = here and all(node.activity == "stopped" and not node.enabled for node in here)
            before = self.present.get(name)
            # With a count of 0 they are the remains of nodes that were too many.
            if wish.get("follows") and stopped and (before is None or before["nodes"]):
                found.append(name)
                self.wanted.pop(name, None)
                if before is not None:
                    self.wanted[name] = before
        return found

    def applied(self) -> list[GroupRequest]:
        """Return the groups with the counts that hold."""
        return [replace(group, nodes=self.count(group)) for group in self.groups.values()]

    def count(self, group: GroupRequest) -> int:
        """Return how many nodes a group is to have."""
        entry = self.wanted.get(group.name, {})
        return int(entry["nodes"]) if entry.get("declared") == group.nodes else group.nodes

    def told(self) -> dict[str, Entry]:
        """Return the counts that hold in place of others, for people and programs."""
        return {name: self.wanted[name] for name, group in self.groups.items() if self.count(group) != group.nodes}

    def steps(self) -> list[Step]:
        """Return the step that writes the file, where its content changes."""
        changed = sorted(name for name in {*self.present, *self.wanted} if self.present.get(name) != self.wanted.get(name))
        if not changed:
            return []
        return [Step("write", f"file {self.path}", "; ".join(f"{name}: {self.said(name)}" for name in changed))]

    def said(self, name: str) -> str:
        """Return what is said of a group's new count."""
        entry = self.wanted.get(name)
        return f"{entry['nodes']} nodes, set by {entry['by']}" if entry else "as in the inventory"

    def diff(self) -> list[dict[str, str]]:
        """Return the change of the file."""
        return [text_diff(self.path, self.text, self.render())] if self.steps() else []

    def write(self) -> list[Step]:
        """Make the counts hold for the runs to come; return the step that was taken."""
        steps = self.steps()
        if steps:
            effects.write(self.path, self.render(), mode=0o644)
            self.present, self.text = dict(self.wanted), self.render()
        return steps

    def render(self) -> str:
        """Return the file's text."""
        return json.dumps(self.wanted, indent=1, sort_keys=True) + "\n"


def path(root: str) -> str:
    """Return where a host keeps them."""
    return os.path.join(root, "state", "scale.json")


def parse(path: str, text: str | None) -> dict[str, Entry]:
    """Return the entries of the file. Without them busy nodes might be stopped for nothing: what cannot be read is an error."""
    try:
        found = json.loads(text or "{}")
        return {str(name): {"nodes": int(entry["nodes"]), "declared": int(entry["declared"]), "by": str(entry["by"])}
                for name, entry in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WorkfleetError(f"{path} cannot be read: it holds the counts that scale.yml or the autoscaler has set. Remove it, and the "
                             "inventory's counts hold") from error
