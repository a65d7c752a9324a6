"""The plan: cases one can read, and what holds for every host (``tests/fakes/nodes.py`` carries plans out)."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet.engines.verbs import report
from plugins.module_utils.workfleet.engines.verbs.report import Report
from plugins.module_utils.workfleet.model import Rollout
from plugins.module_utils.workfleet.nodes import plan
from tests.fakes.nodes import APP, FakeHost, converge, intent, seen, short, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugins.module_utils.workfleet.host.steps import Step
    from plugins.module_utils.workfleet.model import Name

NEW = ["write a.1.1", "reload", "enable a.1.1", "start a.1.1"]

# What is declared, what is there, what is to be done.
CASES: dict[str, tuple[list[plan.Intent], list[plan.Seen], list[str]]] = {
    "a bare host": ([intent("a")], [], NEW),
    "all as declared": ([intent("a", 2)], [seen("a.1.3"), seen("a.4.1")], []),
    "three nodes where one is: the lowest free slots": (
        [intent("a", 3)], [seen("a.2.1")],
        ["write a.1.1", "write a.3.1", "reload", "enable a.1.1", "enable a.3.1", "start a.1.1", "start a.3.1"]),
    "a slot whose old node still drains gets a higher incarnation at once": (
        [intent("a", 1)], [seen("a.1.4", "stopping", enabled=False)],
        ["write a.1.5", "reload", "enable a.1.5", "start a.1.5", "remove a.1.4"]),
    "one too many: of equals the highest goes": (
        [intent("a", 2)], [seen("a.1.1"), seen("a.2.1"), seen("a.5.1")],
        ["disable a.5.1", "stop a.5.1", "remove a.5.1"]),
    "zero nodes": ([intent("a", 0)], [seen("a.1.1")], ["disable a.1.1", "stop a.1.1", "remove a.1.1"]),
    "a group that nobody declares any more": (
        [intent("a")], [seen("a.1.1"), seen("old.2.7"), seen("old.3.1", "failed")],
        ["stop old.3.1", "remove old.3.1", "disable old.2.7", "stop old.2.7", "remove old.2.7"]),
    "absent": ([intent("a", 3, state="absent")], [seen("a.1.1"), seen("a.2.1", "stopped")],
               ["remove a.2.1", "disable a.1.1", "stop a.1.1", "remove a.1.1"]),
    "stopped": ([intent("a", 2, state="stopped")], [seen("a.1.1"), seen("a.2.1", "failed")],
                ["disable a.1.1", "disable a.2.1", "stop a.1.1", "stop a.2.1"]),
    "stopped, in the middle of a scale-down: the slot that goes already is the one": (
        [intent("a", state="stopped")], [seen("a.1.1", "stopping", enabled=False), seen("a.2.1")],
        ["disable a.2.1", "stop a.2.1", "remove a.1.1"]),
    "stopped stays stopped": ([intent("a", state="stopped")], [seen("a.1.1", "stopped", enabled=False)], []),
    "stopped, then started": ([intent("a")], [seen("a.1.1", "stopped", enabled=False)],
                              ["enable a.1.1", "start a.1.1"]),
    "a new group that is declared stopped": ([intent("a", state="stopped")], [], ["write a.1.1", "reload"]),
    "a crashed node": ([intent("a")], [seen("a.1.1", "failed")], ["start a.1.1"]),
    "a text that changes nothing of what runs": (
        [intent("a", version="v2")], [seen("a.1.1")], ["write a.1.1", "reload"]),
    "an environment file that is missing": ([intent("a")], [seen("a.1.1", env=None)], ["write a.1.1", "reload"]),
    "a unit file that is missing under a running node": (
        [intent("a")], [seen("a.1.1", file=None, enabled=False, env="env g1")],
        ["write a.1.1", "reload", "enable a.1.1"]),
    "a node that stops, to come again, and lacks a file": (
        [intent("a")], [seen("a.1.1", "stopping", env=None)], ["write a.1.1", "reload", "start a.1.1"]),
    "an environment file that no unit names, of a node that is to be written": (
        [intent("a")], [seen("a.1.1", "stopped", file=None, enabled=False, env="env g1")],
        ["write a.1.1", "reload", "enable a.1.1", "start a.1.1"]),
    "an environment file that no unit names, of a group that is not declared": (
        [intent("a")], [seen("a.1.1"), seen("b.1.1", "stopped", file=None, enabled=False, env="env g1")], ["remove b.1.1"]),
    "a unit that was changed and not loaded": ([intent("a")], [seen("a.1.1", needs_reload=True)], ["reload"]),
    "a stale node": (
        [intent("a", generation="g2")], [seen("a.1.7")],
        ["write a.1.8", "disable a.1.7", "reload", "stop a.1.7", "remove a.1.7", "enable a.1.8", "start a.1.8"]),
    "a file of the new generation over a process of the old one, as an interrupted play leaves it": (
        [intent("a", generation="g2")], [seen("a.1.1", file="g2")],
        ["write a.1.2", "disable a.1.1", "reload", "stop a.1.1", "remove a.1.1", "enable a.1.2", "start a.1.2"]),
    "a rollout that was killed after it wrote": (
        [intent("a", generation="g2")],
        [seen("a.1.1"), seen("a.1.2", "stopped", "g2", enabled=False)],
        ["disable a.1.1", "stop a.1.1", "remove a.1.1", "enable a.1.2", "start a.1.2"]),
    "a rollout that was killed after it wrote, and then the change was taken back": (
        [intent("a")], [seen("a.1.1"), seen("a.1.2", "stopped", "g2", enabled=False)], ["remove a.1.2"]),
    "old and new side by side: the old one goes": (
        [intent("a", generation="g2")], [seen("a.1.1"), seen("a.1.2", generation="g2")],
        ["disable a.1.1", "stop a.1.1", "remove a.1.1"]),
    "a stale node that is down is no rollout": (
        [intent("a", generation="g2")], [seen("a.1.1", "stopped")],
        ["remove a.1.1", "write a.1.2", "reload", "enable a.1.2", "start a.1.2"]),
    "start-first: the new node is there before the old one is told to go, and nobody waits for its drain": (
        [intent("a", 2, "g2", order="start-first", waits=False)], [seen("a.1.7"), seen("a.2.1", "stopping", enabled=False)],
        ["write a.2.2", "reload", "enable a.2.2", "start a.2.2",
         "write a.1.8", "reload", "enable a.1.8", "start a.1.8", "disable a.1.7", "stop a.1.7"]),
    "start-first and its drain is waited for": (
        [intent("a", 1, "g2", order="start-first")], [seen("a.1.7")],
        ["write a.1.8", "reload", "enable a.1.8", "start a.1.8", "disable a.1.7", "stop a.1.7", "remove a.1.7"]),
    "what drained in the background is removed by a later run": (
        [intent("a", 1, "g2", order="start-first", waits=False)],
        [seen("a.1.6", "stopping", enabled=False), seen("a.1.7", "stopped", enabled=False), seen("a.1.8", generation="g2")],
        ["remove a.1.7"]),
    "one too many drains in the background": (
        [intent("a", order="start-first", waits=False)], [seen("a.1.1"), seen("a.2.1")], ["disable a.2.1", "stop a.2.1"]),
    "an absent group is waited for whatever its order": (
        [intent("a", state="absent", order="start-first", waits=False)], [seen("a.1.1")],
        ["disable a.1.1", "stop a.1.1", "remove a.1.1"]),
    "a failed successor is tried again, and the old one stays until it runs": (
        [intent("a", 1, "g2", order="start-first", waits=False)], [seen("a.1.1"), seen("a.1.2", "failed", "g2")],
        ["start a.1.2", "disable a.1.1", "stop a.1.1"]),
    "back to a generation that still drains": (
        [intent("a", order="start-first", waits=False)], [seen("a.1.1", "stopping", enabled=False), seen("a.1.2", generation="g2")],
        ["write a.1.3", "reload", "enable a.1.3", "start a.1.3", "disable a.1.2", "stop a.1.2"]),
    "a record that cannot be read": ([intent("a")], [seen("a.1.1", tells=False)], []),
    "neither record nor file tells: left alone, its file restored": (
        [intent("a")], [seen("a.1.1", tells=False, file=None, enabled=False, env="env g1")],
        ["write a.1.1", "reload", "enable a.1.1"]),
}


def make(
    host: FakeHost, intents: Sequence[plan.Intent], *, only: Sequence[str] | None = None, width: int | str = 1,
    running: dict[Name, int] | None = None, age: float | None = None, canary: str = "", cleans: set[Name] | None = None,
    leaves_last: bool = False,
) -> plan.Plan:
    return plan.make(APP, intents, host.nodes.values(), only=only, batch=Rollout(parallelism=width).batch,
                     running=running, restart_older_than=age, canary=canary, cleans=cleans, leaves_last=leaves_last)


@pytest.mark.parametrize(("intents", "nodes", "steps"), CASES.values(), ids=CASES.keys())
def test_what_is_done(intents: list[plan.Intent], nodes: list[plan.Seen], steps: list[str]) -> None:
    host = FakeHost.of(nodes)
    assert short(make(host, intents).steps(rollout=True)) == steps
    converge(host, intents, lambda now: make(now, intents))
    assert short(host.done) == steps
    assert {name.group for name in host.nodes} == {one.group for one in intents if one.state != "absent" and one.nodes}


def test_a_canary_is_one_node_of_each_stale_group_and_the_rest_comes_later() -> None:
    host = FakeHost.of([seen(f"{group}.{slot}.1") for group in ("a", "b") for slot in (1, 2, 3)] + [seen("c.1.1")])
    intents = [intent(group, 3, "g2", order="start-first", waits=False) for group in ("a", "b")] + [intent("c")]
    whole = short(make(host, intents).steps(rollout=True))
    canary, rest = (short(make(host, intents, canary=word).steps(rollout=True)) for word in ("only", "done"))
    converge(host, intents, lambda now: make(now, intents, canary="only", cleans=set()))
    assert short(host.done) == canary
    assert {step for step in canary if step.startswith("start")} == {"start a.1.2", "start b.1.2"}
    assert sorted(canary + rest) == sorted(whole)
    assert short(make(host, intents, cleans=set()).steps(rollout=True)) == rest
    assert make(host, intents).stale == 4


def test_the_scheduler_is_no_canary_and_waits_for_the_workers_of_all_hosts() -> None:
    host = FakeHost.of([seen("a.1.1"), seen("a.2.1"), seen("scheduler.1.1")])
    intents = [intent("a", 2, "g2", order="start-first", waits=False), intent("scheduler", 1, "g2", comes_last=True)]
    whole = short(make(host, intents).steps(rollout=True))
    canary = short(make(host, intents, canary="only").steps(rollout=True))
    rest = short(make(host, intents, canary="done", leaves_last=True).steps(rollout=True))
    last = short(make(host, intents, only=["scheduler"]).steps(rollout=True))
    assert canary + rest + last == whole
    assert {step for step in canary + rest if step.startswith("start")} == {"start a.1.2", "start a.2.2"}
    assert "start scheduler.1.2" in last
    converge(host, intents, lambda now: make(now, intents, leaves_last=True, cleans=set()))
    assert make(host, intents, leaves_last=True).stale == 1
    assert short(make(host, intents, cleans=set()).steps(rollout=True)) == last


@pytest.mark.parametrize("nodes", [
    [seen("a.1.1", quiesced=True)],
    [seen("a.1.1", quiesced=True), seen("a.2.1", generation="g0", quiesced=True)],
], ids=["one", "one of them stale"])
def test_a_drained_group_gets_no_new_nodes_which_would_take_its_tasks(nodes: list[plan.Seen]) -> None:
    made = make(FakeHost.of(nodes), [intent("a", 3)])
    assert made.steps(rollout=True) == []
    assert any(f"{3 - len(nodes)} more " in note and "resume.yml ends that" in note for note in made.notes)
    # It is said too where nothing else is to be done.
    made = make(FakeHost.of(nodes), [intent("a", len(nodes))])
    assert made.steps(rollout=True) == []
    assert [note for note in made.notes if "told to take no new tasks" in note and "resume.yml ends that" in note] == list(made.notes) != []
    # One that is on its way down is no reason.
    made = make(FakeHost.of([seen("a.1.1", "stopping", enabled=False, quiesced=True)]), [intent("a")])
    assert "start a.1.2" in short(made.steps(rollout=True))


def test_without_the_rollout_running_nodes_are_left_and_all_else_is_done() -> None:
    host = FakeHost.of([seen("a.1.1"), seen("b.1.1", "failed")])
    made = make(host, [intent("a", 2, "g2"), intent("b")])
    assert short(made.steps(rollout=False)) == [
        "write a.2.1", "reload", "enable a.2.1", "start a.2.1", "start b.1.1"]


def test_idle_slots_go_first_whatever_their_number() -> None:
    host = FakeHost.of([seen("a.1.1"), seen("a.2.1"), seen("a.3.1")])
    busy = {node.name: 2 for node in host.nodes.values() if node.name.slot != 1}
    made = make(host, [intent("a", 2)], running=busy)
    assert short(made.steps(rollout=True)) == ["disable a.1.1", "stop a.1.1", "remove a.1.1"]


def test_a_node_that_does_not_answer_is_taken_to_be_the_busiest() -> None:
    """A busy node of the solo pool is silent: it counted as idle, and was the first to go."""
    host = FakeHost.of([seen("a.1.1"), seen("a.2.1"), seen("a.3.1"), seen("a.4.1")])
    names = {f"a{name.slot}": name for name in host.nodes}
    told = {"a1": Report(running=3), "a2": Report(running=0), "a4": Report(running=None)}
    running = report.tasks(names, told)
    assert [running[names[node]] for node in ("a1", "a2", "a3", "a4")] == [3, 0, report.UNTOLD, report.UNTOLD]
    made = make(host, [intent("a", 2)], running=running)
    assert sorted(step for step in short(made.steps(rollout=True)) if step.startswith("stop")) == ["stop a.1.1", "stop a.2.1"]


def test_a_slot_that_an_interrupted_scale_down_has_stopped_already_is_the_one_that_goes() -> None:
    # Its tasks are done; another slot that has become idle since must not go in its place.
    host = FakeHost.of([seen("a.1.1", "stopped", enabled=False), seen("a.2.1"), seen("a.3.1")])
    assert short(make(host, [intent("a", 2)]).steps(rollout=True)) == ["remove a.1.1"]


def test_an_unreadable_record_is_told() -> None:
    made = make(FakeHost.of([seen("a.1.1", tells=False)]), [intent("a")])
    assert made.notes == ("workfleet.shop.a.1.1: what it was started with cannot be read; it is left as it is",)


def test_a_restart_by_wish_replaces_what_is_current_once() -> None:
    host = FakeHost.of([seen("a.1.1"), seen("a.2.1")])
    intents = [intent("a", 2)]
    converge(host, intents, lambda now: make(now, intents, age=100.0))
    assert sorted(map(str, host.nodes)) == ["workfleet.shop.a.1.2", "workfleet.shop.a.2.2"]
    assert Counter(item.action for item in host.done)["start"] == 2
    assert {item.reason for item in host.done if item.action == "write"} == {"a restart was asked for"}


@pytest.mark.parametrize("age", [100.0, None], ids=["by a restart", "back to its generation"])
def test_what_a_restart_had_replaced_was_started_again_by_the_next_where_it_had_drained(age: float | None) -> None:
    """Whether the old nodes of a first restart still drain makes no difference to a second: each node is replaced once, by a new one."""
    intents = [intent("a", 2, order="start-first", waits=False)]
    here = {"generation": "g1" if age else "g2"}
    expected = [f"{word} a.{slot}.{number}".replace("reload a.1.3", "reload").replace("reload a.2.3", "reload")
                for slot in (1, 2) for word, number in
                (("write", 3), ("reload", 3), ("enable", 3), ("start", 3), ("disable", 2), ("stop", 2))]
    for first, second in (("stopping", "stopping"), ("stopped", "stopping"), ("stopped", "stopped")):
        host = FakeHost.of([seen("a.1.1", first, enabled=False), seen("a.1.2", **here), seen("a.2.1", second, enabled=False),
                            seen("a.2.2", **here)])
        assert short(make(host, intents, age=age, cleans=set()).steps(rollout=True)) == expected
        converge(host, intents, lambda now: make(now, intents, age=age, cleans=set()))
        assert short(host.done) == expected


def test_a_percentage_means_the_group_and_not_what_is_left_to_do() -> None:
    host = FakeHost.of([seen(f"a.{slot}.1") for slot in range(1, 9)])
    intents = [intent("a", 8, "g2")]
    foretold = make(host, intents, width="25%").rollout
    assert [sum(item.action == "stop" for item in phase.steps) for phase in foretold] == [2, 2, 2, 2]
    converge(host, intents, lambda now: make(now, intents, width="25%"))
    assert host.done == [item for phase in foretold for item in phase.steps]


# --- What holds for every host ------------------------------------------------------------------------------------

GROUPS = ("a", "b", "c")
SOME = settings(deadline=None, max_examples=120)


@st.composite
def present(draw: st.DrawFn, group: str, slot: int, incarnation: int) -> plan.Seen:
    activity = draw(st.sampled_from(["running"] * 4 + ["stopped", "stopping", "failed", "starting"]))
    generation = draw(st.sampled_from(["g1", "g2"]))
    up = activity in ("running", "starting", "stopping")
    # Only a process can be there without a unit file.
    file = draw(st.sampled_from([generation] * 5 + ["g1", None] if up else [generation]))
    enabled = draw(st.booleans())
    if activity == "stopping" and enabled and file is None:
        enabled = False
    env = None if draw(st.integers(0, 9)) == 0 else f"env {file}"
    return seen(f"{group}.{slot}.{incarnation}", activity, generation, file=file, env=env, enabled=enabled,
                tells=draw(st.integers(0, 5)) > 0,
                **({"text": text_of(file, draw(st.sampled_from(["v1", "v2"])))} if file else {}))


@st.composite
def hosts(draw: st.DrawFn) -> FakeHost:
    where = draw(st.sets(st.tuples(st.sampled_from(GROUPS), st.integers(1, 5), st.integers(1, 3)), max_size=9))
    return FakeHost.of([draw(present(*place)) for place in sorted(where)])


#: The generation of what is left of nodes that were replaced; of such none runs, or has tasks.
GONE = "gone"


@st.composite
def fleets(draw: st.DrawFn) -> FakeHost:
    """Hosts that run well, all of it, as before most rollouts; beside some nodes is what is left of others that were replaced."""
    sizes = {group: draw(st.integers(0, 5)) for group in GROUPS}
    where = [(f"{group}.{slot}", draw(st.integers(1, 4))) for group in GROUPS for slot in range(1, sizes[group] + 1)]
    run = [seen(f"{place}.{number}", generation=draw(st.sampled_from(["g1", "g2"]))) for place, number in where]
    beside = st.sampled_from([None, None, -1, 1])
    left = [f"{place}.{number + away}" for place, number in where if (away := draw(beside)) and number + away > 0]
    return FakeHost.of([*run, *(seen(place, "stopped", enabled=False, generation=GONE) for place in left)])


@st.composite
def declarations(draw: st.DrawFn, states: Sequence[str] = ("started", "started", "started", "stopped", "absent"),
                 ) -> list[plan.Intent]:
    chosen = draw(st.lists(st.sampled_from(GROUPS), unique=True, max_size=3))
    order = draw(st.sampled_from(["stop-first", "start-first"]))
    waits = order == "stop-first" or draw(st.booleans())
    return [intent(group, draw(st.integers(0, 5)), draw(st.sampled_from(["g1", "g2"])),
                   state=draw(st.sampled_from(states)), version=draw(st.sampled_from(["v1", "v2"])), order=order, waits=waits)
            for group in chosen]


WIDTHS = st.sampled_from([1, 1, 2, 3, "20%", "50%", "100%"])
TASKS = st.dictionaries(st.tuples(st.sampled_from(GROUPS), st.integers(1, 5)), st.integers(0, 4))


def tasks(host: FakeHost, by_slot: dict[tuple[str, int], int]) -> dict[Name, int]:
    return {name: by_slot.get((name.group, name.slot), 0) for name, node in host.nodes.items() if GONE not in (node.present.text or "")}


@SOME
@given(hosts(), declarations(), WIDTHS, TASKS)
def test_every_host_comes_to_rest_as_declared(
    host: FakeHost, intents: list[plan.Intent], width: int | str, by_slot: dict[tuple[str, int], int]
) -> None:
    for _ in range(2):  # what drained in the background, the next run removes
        converge(host, intents, lambda now: make(now, intents, width=width, running=tasks(now, by_slot)))
        host.settle()
    converge(host, intents, lambda now: make(now, intents, width=width))
    for one in intents:
        mine = [node for name, node in host.nodes.items() if name.group == one.group]
        assert len(mine) == (0 if one.state == "absent" else one.nodes)
        for node in mine:
            assert (node.present.text, node.env) == (one.text(node.name), one.env(node.name))
            assert node.present.enabled is (one.state == "started")
            assert node.present.is_up is (one.state == "started")
            assert node.present.generation in (None, one.generation)
    assert {name.group for name in host.nodes} <= {one.group for one in intents}


@SOME
@given(fleets(), declarations(), WIDTHS, TASKS, st.data())
def test_what_is_done_is_what_was_foretold(
    host: FakeHost, intents: list[plan.Intent], width: int | str, by_slot: dict[tuple[str, int], int], data: st.DataObject
) -> None:
    foretold = make(host, intents, width=width, running=tasks(host, by_slot)).steps(rollout=True)
    drained = {name for name, node in host.nodes.items() if node.is_drained}
    converge(host, intents, lambda now: make(now, intents, width=width, running=tasks(now, by_slot), cleans=drained),
             meanwhile=lambda: data.draw(st.booleans(), label="what drains has gone"))
    assert host.done == foretold


@SOME
@given(st.one_of(hosts(), fleets()), declarations())
def test_what_is_started_after_a_stop_is_foretold_before_it(host: FakeHost, intents: list[plan.Intent]) -> None:
    still = [one if one.state == "absent" else replace(one, state="stopped") for one in intents]
    foretold = plan.stopped(APP, make(host, still), still, list(host.nodes.values()))
    converge(host, still, lambda now: make(now, still))
    assert short(plan.make(APP, intents, foretold).steps(rollout=True)) == short(make(host, intents).steps(rollout=True))


@SOME
@given(fleets(), declarations(), WIDTHS, TASKS, st.data())
def test_a_run_that_was_killed_anywhere_is_finished_by_the_next(
    host: FakeHost, intents: list[plan.Intent], width: int | str, by_slot: dict[tuple[str, int], int],
    data: st.DataObject,
) -> None:
    def again(now: FakeHost) -> plan.Plan:
        return make(now, intents, width=width, running=tasks(now, by_slot))

    def to_the_end(now: FakeHost) -> None:
        converge(now, intents, again)
        now.settle()
        converge(now, intents, again)

    steps = again(host).steps(rollout=True)
    whole = host.copy()
    to_the_end(whole)
    host.apply(steps[:data.draw(st.integers(0, len(steps)), label="killed after")], intents)
    if data.draw(st.booleans(), label="what drained has gone meanwhile"):
        host.settle()
    to_the_end(host)
    assert host.state() == whole.state()
    assert by_unit(host.done) == by_unit(whole.done)
    if width == 1:
        # Whoever reads the steps of both runs reads the steps of one. Nothing is loaded that loaded itself.
        assert stops(host.done) == stops(whole.done)


def by_unit(steps: Sequence[Step]) -> dict[str, list[tuple[str, str]]]:
    """Return what happened to each unit, in order, with reasons; a reload belongs to none."""
    found = defaultdict(list)
    for item in steps:
        if item.unit is not None:
            found[item.unit].append((item.action, item.reason))
    return dict(found)


def stops(steps: Sequence[Step]) -> list[str]:
    return [text for text in short(item for item in steps if item.reason == plan.REPLACED) if text.startswith("stop")]


@SOME
@given(fleets(), declarations(["started"]), WIDTHS, st.integers(0, 60), st.booleans())
def test_a_rollout_has_never_more_nodes_of_a_group_down_than_allowed(
    host: FakeHost, intents: list[plan.Intent], width: int | str, killed_after: int, gone: bool
) -> None:
    host.apply(make(host, intents, width=width).steps(rollout=True)[:killed_after], intents)
    if gone:
        host.settle()
    converge(host, intents, lambda now: make(now, intents, width=width))
    # The others were taken by a scale-down.
    kept = {(name.group, name.slot) for name, node in host.nodes.items() if not (node.is_leaving or node.is_drained)}
    for one in intents:
        worst = max((sum(slot in kept and slot[0] == one.group for slot in down) for down in host.down), default=0)
        allowed = Rollout(parallelism=width).batch(one.nodes) if one.order == "stop-first" else 0
        assert worst <= allowed, short(host.done)


@SOME
@given(fleets(), declarations(["started"]), WIDTHS)
def test_a_batch_is_of_one_group_and_starts_what_it_stops(
    host: FakeHost, intents: list[plan.Intent], width: int | str
) -> None:
    phases = iter(make(host, intents, width=width).rollout)
    for phase in phases:
        batch = list(phase.steps)
        if not any(item.action == "stop" for item in batch):
            batch += next(phases).steps
        stopped = Counter(item.group for item in batch if item.action == "stop")
        started = Counter(item.group for item in batch if item.action == "start")
        assert stopped == started and len(stopped) == 1
        for one in intents:
            assert stopped[one.group] <= Rollout(parallelism=width).batch(one.nodes)


@SOME
@given(hosts(), declarations(), st.sets(st.sampled_from(GROUPS), min_size=1))
def test_narrowed_to_some_groups_nothing_of_the_others_is_touched(
    host: FakeHost, intents: list[plan.Intent], only: set[str]
) -> None:
    others = {entry for entry in host.copy().state() if entry[0].group not in only}  # type: ignore[attr-defined]
    converge(host, intents, lambda now: make(now, intents, only=sorted(only)))
    assert {item.group for item in host.done} <= {*only, None}
    assert {entry for entry in host.state() if entry[0].group not in only} == others  # type: ignore[attr-defined]


@SOME
@given(hosts(), declarations(), TASKS)
def test_slots_are_never_renumbered_and_incarnations_only_grow(
    host: FakeHost, intents: list[plan.Intent], by_slot: dict[tuple[str, int], int]
) -> None:
    made = make(host, intents, running=tasks(host, by_slot))
    for name in made.wanted:
        there = [node for other, node in host.nodes.items() if (other.group, other.slot) == (name.group, name.slot)]
        up = [node for node in there if node.present.is_up]
        # What replaces a running node comes behind the removal of those that do not run, whose numbers are free then.
        above = {max((node.name.incarnation for node in some), default=0) for some in (there, up)}
        assert name in host.nodes or name.incarnation - 1 in above
    for one in (one for one in intents if one.state == "started"):
        living = {name.slot for name, node in host.nodes.items() if name.group == one.group and not node.is_leaving}
        wanted = {name.slot for name in made.wanted if name.group == one.group}
        if len(living) <= one.nodes:
            free = [slot for slot in range(1, 12) if slot not in living]
            assert wanted == living | set(free[: one.nodes - len(living)])
        else:
            assert wanted <= living
            load = {slot: sum(by_slot.get((one.group, slot), 0) for name in host.nodes
                              if (name.group, name.slot) == (one.group, slot)) for slot in living}
            works = {slot: any(name.slot == slot and node.is_at_work for name, node in host.nodes.items()
                               if name.group == one.group) for slot in living}
            keys = {slot: (works[slot], load[slot], -slot) for slot in living}
            assert all(keys[gone] < keys[kept] for gone in living - wanted for kept in wanted)


@SOME
@given(hosts(), declarations(["started"]), WIDTHS)
def test_a_node_whose_record_cannot_be_read_is_never_replaced_for_that(
    host: FakeHost, intents: list[plan.Intent], width: int | str
) -> None:
    """Only where its own file tells that it is of another generation is it part of a rollout."""
    stale = {str(name) for phase in make(host, intents, width=width).rollout for item in phase.steps
             if item.action == "stop" for name in [item.unit]}
    declared = {one.group: one.generation for one in intents}
    for name, node in host.nodes.items():
        if node.present.is_up and node.present.generation is None and str(name) in stale:
            slot = [other for other in host.nodes if (other.group, other.slot) == (name.group, name.slot)]
            assert node.present.file_generation not in (None, declared[name.group]) or node.is_leaving or len(slot) > 1
