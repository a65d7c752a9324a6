"""Waiting for nodes: until those that were started are ready and proved, and until those that were stopped are gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from ..managers.base import line_value
from . import leave
from .host_nodes import ASK_SECONDS, uptime

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ..managers.base import Present
    from ..model import Name
    from . import plan
    from .host_nodes import HostNodes
    from .outcome import Outcome

POLL_SECONDS = 0.1
#: Between two looks at run records, which cost next to nothing, and at what the manager tells of starting nodes where none has changed.
RECORD_POLL_SECONDS, START_POLL_SECONDS = 0.02, 0.4
LOG_LINES = 15
#: How long after its time a node that was told to stop is killed, and then said to be there still. Its manager was to kill it at its time.
OVERDUE_SECONDS, KILLED_SECONDS = 15.0, 10.0
#: What gives a node more time.
BY = " (worker_rollout.ready_timeout_seconds)"


class Watch:
    """The waiting of one call. ``outcome`` takes what the call waits for; the call ends at ``deadline``, a monotonic time."""

    def __init__(self, nodes: HostNodes, outcome: Outcome) -> None:
        self.nodes, self.outcome, self.request = nodes, outcome, nodes.request
        self.deadline = time.monotonic() + self.request.deadline_seconds
        #: From then on a call ends where it would begin to wait for nodes that start: the next one's beginning takes none of their time.
        self.turn_of_call = time.monotonic() + self.request.deadline_seconds / 2

    @property
    def is_late(self) -> bool:
        """Whether the call has had its time."""
        return time.monotonic() > self.deadline

    # -- nodes that stop ------------------------------------------------------------------------------------------------

    def gone(self, names: Sequence[Name]) -> bool:
        """Wait until no process of these nodes is left; return False at the deadline."""
        left, manager = set(names), self.nodes.manager
        # A stop, and a kill the more, is bounded by the manager also for those that a rollout before had all the time.
        bounded = left if self.request.kill else {name for name in left if name.group not in self.nodes.started}
        ended = sorted(bounded & set(leave.pending(manager)))
        if ended:
            manager.stop(ended)
        if self.request.kill and left:
            manager.kill(manager.present_of(sorted(left)))
        while left:
            here = [node for node in manager.present_of(sorted(left)) if node.is_up]
            up = {node.name: node.stopping_seconds or 0.0 for node in here}
            leaving = leave.pending(manager)
            left &= {*up, *leaving}
            if not left:
                break
            self.outcome.doing = f"{count(len(left))} draining, since {max(up.values(), default=0.0):.0f} s: {some(left)}"
            late = [name for name in left & set(leaving) if leaving[name].is_late and not leaving[name].kills]
            if late:
                self.outcome.doing += f"; longer than drain_seconds, and waited for: {some(late)}"
            self.enforce([node for node in here if node.name in left and node.name not in leaving])
            if self.is_late:
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
                self.nodes.manager.kill([node])
                if waited > seconds + OVERDUE_SECONDS + KILLED_SECONDS:
                    raise WorkfleetError(
                        f"{node.name} was to be gone {waited - seconds:.0f} s ago, and {self.request.manager} says that process {node.pid} "
                        "of it is there, though it was killed: look at that process (ps), then at the manager, which may be another"
                        + (f" ({node.doubt})" if node.doubt else ""))

    def stopping(self, names: Sequence[Name]) -> list[Name]:
        """Return those of these nodes that are on their way down, or of which it is not written down yet what became of them."""
        manager = self.nodes.manager
        return [node.name for node in manager.present_of(names)
                if node.activity == "stopping" or manager.leaving_since(node.name) is not None]

    # -- nodes that start -----------------------------------------------------------------------------------------------

    def settled(self, made: plan.Plan, seen: Sequence[plan.Seen]) -> bool:
        """Wait until the nodes that were started, and any that is still starting, are ready and stay so; return False at the deadline.

        ``seen`` was there a moment ago; only nodes that keep us waiting are looked at again.
        """
        outcome, present = self.outcome, {node.name: node.present for node in seen}
        # A node that takes another's place is watched in any case: a run that was killed told nobody that it began to. So is all
        # that ran before, once it is there again: who brings it back proves it, though he started none of it.
        is_back = self.nodes.is_undo and not made.phases(rollout=True)
        for name in made.wanted if is_back else made.overlapping:
            if name in present:
                outcome.waiting.setdefault(str(name), present[name].restarts)
        rollout = self.request.rollout
        seconds = rollout.monitor_seconds + (rollout.delay_seconds if made.rollout else 0)
        deadline = self.deadline if time.monotonic() < self.turn_of_call else 0.0
        told: dict[Name, int] = {}
        while True:
            outcome.present = [present[name] for name in sorted(present)]
            unready, young = self.awaited(made, present, seconds)
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
            present.update((node.name, node) for node in self.nodes.manager.present_of(sorted(awaited)))

    def awaited(self, made: plan.Plan, present: Mapping[Name, Present], seconds: float) -> tuple[list[Name], list[Name]]:
        """Return the nodes that are not ready yet, and those that have not been ready for so long; raise where one has failed."""
        waiting = self.outcome.waiting
        watched = {name for name in present if str(name) in waiting}
        mine = {name for name in made.wanted if name in present and name.group in self.nodes.started}
        for name in sorted(watched | mine):
            self.raise_failure(present[name], waiting.get(str(name)))
        unready = [name for name in watched | mine if present[name].is_up and not self.nodes.is_ready(present[name])]
        young = [name for name in watched if not self.nodes.is_proved(present[name], seconds)]
        if not unready and not young:
            unready = self.unheard([present[name] for name in sorted(watched)])
        return unready, young

    def await_news(self, names: Collection[Name], told: Mapping[Name, int]) -> dict[Name, int]:
        """Wait until run records are other than ``told``, or for a moment; return what they are, in the same form.

        It spares the manager, which starting workers would otherwise share the CPU with.
        """
        end = time.monotonic() + START_POLL_SECONDS
        while (times := self.nodes.manager.record_times(names)) == told and time.monotonic() < end:
            time.sleep(RECORD_POLL_SECONDS)
        return times

    def unheard(self, nodes: Sequence[Present]) -> list[Name]:
        """Return those of these nodes, of commands of the user's own, whose worker does not answer over the broker yet.

        No runner tells of them, so they are asked. Raises where one does not answer in time, or is wrapped.
        """
        from . import answers  # most calls ask nobody

        groups = self.nodes.groups
        own = [node for node in nodes if node.name.group in groups and not groups[node.name.group].notifies]
        told = answers.ask(self.nodes, own, ASK_SECONDS, [])
        limit = self.request.rollout.ready_timeout_seconds
        awaited = []
        for node in own:
            answer, group = told.get(node.name), groups[node.name.group]
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
        elif node.is_up and not self.nodes.is_ready(node) and (node.uptime_seconds or 0) > limit:
            what = f"is up but did not become ready within {limit:g} s{BY}"
        else:
            return
        self.fail(node, what)

    def fail(self, node: Present, what: str) -> None:
        """Raise with a node's last log lines."""
        lines = self.nodes.manager.log(node.name, LOG_LINES)
        said = "\n".join(f"  | {line}" for line in lines) or "  (it wrote nothing)"
        before = self.nodes.before
        if before is not None and not before.was_proved(node.name):
            what += f". Before the rollout it had not been ready for {self.request.rollout.monitor_seconds:g} s either"
        raise WorkfleetError(f"node {node.name} {what}. The nodes behind it are untouched. Its last log lines:\n{said}",
                             node=str(node.name), log=lines, blame=f"node {node.name} {what}")


def stop_seconds(text: str | None) -> int | None:
    """Return after how many seconds its manager kills a node that was told to stop, as its unit's or program's text says."""
    value = line_value(text, "TimeoutStopSec=") or line_value(text, "stopwaitsecs=") or ""
    return int(value) if value.isascii() and value.isdigit() else None


def count(number: int) -> str:
    """Return ``1 node`` or ``n nodes``."""
    return "1 node" if number == 1 else f"{number} nodes"


def some(names: Collection[Name]) -> str:
    """Return the first few names."""
    ordered = [f"{name.group} {name.slot}" for name in sorted(names)]
    return ", ".join(ordered[:4]) + (f" and {len(ordered) - 4} more" if len(ordered) > 4 else "")
