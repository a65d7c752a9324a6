"""Wanted totals in a real broker: evaluated once a run, kept, set by hand, and left alone where something cannot be told."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.engines.celery import queues as celery_queues
from plugins.module_utils.workfleet.engines.taskqueue import Source
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.model import Policy
from plugins.module_utils.workfleet.queues import info as queues
from plugins.module_utils.workfleet.scaling import totals as fleet_scale
from plugins.module_utils.workfleet.scaling.policy import State
from plugins.module_utils.workfleet.scaling.totals import Group, Moment, Request, Told
from tests.integration import celery_fleet
from tests.patience import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import RedisServer

KEY = "workfleet:shop:scale:a"
AT_ONCE = Policy(max=10, backlog_per_node=10, scale_up_after_seconds=0, scale_down_after_seconds=0)
TASK = json.dumps({"body": "", "headers": {"id": "x", "task": "t"}, "properties": {
    "delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": "q"}}})


class Broker:
    """A fleet of two hosts that ask one Redis."""

    def __init__(self, redis: RedisServer) -> None:
        self.redis = redis
        self.runs = 0

    def tasks(self, count: int) -> None:
        """Have this many tasks wait."""
        self.redis.call("DEL", "q")
        if count:
            self.redis.call("RPUSH", "q", *[TASK] * count)

    def begin(self) -> None:
        """Have all hosts tell what they have: the run before the first decision."""
        for host in ("h1", "h2"):
            self.ask(host=host, run="begin")

    def ask(
        self, policy: Policy = AT_ONCE, *, host: str = "h1", run: str = "", hosts: dict[str, int] | None = None, check: bool = False,
        **more: Any,
    ) -> Told:
        """Ask as one host; each time in another run unless one is named."""
        self.runs += 1
        group = Group("a", "celery", ["q"], policy, {"h1": 1, "h2": 1} if hosts is None else hosts)
        request = Request("shop", host, self.redis.url(), {}, [group], run or f"run {self.runs}", "the autoscaler", **more)
        return fleet_scale.work(request, check=check)[0]

    def kept(self) -> dict[str, Any] | None:
        """What the broker keeps of the group."""
        text = self.redis.call("GET", KEY)
        return None if text is None else dict(json.loads(text))

    def alter(self, **changes: Any) -> None:
        """Change what the broker keeps."""
        self.redis.call("SET", KEY, json.dumps({**(self.kept() or {}), **changes}))


@pytest.fixture
def empty(redis_server: RedisServer) -> Broker:
    return Broker(redis_server)


@pytest.fixture
def broker(empty: Broker) -> Broker:
    empty.begin()
    return empty


def test_all_hosts_of_a_run_get_the_decision_of_the_first(broker: Broker) -> None:
    broker.tasks(65)
    one = broker.ask(host="h1", run="r")
    broker.tasks(2)
    other = broker.ask(host="h2", run="r")
    assert (one.before, one.nodes, one.here, one.evaluated) == (2, 7, 4, True)
    assert (other.before, other.nodes, other.here, other.evaluated) == (2, 7, 3, False)
    assert one.reason == other.reason == "65 tasks, 10 a node"
    assert broker.ask().nodes == 1


def test_windows_are_kept_from_run_to_run(broker: Broker) -> None:
    policy = replace(AT_ONCE, scale_up_after_seconds=0.5, scale_down_after_seconds=100)
    broker.tasks(50)
    assert broker.ask(policy).nodes == 2
    assert broker.ask(policy).reason == "50 tasks, 10 a node: 5 nodes, when that was so for 0.5 s"
    time.sleep(0.6)
    assert broker.ask(policy).nodes == 5
    broker.tasks(0)
    assert broker.ask(policy).nodes == 5


def test_evaluations_at_the_same_time_each_build_on_the_other(broker: Broker) -> None:
    """Each asks for one node more than there are: where one was lost the sum would be short."""
    policy = replace(AT_ONCE, max=99, oldest_age_seconds=0.001, backlog_per_node=1000, scale_down_after_seconds=900)
    broker.tasks(1)
    broker.ask(policy, check=True)  # the age of a task is known from the second look on
    time.sleep(0.1)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda number: broker.ask(policy, run=f"own {number}"), range(12)))
    assert sorted(told.nodes or 0 for told in found) == list(range(3, 15))


def test_a_broker_that_is_gone_holds_every_group_and_says_so(broker: Broker) -> None:
    group = Group("a", "celery", ["q"], AT_ONCE, {"h1": 1})
    request = Request("shop", "h1", "redis://127.0.0.1:1/0", {}, [group, replace(group, name="b")], "r", "x")
    found = fleet_scale.work(request, check=False)
    assert [(told.group, told.nodes, told.here, told.held) for told in found] == [("a", None, None, True), ("b", None, None, True)]
    assert "cannot connect to redis://127.0.0.1:1/0" in found[0].reason


def test_a_queue_that_cannot_be_read_holds_what_was_decided(broker: Broker) -> None:
    broker.tasks(40)
    assert broker.ask().nodes == 4
    broker.redis.call("DEL", "q")
    broker.redis.call("SET", "q", "a text of somebody's")
    told = broker.ask(host="h2")
    assert (told.nodes, told.here, told.held) == (4, 2, True)
    assert told.reason.startswith("held: ") and "q" in told.reason


def test_before_the_first_decision_a_hold_leaves_every_host_as_it_is(empty: Broker) -> None:
    empty.redis.call("SET", "q", "a text of somebody's")
    told = empty.ask(hosts={"h1": 5, "h2": 0})
    assert (told.here, told.held) == (None, True)
    assert "no queue of Celery's" in told.reason


def test_another_nodes_in_the_inventory_and_a_hold_leave_every_host_as_that_says(broker: Broker) -> None:
    broker.redis.call("SET", "q", "a text of somebody's")
    before = broker.kept()
    told = broker.ask(hosts={"h1": 5, "h2": 0})
    assert (told.here, told.held, broker.kept()) == (None, True, before)


def scaled_to(folder: Path, nodes: int, declared: int = 1) -> str:
    """The root of an app on a host where so many nodes were set."""
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "scale.json").write_text(json.dumps({"a": {"nodes": nodes, "declared": declared, "by": "the autoscaler"}}))
    return str(folder)


def test_an_emptied_broker_holds_and_all_goes_on_from_what_hosts_have(broker: Broker, tmp_path: Path) -> None:
    """18 nodes ran, the broker was emptied, and two were wanted at once: those of the inventory."""
    policy = replace(AT_ONCE, max=20, scale_down_after_seconds=300)
    roots = {"h1": scaled_to(tmp_path / "h1", 9), "h2": scaled_to(tmp_path / "h2", 9)}
    assert broker.ask(policy, nodes=18, root=roots["h1"]).here == 9
    broker.redis.call("FLUSHALL")
    assert broker.ask(policy, root=roots["h1"], check=True).here is None
    assert broker.kept() is None
    found = [broker.ask(policy, host=host, run="r", root=root) for host, root in (*roots.items(), *roots.items())]
    assert [(told.nodes, told.here, told.held) for told in found] == [(None, None, True)] * 4
    assert "workfleet:shop:scale:a is not in the broker" in found[0].reason
    assert "This host has 9 of the nodes" in found[1].reason
    assert [(told.nodes, told.here) for told in [broker.ask(policy, host=host, run="s") for host in roots]] == [(18, 9)] * 2
    broker.tasks(200)
    assert broker.ask(policy).nodes == 20


def test_a_host_that_is_not_heard_of_counts_as_the_others_and_a_new_one_as_the_inventory_says(empty: Broker, tmp_path: Path) -> None:
    policy = replace(AT_ONCE, max=40, scale_down_after_seconds=300)
    three = {"h1": 1, "h2": 1, "h3": 1}
    empty.ask(policy, hosts=three, run="r", root=scaled_to(tmp_path / "h1", 9))
    empty.ask(policy, hosts=three, run="r", host="h2", root=str(tmp_path / "new"))
    assert empty.ask(policy, hosts=three).nodes == 15
    empty.redis.call("FLUSHALL")
    other = scaled_to(tmp_path / "h2", 7, declared=2)  # the inventory said 2 then, and is obeyed since it does not
    empty.ask(policy, run="r", root=other)
    assert empty.ask(policy).nodes == 2


def test_a_pause_in_an_emptied_broker_keeps_what_hosts_have(empty: Broker, tmp_path: Path) -> None:
    for host in ("h1", "h2"):
        told = empty.ask(host=host, run="r", control="pause", root=scaled_to(tmp_path / host, 4))
        assert (told.here, told.reason) == (None, "paused")
    assert [(told.nodes, told.reason) for told in (empty.ask(), empty.ask(control="resume"))] == [(8, "held: it is paused"), (8, "resumed")]


def test_a_prefix_for_all_keys_holds_for_ours(empty: Broker) -> None:
    empty.begin()
    empty.redis.call("FLUSHALL")
    group = Group("a", "celery", ["q"], AT_ONCE, {"h1": 1})
    request = Request("shop", "h1", empty.redis.url(), {"global_keyprefix": "p:"}, [group], "r", "x")
    fleet_scale.work(request, check=False)
    assert empty.redis.call("KEYS", "*scale*") == [b"p:workfleet:shop:scale:a"]


def test_groups_of_one_engine_are_told_by_one_look(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = celery_queues.figures

    def spy(question: Any) -> Any:
        asked.append(question.queues)
        return real(question)

    monkeypatch.setattr(celery_queues, "figures", spy)
    groups = [Group(name, "celery", [queue], AT_ONCE, {"h1": 1}) for name, queue in (("b", "q"), ("c", "other"))]
    broker.tasks(25)
    for run in "xy":
        found = fleet_scale.work(Request("shop", "h1", broker.redis.url(), {}, groups, run, "x"), check=False)
    assert [told.nodes for told in found] == [3, 1]
    assert asked == [["q", "other"]] * 2


def test_a_node_that_does_not_answer_may_be_busy_so_none_goes_and_more_may_come() -> None:
    """A busy node of the solo pool is silent, and its task is in no figure: it was counted as nothing to do."""
    with celery_fleet.fleet() as fleet:
        fleet.start("w@h", pool="solo", queues="q")
        fleet.ready("w@h")
        group = Group("a", "celery", ["q"], AT_ONCE, {"h1": 3})

        def ask(run: str) -> Told:
            return fleet_scale.work(Request("shop", "h1", fleet.url, {}, [group], run, "x"), check=False)[0]

        ask("begin")
        fleet.python("from app import tasks\ntasks.fetch.apply_async((20,), queue='q')")
        until(lambda: fleet.client.call("LLEN", "q") == 0)
        told = ask("one")
        assert (told.nodes, told.reason) == (3, "no fewer nodes than now: what runs of queue q cannot be told, for not all nodes answer")
        fleet.python("from app import tasks\nfor _ in range(45): tasks.fetch.apply_async((0,), queue='q')")
        assert ask("two").nodes == 5
        found = queues.look("shop", [Source("celery", fleet.url, ["q"])])
        assert [(entry["waiting"], entry["running"], entry["consumers"]) for entry in found["queues"]] == [(45, None, None)]
        assert found["problems"] == [
            "1 Celery workers listen on the broker, and 0 answered within 1 s (w@h did not): who consumes and what runs is not told. "
            "A busy node of the solo pool is silent, and so is one that hangs"]


def test_an_unknown_age_matters_only_to_a_policy_that_uses_it(broker: Broker) -> None:
    broker.tasks(40)
    told = broker.ask(replace(AT_ONCE, oldest_age_seconds=5))
    assert told.held and told.reason == "held: the age of the oldest task cannot be told"
    assert broker.ask().nodes == 4


@pytest.mark.parametrize("same_host", [True, False])
def test_clocks_that_jump_shorten_no_window(broker: Broker, same_host: bool) -> None:
    policy = replace(AT_ONCE, scale_down_after_seconds=50)
    broker.tasks(60)
    broker.ask(policy)
    broker.tasks(0)
    assert broker.ask(policy).nodes == 6
    # The broker's clock was set back by a day since the last evaluation; or forward, where the same host knows better.
    day = 86400 if not same_host else -86400
    broker.alter(at=(broker.kept() or {})["at"] + day, **({} if same_host else {"boot": "another"}))
    assert broker.ask(policy).nodes == 6


def test_time_between_hosts_is_the_brokers() -> None:
    kept = fleet_scale.Kept(State.start(1), {}, at=100.0, boot="b", uptime=5.0)
    assert Moment(160.0, boot="other", uptime=0.0).since(kept) == 60
    assert Moment(160.0, boot="b", uptime=12.0).since(kept) == 7
    assert Moment(90.0, boot="other", uptime=0.0).since(kept) == 0


def test_a_number_set_by_hand_holds_for_the_windows(broker: Broker) -> None:
    policy = replace(AT_ONCE, scale_down_after_seconds=50)
    broker.tasks(0)
    told = broker.ask(policy, nodes=8)
    assert (told.before, told.nodes, told.here, told.reason) == (2, 8, 4, "set by hand")
    assert broker.ask(policy).nodes == 8


def test_a_pause_outlasts_runs_until_it_is_ended(broker: Broker) -> None:
    broker.tasks(90)
    assert broker.ask(control="pause", nodes=3).reason == "set by hand, paused"
    assert [(told.nodes, told.reason) for told in (broker.ask(), broker.ask())] == [(3, "held: it is paused")] * 2
    assert broker.ask(control="resume").nodes == 3
    assert broker.ask().nodes == 9


def test_a_pause_moves_nothing(empty: Broker) -> None:
    assert empty.ask(control="pause", hosts={"h1": 3, "h2": 0}).here is None


def test_the_inventorys_numbers_again(broker: Broker) -> None:
    broker.tasks(90)
    broker.ask()
    told = broker.ask(nodes="inventory")
    assert (told.nodes, told.before, broker.kept()) == (None, 9, None)


def test_setting_fails_where_the_broker_is_gone() -> None:
    request = Request("shop", "h1", "redis://127.0.0.1:1/0", {}, [Group("a", "celery", ["q"], AT_ONCE, {"h1": 1})], "r", "x", nodes=4)
    with pytest.raises(WorkfleetError, match="cannot connect"):
        fleet_scale.work(request, check=False)


def test_a_check_decides_and_stores_nothing(broker: Broker) -> None:
    broker.tasks(65)
    before = broker.kept()
    assert broker.ask(check=True).nodes == 7
    assert broker.ask(check=True, nodes=4).nodes == 4
    assert broker.kept() == before


def test_another_nodes_in_the_inventory_begins_anew_and_another_host_does_not(broker: Broker) -> None:
    paused = replace(AT_ONCE, paused=True)
    broker.tasks(80)
    broker.ask()
    assert broker.ask(paused, host="h3", hosts={"h1": 1, "h2": 1, "h3": 1}).nodes == 8
    told = broker.ask(hosts={"h1": 1, "h2": 2, "h3": 1}, policy=replace(AT_ONCE, scale_up_after_seconds=60))
    assert (told.before, told.nodes) == (4, 4)


@pytest.mark.parametrize("text", [
    '{"state": {"nodes": 1, "high": [[0, 1]], "low": [[0, 1]]}, "declared": {}, "counted": 7}',
    "x", "{}", '{"state": {"nodes": 1, "high": [], "low": []}}', '["a"]'])
def test_what_is_not_ours_under_the_key_is_named_and_holds(broker: Broker, text: str) -> None:
    broker.redis.call("SET", KEY, text)
    told = broker.ask()
    assert told.held and told.here is None
    assert f"the key {KEY} in the broker cannot be read" in told.reason
    assert broker.redis.call("GET", KEY) == text.encode()
