"""How many nodes a group of workers should have: a pure policy. It knows no clock, no broker and no host.

Time comes in as the seconds since the evaluation before, never as a date: a clock that jumps moves no window.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..model import Policy


@dataclass(frozen=True)
class Figures:
    """What the broker tells of a group's queues.

    ``backlog`` counts tasks that wait or are held by nodes; ``oldest_age`` is in seconds. ``None`` is a figure that cannot be
    told, and ``missing`` says why. ``more`` says why there may be more tasks than ``backlog``, where that is so.
    """

    backlog: int | None = None
    oldest_age: float | None = None
    missing: str = ""
    more: str = ""


class Run(NamedTuple):
    """A number of nodes that was asked for from ``age`` seconds ago until the next run began."""

    age: float
    nodes: int


@dataclass(frozen=True)
class State:
    """The nodes that are wanted now, and what was asked for lately.

    ``high`` has the runs that still decide what the most was that was asked for within the window of scaling down: their
    counts fall, so there are never more of them than counts. ``low`` is the same of the least, for scaling up.
    """

    nodes: int
    high: tuple[Run, ...]
    low: tuple[Run, ...]

    @classmethod
    def start(cls, nodes: int) -> State:
        """Return a state without a past: the windows begin now."""
        return cls(nodes, (Run(0.0, nodes),), (Run(0.0, nodes),))


@dataclass(frozen=True)
class Decision:
    """The nodes to have, why (a clause for people), the state to remember; ``held`` where no figure had a say."""

    nodes: int
    reason: str
    state: State
    held: bool = False


def decide(policy: Policy, figures: Figures, state: State, elapsed: float) -> Decision:
    """Return what to do ``elapsed`` seconds after the evaluation that left ``state``.

    More nodes are taken when more were asked for all through ``scale_up_after_seconds``, and then the least of these counts;
    fewer when fewer were asked for all through ``scale_down_after_seconds``, and then the most. While a figure is missing, or
    the policy is paused, nothing moves, and the windows begin anew. While there may be more tasks than are told no fewer nodes are
    asked for. Whatever happens, the result is within min and max.
    """
    nodes = policy.clamp(state.nodes)
    obstacle = "it is paused" if policy.paused else missing(policy, figures)
    asked, why = (nodes, obstacle) if obstacle else demand(policy, figures, nodes)
    high = extended(state.high, asked, elapsed, policy.scale_down_after_seconds, operator.gt)
    low = extended(state.low, asked, elapsed, policy.scale_up_after_seconds, operator.lt)
    most, least = policy.clamp(high[0].nodes), policy.clamp(low[0].nodes)
    chosen = nodes if obstacle else max(least, min(most, nodes))
    return Decision(chosen, reason(policy, state.nodes, asked, chosen, why, held=bool(obstacle)), State(chosen, high, low), bool(obstacle))


def missing(policy: Policy, figures: Figures) -> str:
    """Return why the policy cannot be judged, or nothing. The age counts only where it is used and something waits."""
    if figures.backlog is None:
        return figures.missing or "the backlog cannot be told"
    if policy.oldest_age_seconds is not None and figures.backlog and figures.oldest_age is None:
        return figures.missing or "the age of the oldest task cannot be told"
    return ""


def demand(policy: Policy, figures: Figures, nodes: int) -> tuple[int, str]:
    """Return the count that the figures ask for, within min and max, and why. It never falls with a growing backlog."""
    backlog = figures.backlog or 0
    asked = -(-backlog // policy.backlog_per_node)
    why = f"{backlog} {'task' if backlog == 1 else 'tasks'}, {policy.backlog_per_node} a node"
    limit, age = policy.oldest_age_seconds, figures.oldest_age
    if limit is not None and backlog and age is not None and age > limit and asked <= nodes:
        asked, why = nodes + 1, f"the oldest of {why.split(',', 1)[0]} is {age:.0f} s old, above {limit:g} s"
    if figures.more and asked < nodes:
        asked, why = nodes, f"no fewer nodes than now: {figures.more}"
    return policy.clamp(asked), why


def extended(
    runs: Sequence[Run], asked: int, elapsed: float, window: float, beats: Callable[[int, int], bool]
) -> tuple[Run, ...]:
    """Return the runs with what is asked for now, the oldest first; the first decides.

    A run that the new one outdoes will never decide again: the new one takes its place, its beginning too. The run that was
    under way when the window began is the oldest that counts.
    """
    kept = [Run(run.age + max(0.0, elapsed), run.nodes) for run in runs]
    begun = 0.0
    while kept and not beats(kept[-1].nodes, asked):
        begun = kept.pop().age
    kept.append(Run(begun, asked))
    while len(kept) > 1 and kept[1].age >= window:
        kept.pop(0)
    return tuple(kept)


def reason(policy: Policy, before: int, asked: int, chosen: int, why: str, *, held: bool) -> str:
    """Say in a clause why there shall be ``chosen`` nodes."""
    if held:
        bounds = "" if chosen == before else f", but for the bounds {policy.min} to {policy.max}"
        return f"held{bounds}: {why}"
    if asked > chosen:
        return f"{why}: {asked} nodes, when that was so for {policy.scale_up_after_seconds:g} s"
    if asked < chosen:
        return f"{why}: {asked} {'node' if asked == 1 else 'nodes'}, when no more were asked for {policy.scale_down_after_seconds:g} s"
    return why


def shares(total: int, hosts: Sequence[str]) -> dict[str, int]:
    """Spread a total over hosts: evenly, and what is left over one each on the first."""
    each, left = divmod(total, len(hosts) or 1)
    return {host: each + (number < left) for number, host in enumerate(hosts)}
