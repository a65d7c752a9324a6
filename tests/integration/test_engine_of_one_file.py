"""An engine of one file, which starts a node and looks at it: what it has not is said in a sentence, and nothing is touched."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable

import pytest

from plugins.module_utils.workfleet import engines, resp
from plugins.module_utils.workfleet.engines import taskqueues
from plugins.module_utils.workfleet.engines.base import Engine
from plugins.module_utils.workfleet.engines.taskqueue import Source, TaskQueue
from plugins.module_utils.workfleet.engines.verbs import probe
from plugins.module_utils.workfleet.engines.verbs.reaping import Reaping
from plugins.module_utils.workfleet.engines.verbs.report import Report
from plugins.module_utils.workfleet.engines.verbs.stash import Choice, Stash
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.queues import events, letters, load, purge, reap, reset
from plugins.module_utils.workfleet.queues import info as queues
from plugins.module_utils.workfleet.release import preflight
from plugins.module_utils.workfleet.scaling import totals
from plugins.module_utils.workfleet.spec import workers as spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.integration.conftest import RedisServer

HERE: Any = None  # nothing gets so far as to tell anything
APP: dict[str, Any] = {"name": "shop", "root": "/opt/shop"}


class Sleeper(Engine):
    """Start it, look at it, nothing else."""

    name = "sleeper"
    speaks = True
    schemes = ("redis",)

    def command(self, group: Any, place: Any) -> list[str]:
        return ["/bin/sleep", "1000"]

    def inspect(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Report]:
        return {node: Report(pid=1) for node in nodes}


class NoMover(Stash):
    """It could empty a queue; that is not yet to know who is at work on it."""

    def check(self) -> None:
        """All is fine."""


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Sleeper:
    engine = Sleeper()
    monkeypatch.setitem(engines.ENGINES, engine.name, engine)
    monkeypatch.setitem(engines.ALL, engine.name, engine)
    return engine


@pytest.fixture
def source(sleeper: Sleeper, redis_server: RedisServer) -> Iterator[Source]:
    """Its one queue; whatever is asked of it, all that is in the database stays as it is."""
    redis_server.call("RPUSH", "naps", "a task")
    yield Source(sleeper.name, redis_server.url(), ["naps"], {}, redis_server.url())
    assert redis_server.call("KEYS", "*") == [b"naps"]
    assert redis_server.call("LRANGE", "naps", 0, -1) == [b"a task"]


def test_a_group_of_it_is_declared_and_looked_at(sleeper: Sleeper) -> None:
    raw = {"name": "w", "engine": "sleeper", "queues": ["naps"], "app": "anything"}
    declared = spec.parse({"app": {**APP, "broker_url": "redis://h/0"}, "groups": [raw]})
    assert [(group.engine, sleeper.queues(group)) for group in declared.groups] == [("sleeper", ("naps",))]
    assert sleeper.inspect("redis://h/0", ["shop.w.1.1@h"], {}, 1)["shop.w.1.1@h"].pid == 1


def test_its_queues_are_listed_without_figures_and_it_is_said_why(source: Source) -> None:
    found = queues.look("shop", [source])
    assert found["problems"] == ["engine sleeper tells no figures of its queues"]
    assert [(each["queue"], each["waiting"], each["consumers"]) for each in found["queues"]] == [("naps", None, None)]


def run(source: Source, client: resp.Client) -> purge.Run:
    return purge.Run(client, "shop", source.engine, source.options, "a test", {source.engine: source.queues})


def purged(source: Source, client: resp.Client) -> Any:
    return purge.step(run(source, client), {"id": "1", "step": "write", "force": False, "path": "/nowhere", "header": {}},
                      Choice("naps"), check=False)


def foretold(source: Source, client: resp.Client) -> Any:
    return purge.foresee(run(source, client), {"app": "shop", "engine": "sleeper", "id": "1", "queue": "naps"})


def listed(source: Source, client: resp.Client) -> Any:
    return letters.work(taskqueues.named("sleeper").dead_letters(client, "naps", {}), None, None, replay=False, check=False)


def loaded(source: Source, client: resp.Client) -> Any:
    return load.start({"app": "shop", "engine": "sleeper", "broker_url": source.url, "queues": ["naps"]}, HERE)


def followed(source: Source, client: resp.Client) -> Any:
    return events.start({"engine": "sleeper", "url": source.url, "groups": [], "wish": {}}, HERE)


def reset_by(step: str, **more: Any) -> Callable[[Source, resp.Client], Any]:
    return lambda source, client: reset.step(step, reset.Order("shop", source, holder="a test", **more), check=False)


@pytest.mark.parametrize(("act", "said"), [
    (purged, "engine sleeper has nothing that takes tasks or results out of the broker"),
    (foretold, "its queues cannot be purged, restored or reset. Nothing was touched"),
    (listed, "queue naps: engine sleeper keeps no dead letters"),
    (loaded, "engine sleeper has no queues that tasks could be sent to"),
    (followed, "engine sleeper has no task events"),
    (reset_by("look"), "engine sleeper has nothing that takes tasks or results out of the broker"),
    (reset_by("alone"), "engine sleeper does not tell, or not of all its workers, who consumes the queues"),
])
def test_what_it_has_not_is_refused_in_a_sentence(source: Source, act: Callable[[Source, resp.Client], Any], said: str) -> None:
    with resp.connect(source.url) as client, pytest.raises(WorkfleetError) as refused:
        act(source, client)
    assert said in str(refused.value)


@pytest.mark.parametrize("step", ["look", "alone"])
def test_a_reset_is_refused_where_nobody_can_tell_who_consumes(source: Source, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    class Moving(TaskQueue):
        stash = NoMover

    monkeypatch.setitem(taskqueues.QUEUES, "sleeper", Moving)
    with resp.connect(source.url) as client, pytest.raises(WorkfleetError, match=r"who consumes the queues.*Nothing was deleted"):
        reset_by(step)(source, client)


def test_a_canary_proves_nothing_and_says_so(source: Source) -> None:
    proof, = taskqueues.named("sleeper").probe(probe.Request(source.url, engine="sleeper", queues=["naps"]))
    assert (proof.ok, proof.state, proof.reason) == (None, "not proved", "engine sleeper has no queues that tasks could be sent to")


def test_a_reap_leaves_it_alone_and_says_so(source: Source) -> None:
    order = Reaping("shop", source.url, ["naps"])
    assert reap.note("sleeper", order)["changed"] is False
    found = reap.reap("sleeper", order, check=False)
    assert (found["changed"], found["left"]) == (False, [
        "engine sleeper does not tell what dead workers held; nothing of its queues was touched"])


def test_a_deploy_compares_no_tasks_and_an_autoscaler_knows_why_it_waits(source: Source) -> None:
    group = SimpleNamespace(engine="sleeper", queues=["naps"])
    request: Any = SimpleNamespace(groups=[group], app="shop", broker_url=source.url, broker_options={})
    groups: Any = [group]
    assert preflight.waiting(request, groups) == {"queues": {}}
    assert totals.Looks(request).figures(groups[0]).missing == "what waits in queue naps cannot be told"


def test_an_interrupted_purge_of_it_is_none(source: Source) -> None:
    with resp.connect(source.url) as client:
        assert purge.restore(run(source, client), "", "", force=False)["recovered"] == []


def test_every_answer_of_the_second_face_has_a_default() -> None:
    for name, method in inspect.getmembers(TaskQueue, inspect.isfunction):
        assert "NotImplementedError" not in inspect.getsource(method), name
