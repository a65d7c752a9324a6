"""A host of plain values: carries the steps of a plan out as a process manager would, without a process."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from plugins.module_utils.workfleet.managers.base import GENERATION_LINE, Present
from plugins.module_utils.workfleet.managers.records import Record
from plugins.module_utils.workfleet.model import Name
from plugins.module_utils.workfleet.nodes import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from plugins.module_utils.workfleet.host.steps import Step

APP = "shop"
OLD = 1000.0


def text_of(generation: str, version: str = "v1") -> str:
    """Return a unit text; ``version`` stands for what is rewritten without a restart, such as ``drain_seconds``."""
    return f"[Unit]\n{GENERATION_LINE}{generation}\n# {version}\n"


def intent(
    group: str, nodes: int = 1, generation: str = "g1", *, state: str = "started", version: str = "v1",
    order: str = "stop-first", waits: bool = True, comes_last: bool = False,
) -> plan.Intent:
    """Return a declared group."""
    return plan.Intent(group, state, nodes, generation, text=lambda _: text_of(generation, version),
                       env=lambda _: f"env {generation}", order=order, waits=waits, comes_last=comes_last)


def seen(where: str, activity: str = "running", generation: str | None = "g1", **changes: object) -> plan.Seen:
    """Return a node, ``a.1.2`` for group, slot and incarnation, tersely.

    Without further words it has both files, is enabled, and runs what its file says. ``file`` is the generation of
    its unit file (None: there is no file), ``env`` the text of its environment file, ``tells`` whether its record can
    be read, ``quiesced`` whether it was told to take no new tasks.
    """
    group, slot, incarnation = where.split(".")
    name = Name(APP, group, int(slot), int(incarnation))
    file = changes.pop("file", generation)
    env = changes.pop("env", f"env {file}")
    up = activity in ("running", "starting", "stopping")
    tells = changes.pop("tells", True)
    told = generation if up and tells else None
    marked = bool(changes.pop("quiesced", False))
    values = {"enabled": True, "text": None if file is None else text_of(str(file)), **changes}
    present = Present(
        name, activity=activity, generation=told, pid=100 if up else None,
        record=Record(told, quiesced=1.0 if marked else None) if told else None, uptime_seconds=OLD if up else None, **values,  # type: ignore[arg-type]
    )
    return plan.Seen(present, None if env is None else str(env), marked)


def short(steps: Iterable[Step]) -> list[str]:
    """Return steps as ``stop a.1.2``."""
    return [f"{item.action} {item.group}.{item.slot}.{item.incarnation}" if item.group else item.action
            for item in steps]


def at_work(nodes: Mapping[Name, plan.Seen]) -> set[tuple[str, int]]:
    """Return the slots that have a node which takes tasks."""
    return {(name.group, name.slot) for name, node in nodes.items() if node.present.activity == "running"}


@dataclass
class FakeHost:
    """Nodes by name, and what was done to them. Refuses what a real host would make us regret."""

    nodes: dict[Name, plan.Seen] = field(default_factory=dict)
    done: list[Step] = field(default_factory=list)
    #: After each step: slots that were running when the host was made, and now have no node at work.
    down: list[set[tuple[str, int]]] = field(default_factory=list)
    ran: set[tuple[str, int]] = field(default_factory=set)

    @classmethod
    def of(cls, nodes: Iterable[plan.Seen]) -> FakeHost:
        """Return a host with these nodes."""
        by_name = {node.name: node for node in nodes}
        return cls(by_name, ran=at_work(by_name))

    def copy(self) -> FakeHost:
        """Return an independent host in the same state."""
        return FakeHost(dict(self.nodes), list(self.done), list(self.down), set(self.ran))

    def settle(self, names: Iterable[Name] | None = None) -> None:
        """Let stopping nodes (all, or these) come to their end."""
        for name in list(self.nodes) if names is None else names:
            node = self.nodes.get(name)
            if node is None or node.present.activity != "stopping":
                continue
            if node.present.text is None:
                del self.nodes[name]
            else:
                self._change(name, activity="stopped", pid=None, generation=None, record=None, uptime_seconds=None)

    def state(self) -> set[tuple[object, ...]]:
        """Return what counts in the end, whatever the road there was."""
        return {(name, node.present.text, node.env, node.present.enabled, node.present.activity,
                 node.present.generation) for name, node in self.nodes.items()}

    def apply(self, steps: Iterable[Step], intents: Sequence[plan.Intent]) -> None:
        """Carry steps out, waiting where the reconciler waits."""
        for item in steps:
            if item.group is None:
                self.reload()
            else:
                name = plan.name_of(APP, item)
                getattr(self, item.action)(name, next((one for one in intents if one.group == item.group), None))
            self.done.append(item)
            self.down.append(self.ran - at_work(self.nodes))

    # The actions of steps

    def reload(self) -> None:
        for name, node in self.nodes.items():
            if node.present.needs_reload:
                self._change(name, needs_reload=False)

    def write(self, name: Name, declared: plan.Intent) -> None:
        self.settle([name])
        node = self.nodes.get(name)
        text, env = declared.text(name), declared.env(name)
        if node is None:
            self.nodes[name] = plan.Seen(Present(name, text, False, "stopped"), env)
            return
        changed = node.present.text != text and node.present.is_up
        self._change(name, text=text, needs_reload=changed or node.present.needs_reload)
        self.nodes[name] = plan.Seen(self.nodes[name].present, env)

    def remove(self, name: Name, _declared: object) -> None:
        self.settle([name])
        node = self.nodes.get(name)
        assert node is None or not node.present.is_up, f"{name} was removed while a process of it is up"
        self.nodes.pop(name, None)

    def enable(self, name: Name, _declared: object) -> None:
        assert self.nodes[name].present.text is not None, f"{name} was enabled without a file"
        self._change(name, enabled=True)

    def disable(self, name: Name, _declared: object) -> None:
        self._change(name, enabled=False)

    def start(self, name: Name, _declared: object) -> None:
        self.settle([name])
        node = self.nodes[name]
        assert not node.present.is_up, f"{name} was started though it is up"
        assert node.present.text is not None and node.env is not None, f"{name} was started without its files"
        generation = str(node.present.file_generation)
        self._change(name, activity="running", generation=generation, record=Record(generation), pid=200,
                     uptime_seconds=1.0, result=None)

    def stop(self, name: Name, _declared: object) -> None:
        node = self.nodes[name]
        if node.present.activity == "failed":
            self._change(name, activity="stopped", result=None)
        elif node.present.is_up:
            self._change(name, activity="stopping")

    def _change(self, name: Name, **values: object) -> None:
        node = self.nodes[name]
        self.nodes[name] = plan.Seen(replace(node.present, **values), node.env, node.marked)  # type: ignore[arg-type]


def converge(
    host: FakeHost, intents: Sequence[plan.Intent], make: Callable[[FakeHost], plan.Plan], most: int = 90,
    meanwhile: Callable[[], bool] = lambda: False,
) -> None:
    """Work as the reconciler does: plan, carry the first phase out, plan again; until nothing is left.

    Where ``meanwhile`` says so, all that drains comes to its end between two phases.
    """
    for _ in range(most):
        phases = make(host).phases(rollout=True)
        if not phases:
            return
        host.apply(phases[0].steps, intents)
        host.settle(phases[0].waits_for)
        if meanwhile():
            host.settle()
    raise AssertionError(f"no end in sight: {short(host.done)}")
