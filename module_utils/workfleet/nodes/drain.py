"""Nodes that take no new tasks and stay up: told so, watched until they are proved idle, told to take tasks again.

A node is told by its mark (``Manager.mark_path``), which its runner heeds, and which holds for whatever process runs
under that name until it is taken away. A Celery node without our plug-in is told over the broker too.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .. import engines
from ..errors import WorkfleetError
from ..host import effects
from ..host.steps import Step, report
from .lease import Lock
from .ledger import Watched, said

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..managers.base import Present
    from ..managers.records import Record
    from ..model import Name
    from .host_nodes import HostNodes
    from .request import GroupRequest

POLL_SECONDS = 0.1
ASK_SECONDS = 1.0
#: A busy node of a pool that cannot be asked while it works is silent; one that is idle has heeded its mark by then.
SILENT_SECONDS = 1.0
DRAIN, RESUME = "it is told to take no new tasks", "it is told to take tasks again"
SHOWN_NODES, SHOWN_TASKS = 8, 3


@dataclass
class Order:
    """What is asked for. ``patience`` is how many seconds each group may take until it is said that it takes longer, or until
    ``drain_timeout_action`` of the rollout kills; ``since`` and ``known`` go from call to call.
    """

    resume: bool = False
    wait: bool = True
    patience: Mapping[str, float] = field(default_factory=dict)
    since: float | None = None
    known: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Drain:
    """One call on one host."""

    def __init__(self, host_nodes: HostNodes, order: Order, *, check: bool) -> None:
        self.host_nodes, self.request, self.manager = host_nodes, host_nodes.request, host_nodes.manager
        self.order, self.check = order, check
        self.since = order.since or time.time()
        self.deadline = time.monotonic() + self.request.deadline_seconds
        self.notes: list[str] = []
        self.proofs: dict[Name, str] = {}
        self.watched: dict[Name, Watched] = {}

    def call(self) -> dict[str, Any]:
        """Tell the nodes, look at them until all is as asked or the deadline is near; return the module's result."""
        nodes = self.nodes()
        steps = self.resume(nodes) if self.order.resume else self.quiesce(nodes)
        if self.check:
            return self.result(steps, more=False)
        watch = self.consuming if self.order.resume else self.idle
        is_done = not self.order.wait or watch(nodes)
        return self.result(steps, more=not is_done and not self.is_over())

    def nodes(self) -> list[Present]:
        """Return the nodes that can be told. Raises, before any is, where one of them cannot."""
        found, refused = [], []
        for node in self.manager.present():
            group = self.host_nodes.groups.get(node.name.group)
            if group is None or (self.request.only is not None and group.name not in self.request.only):
                continue
            if not engines.named(group.engine).speaks:
                self.notes.append(f"{node.name.group} {node.name.slot}: engine {group.engine} takes no tasks; it is left alone")
            elif node.activity in ("running", "starting", "failed") or (self.order.resume and self.manager.would_be_quiet(node)):
                found.append(node)
                refused += self.refusals(group)
            elif node.activity == "stopping":
                self.notes.append(f"{node.name.group} {node.name.slot}: it stops already, when its tasks are done")
        if refused:
            raise WorkfleetError("no node was told: " + "; ".join(dict.fromkeys(refused)))
        return found

    def refusals(self, group: GroupRequest) -> list[str]:
        """Say why the nodes of a group cannot be told."""
        engine = engines.named(group.engine)
        if not group.notifies and not engine.quiesces_commands:
            return [f"group {group.name}: a worker of engine {engine.name} that a command of your own starts can only be stopped "
                    "(stop.yml); name the others in -e worker_only"]
        if not group.notifies and not self.request.broker_url:
            return [f"group {group.name}: a worker that a command of your own starts is told over the broker; set app_broker_url"]
        return []

    # -- telling --------------------------------------------------------------------------------------------------------

    def quiesce(self, nodes: Iterable[Present]) -> list[Step]:
        """Mark the nodes that are not; return the steps."""
        fresh = [node for node in nodes if not self.manager.has_mark(node.name) or self.forgot(node)]
        if fresh and not self.check:
            with Lock(self.request):
                for told, engine in self.commands(node for node in fresh if node.is_up):
                    self.quiesce_commands(told, engine)
                for node in fresh:
                    if not self.manager.has_mark(node.name):
                        self.manager.mark(node.name, time.time())
        return [self.step("drain", node.name, DRAIN) for node in fresh]

    def forgot(self, node: Present) -> bool:
        """Whether a marked node that heeds no mark was started again since it was told, or the telling was cut short."""
        return node.is_up and self.host_nodes.quiet_since(node) is None

    def quiesce_commands(self, told: Mapping[str, Present], engine: engines.Engine) -> None:
        """Tell nodes that heed no mark. It is written first: were we killed then, it says what they are to consume again."""
        where = (self.request.broker_options, ASK_SECONDS)
        queues = {node: list(found.queues) for node, found in engine.held(self.request.broker_url, list(told), *where).items()}
        silent = sorted(set(told) - set(queues))
        if silent:
            raise WorkfleetError(f"{', '.join(silent)} did not answer within {ASK_SECONDS:g} s. No worker that a command of your own "
                                 "starts was told: is this its name on the broker (-n)? A solo pool that is busy cannot be told")
        before = {key: self.manager.marked(node.name).get("queues", []) for key, node in told.items()}
        marks = {key: [*{**dict.fromkeys(before[key]), **dict.fromkeys(queues[key])}] for key in told}
        for key, node in told.items():
            self.manager.mark(node.name, time.time(), marks[key])
        engine.quiesce(self.request.broker_url, queues, *where)
        for key, node in told.items():
            self.manager.mark(node.name, time.time(), marks[key], node.pid)

    def resume(self, nodes: Iterable[Present]) -> list[Step]:
        """Take the marks away; return the steps."""
        marked = [node for node in nodes if self.manager.has_mark(node.name)]
        if marked and not self.check:
            with Lock(self.request):
                for told, engine in self.commands(node for node in marked if node.is_up):
                    queues = {key: list(self.manager.marked(node.name).get("queues", [])) for key, node in told.items()}
                    engine.resume(self.request.broker_url, queues, self.request.broker_options, ASK_SECONDS)
                for node in marked:
                    effects.remove(self.manager.mark_path(node.name))
        return [self.step("live", node.name, RESUME) for node in marked]

    def commands(self, nodes: Iterable[Present]) -> list[tuple[dict[str, Present], engines.Engine]]:
        """Return the nodes that heed no mark by their names on the broker, with their engine."""
        found: dict[str, dict[str, Present]] = defaultdict(dict)
        for node in nodes:
            group = self.host_nodes.groups[node.name.group]
            if not group.notifies:
                found[group.engine][self.host_nodes.broker_name(node.name)] = node
        return [(told, engines.named(engine)) for engine, told in sorted(found.items())]

    # -- watching -------------------------------------------------------------------------------------------------------

    def idle(self, nodes: Sequence[Present]) -> bool:
        """Wait until every marked node is proved idle, or is down, as one is that was killed; return False at the deadline."""
        for node in nodes:
            since = float(self.manager.marked(node.name).get("since", self.since))
            known = self.order.known.get(str(node.name))
            self.watched[node.name] = Watched(**known) if known else Watched(since)
        while True:
            for name, (pid, record) in self.manager.lives(self.watched).items():
                self.look(name, self.watched[name], pid, record)
            self.prove()
            if all(watched.is_done for watched in self.watched.values()):
                return True
            self.kill(self.late() if self.request.rollout.drain_timeout_action == "kill" else [])
            if time.monotonic() > self.deadline:
                return False
            time.sleep(POLL_SECONDS)

    def late(self) -> list[Name]:
        """Return the nodes that are not done and have had their time."""
        waited = time.time() - self.since
        return [name for name, watched in self.watched.items() if not watched.is_done and waited > self.order.patience[name.group]]

    def kill(self, names: Iterable[Name]) -> None:
        """Kill nodes, once, and say first what that cuts short. Their manager starts them again, and their marks keep them quiet:
        one that heeds none would take tasks again, and is left to its end.
        """
        doomed = [name for name in names if self.host_nodes.groups[name.group].notifies and not self.watched[name].is_killed]
        for name in doomed:
            watched = self.watched[name]
            watched.is_killed = True
            effects.journal(watched.pid, f"{name} is killed, for its drain takes too long; running: {said(watched.begun()) or 'not known'}")
        if doomed:
            self.manager.kill(self.manager.present_of(doomed))

    def look(self, name: Name, watched: Watched, pid: int | None, record: Record | None) -> None:
        """See what a node holds now."""
        if watched.pid not in (None, pid):
            watched.ended()
        if pid is None:
            watched.state, watched.idle = "down", watched.idle or time.time()
            return
        watched.pid = pid
        watched.is_stopping = record is not None and record.stopping is not None
        if watched.state == "idle":
            return  # it was proved, and it has its mark
        watched.state = "asked"
        group = self.host_nodes.groups[name.group]
        if group.notifies and (record is None or record.quiesced is None):
            watched.is_silent |= not group.answers_while_busy and time.time() - watched.since > SILENT_SECONDS
        elif record is not None and record.holds is not None:
            watched.told(record.holds["tasks"], record.holds)
            watched.idle = record.holds.get("idle")

    def prove(self) -> None:
        """Ask the engine about nodes that say that they are idle, and about those that say nothing themselves."""
        self.proofs = {}
        asked: dict[str, dict[str, Name]] = defaultdict(dict)
        for name, watched in self.watched.items():
            group = self.host_nodes.groups[name.group]
            says_idle = watched.state == "draining" and not watched.tasks
            if watched.state != "down" and (says_idle or not group.notifies):
                if engines.named(group.engine).tells_held and self.request.broker_url:
                    asked[group.engine][self.host_nodes.broker_name(name)] = name
                elif says_idle:
                    watched.state = "idle"
        for engine, names in asked.items():
            try:
                told = engines.named(engine).held(self.request.broker_url, list(names), self.request.broker_options, ASK_SECONDS)
            except WorkfleetError as error:
                self.proofs.update(dict.fromkeys(names.values(), f"not proved idle, for the broker cannot be asked: {error}"))
                continue
            for node, name in names.items():
                self.judge(name, told.get(node))

    def judge(self, name: Name, held: engines.Held | None) -> None:
        """Take the engine's word on a node."""
        watched = self.watched[name]
        if held is None:
            self.proofs[name] = "not proved idle: it does not answer over the broker"
            return
        if not self.host_nodes.groups[name.group].notifies:
            watched.told(held.tasks, {})
            watched.idle = None if held.tasks else watched.idle or time.time()
        if held.queues:
            self.proofs[name] = f"it consumes {', '.join(held.queues)} again, though it was told not to"
        elif held.tasks:
            self.proofs[name] = f"it holds {len(held.tasks)} tasks by the broker's word"
        else:
            watched.state = "idle"

    def consuming(self, nodes: Sequence[Present]) -> bool:
        """Wait until every node proves that it takes tasks again; return False at the deadline."""
        while True:
            left = self.quiet(node.name for node in nodes if node.is_up)
            left += self.unproved([node.name for node in nodes if node.is_up and node.name not in left])
            self.proofs = dict.fromkeys(left, "does not take tasks yet")
            if not left:
                return True
            if time.monotonic() > self.deadline or self.is_over():
                return False
            time.sleep(POLL_SECONDS)

    def quiet(self, names: Iterable[Name]) -> list[Name]:
        """Return the nodes whose record says that they take no tasks."""
        lives = self.manager.lives(names)
        return [name for name, (_, record) in lives.items() if record is not None and record.quiesced is not None]

    def unproved(self, names: Iterable[Name]) -> list[Name]:
        """Return the nodes that do not say over the broker that they consume, where they can say it."""
        found = []
        asked: dict[str, dict[str, Name]] = defaultdict(dict)
        for name in names:
            group = self.host_nodes.groups[name.group]
            if self.request.broker_url and group.answers_while_busy:
                asked[group.engine][self.host_nodes.broker_name(name)] = name
        for engine, nodes in asked.items():
            told = engines.named(engine).inspect(self.request.broker_url, list(nodes), self.request.broker_options, ASK_SECONDS)
            for node, name in nodes.items():
                if node not in told or not told[node].queues:
                    found.append(name)
        return found

    # -- telling people -------------------------------------------------------------------------------------------------

    def is_over(self) -> bool:
        """Whether all that was told to take tasks again and does not has had its time. A drain is over when it is done."""
        waited = time.time() - self.since
        return self.order.resume and all(waited > self.order.patience[name.group] for name in self.proofs)

    def result(self, steps: Sequence[Step], *, more: bool) -> dict[str, Any]:
        """Return the module's result."""
        progress = [] if self.check or not self.order.wait else self.progress()
        return {
            "changed": bool(steps), "steps": report(steps, None), "more": more, "notes": self.notes, "since": self.since,
            "progress": progress, "unfinished": [] if more else progress,
            "ledger": [watched.line(self.host_nodes.broker_name(name)) for name, watched in sorted(self.watched.items())],
            "known": {str(name): asdict(watched) for name, watched in self.watched.items()},
        }

    def progress(self) -> list[str]:
        """Say of each node that is not done what it still does, and for how long."""
        if self.order.resume:
            return [f"{name.group} {name.slot}: {why}" for name, why in sorted(self.proofs.items())]
        left = [(name, watched) for name, watched in sorted(self.watched.items()) if not watched.is_done]
        late = {name: f"; longer than its {self.order.patience[name.group]:g} s, and waited for" for name in self.late()}
        return [f"{name.group} {name.slot}: {self.proofs.get(name) or doing(watched)}{late.get(name, '')}" for name, watched in left]

    def step(self, action: str, name: Name, reason: str) -> Step:
        """Return a step about a node."""
        return Step(action, str(name), reason, name.group, name.slot, name.incarnation)


def doing(watched: Watched) -> str:
    """Say what a node still does."""
    if watched.state == "asked":
        return ("busy or silent: this pool does not answer while it runs a task" if watched.is_silent
                else "has not heeded its mark yet; restart.yml replaces what never does")
    now = time.time()
    begun = sorted((task for task in watched.tasks if task["since"] is not None), key=lambda task: float(task["since"]))
    words = [f"{task['task'] or 'a task'} for {now - task['since']:.0f} s" for task in begun[:SHOWN_TASKS]]
    if len(begun) > SHOWN_TASKS:
        words.append(f"{len(begun) - SHOWN_TASKS} more running")
    waiting = len(watched.tasks) + watched.more - len(begun)
    if waiting:
        words.append(f"{waiting} taken and not begun")
    return ", ".join(words) or "nothing any more; being proved"
