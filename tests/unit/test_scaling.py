"""The policy of autoscaling: cases one can read, and what holds for every policy, load and clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet.model import Policy
from plugins.module_utils.workfleet.scaling import policy as scaling
from plugins.module_utils.workfleet.scaling.policy import Decision, Figures, State

TEN = Policy(min=1, max=10, backlog_per_node=10, scale_up_after_seconds=30, scale_down_after_seconds=300)


def run(policy: Policy, nodes: int, *evaluations: tuple[float, int | None]) -> list[Decision]:
    """Evaluate a policy at (seconds since the one before, backlog)."""
    state, found = State.start(nodes), []
    for elapsed, backlog in evaluations:
        found.append(scaling.decide(policy, Figures(backlog, missing="no broker"), state, elapsed))
        state = found[-1].state
    return found


def counts(policy: Policy, nodes: int, *evaluations: tuple[float, int | None]) -> list[int]:
    return [decision.nodes for decision in run(policy, nodes, *evaluations)]


def test_more_nodes_come_when_they_were_asked_for_all_through_the_window() -> None:
    assert counts(TEN, 1, (0, 42), (10, 42), (10, 42), (10, 42)) == [1, 1, 1, 5]


def test_the_least_that_was_asked_for_in_the_window_comes() -> None:
    assert counts(TEN, 1, (0, 99), (15, 31), (15, 99), (15, 99), (15, 99)) == [1, 1, 4, 4, 10]


def test_a_spike_shorter_than_the_window_moves_nothing() -> None:
    assert counts(TEN, 2, (0, 90), (20, 90), (9, 12), (20, 12)) == [2, 2, 2, 2]


def test_fewer_nodes_come_when_no_more_were_asked_for_all_through_the_longer_window() -> None:
    assert counts(TEN, 8, (0, 5), (150, 31), (149, 5), (10, 5), (140, 5), (150, 5)) == [8, 8, 8, 4, 4, 1]


def test_without_windows_the_backlog_rules_at_once() -> None:
    at_once = replace(TEN, scale_up_after_seconds=0, scale_down_after_seconds=0)
    assert counts(at_once, 3, (0, 95), (0, 0), (1, 11)) == [10, 1, 2]


def test_a_timer_that_is_as_slow_as_the_window_still_scales() -> None:
    assert counts(TEN, 1, (0, 50), (30.2, 50)) == [1, 5]
    assert counts(TEN, 9, (0, 0), (600, 0)) == [9, 1]


def test_a_missing_figure_holds_and_says_so_and_the_windows_begin_anew() -> None:
    found = run(TEN, 5, (0, 0), (250, 0), (60, None), (30, 0), (299, 0), (1, 0))
    assert [decision.nodes for decision in found] == [5, 5, 5, 5, 5, 1]
    assert found[2].held and found[2].reason == "held: no broker"
    assert not found[3].held


def test_while_there_may_be_more_than_is_told_none_goes_and_more_may_come() -> None:
    at_once = replace(TEN, scale_up_after_seconds=0, scale_down_after_seconds=0)
    few = scaling.decide(at_once, Figures(5, more="a node is silent"), State.start(4), 60)
    assert (few.nodes, few.reason) == (4, "no fewer nodes than now: a node is silent")
    assert scaling.decide(at_once, Figures(75, more="a node is silent"), State.start(4), 60).nodes == 8
    later = scaling.decide(TEN, Figures(5), scaling.decide(TEN, Figures(5, more="x"), State.start(4), 299).state, 299)
    assert later.nodes == 4, "the window has begun anew"


def test_paused_holds() -> None:
    found = run(replace(TEN, paused=True), 5, (0, 99), (900, 99))
    assert [(decision.nodes, decision.reason) for decision in found] == [(5, "held: it is paused")] * 2


def test_the_age_counts_only_where_the_policy_uses_it() -> None:
    young = Figures(backlog=7)
    assert not scaling.decide(TEN, young, State.start(1), 0).held
    aged = replace(TEN, oldest_age_seconds=60, scale_up_after_seconds=30)
    assert scaling.decide(aged, young, State.start(1), 0).reason == "held: the age of the oldest task cannot be told"
    assert not scaling.decide(aged, Figures(backlog=0), State.start(1), 0).held


def test_an_old_task_asks_for_one_node_more_a_window() -> None:
    aged = replace(TEN, oldest_age_seconds=60)
    state, found = State.start(2), []
    for _ in range(8):
        decision = scaling.decide(aged, Figures(backlog=7, oldest_age=61), state, 15)
        state = decision.state
        found.append(decision.nodes)
    assert found == [2, 2, 3, 3, 3, 4, 4, 4]
    assert decision.reason.startswith("the oldest of 7 tasks is 61 s old, above 60 s")


@pytest.mark.parametrize(("total", "hosts", "spread"), [
    (5, ["a", "b"], {"a": 3, "b": 2}), (2, ["a", "b", "c"], {"a": 1, "b": 1, "c": 0}), (0, ["a"], {"a": 0}), (3, [], {}),
])
def test_a_total_is_spread_evenly_by_the_order_of_hosts(total: int, hosts: list[str], spread: dict[str, int]) -> None:
    assert scaling.shares(total, hosts) == spread


SECONDS = st.one_of(st.just(0.0), st.floats(0, 1000, allow_nan=False))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    least = draw(st.integers(0, 8))
    return Policy(
        min=least, max=draw(st.integers(max(1, least), 12)), backlog_per_node=draw(st.integers(1, 20)),
        scale_up_after_seconds=draw(SECONDS), scale_down_after_seconds=draw(SECONDS),
        oldest_age_seconds=draw(st.none() | st.floats(1, 100)), paused=draw(st.booleans()),
    )


FIGURES = st.builds(Figures, backlog=st.none() | st.integers(0, 300), oldest_age=st.none() | st.floats(0, 200),
                    more=st.sampled_from(["", "a node is silent"]))
#: A clock that goes back is seen as a negative time.
STEPS = st.lists(st.tuples(st.one_of(st.floats(0, 60), st.floats(-5000, 5000)), FIGURES), min_size=1, max_size=60)


@given(policies(), st.integers(-3, 30), STEPS)
@settings(max_examples=150, deadline=None)
def test_never_outside_min_and_max_and_never_a_turn_within_the_windows(
    policy: Policy, nodes: int, steps: list[tuple[float, Figures]],
) -> None:
    state = State.start(nodes)
    now, raised, lowered = 0.0, -1e9, -1e9
    for number, (elapsed, figures) in enumerate(steps):
        now += max(0.0, elapsed)
        before = state.nodes
        decision = scaling.decide(policy, figures, state, elapsed)
        state = decision.state
        assert policy.min <= decision.nodes <= policy.max
        assert state.nodes == decision.nodes
        assert len(state.high) <= 14 and len(state.low) <= 14
        # The first evaluation may have to move a count into its bounds; from then on only the windows do.
        if number and decision.nodes != before:
            assert not decision.held
            up = decision.nodes > before
            if up:
                assert now - lowered >= policy.scale_up_after_seconds - 1e-6
                raised = now
            else:
                assert now - raised >= policy.scale_down_after_seconds - 1e-6
                lowered = now


@given(policies(), st.integers(0, 12), STEPS, st.integers(0, 300), st.integers(0, 300), st.floats(0, 200), SECONDS)
@settings(max_examples=150, deadline=None)
def test_a_larger_backlog_never_gets_fewer_nodes(
    policy: Policy, nodes: int, past: list[tuple[float, Figures]], one: int, other: int, age: float, elapsed: float,
) -> None:
    state = State.start(nodes)
    for before, figures in past:
        state = scaling.decide(policy, figures, state, before).state
    for more in ("", "a node is silent"):
        small, large = (scaling.decide(policy, Figures(backlog, age, more=more), state, elapsed).nodes for backlog in sorted((one, other)))
        assert small <= large
    assert small >= policy.clamp(state.nodes), "there may be more than is told"


@given(policies(), st.integers(0, 90), st.integers(0, 90), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 300)), max_size=40))
@settings(max_examples=150, deadline=None)
def test_what_is_remembered_decides_as_the_whole_past_would(policy: Policy, up: int, down: int, steps: list[tuple[int, int]]) -> None:
    policy = replace(policy, paused=False, oldest_age_seconds=None, scale_up_after_seconds=up, scale_down_after_seconds=down)
    state, nodes, now = State.start(policy.min), policy.min, 0
    asked = [(0, policy.min)]

    def within(window: int) -> list[int]:
        """What was asked for at any moment of the window; each wish holds until the next."""
        ends = [*(moment for moment, _ in asked[1:]), now + 1]
        return [wish for (_, wish), end in zip(asked, ends) if end > now - window]

    for elapsed, backlog in steps:
        now += elapsed
        asked.append((now, policy.clamp(-(-backlog // policy.backlog_per_node))))
        nodes = max(min(within(up)), min(max(within(down)), nodes))
        decision = scaling.decide(policy, Figures(backlog), state, elapsed)
        state = decision.state
        assert decision.nodes == nodes
