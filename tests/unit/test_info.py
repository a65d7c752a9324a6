"""What is told of a node: the judgement as a table, and what is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import engines
from plugins.module_utils.workfleet.engines.celery.taskqueue import CeleryQueue
from plugins.module_utils.workfleet.engines.verbs.report import Report
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.managers import logs
from plugins.module_utils.workfleet.managers.base import GENERATION_LINE, Manager, Present
from plugins.module_utils.workfleet.managers.records import Record
from plugins.module_utils.workfleet.model import Name, Rollout
from plugins.module_utils.workfleet.nodes import info, leave, plan
from plugins.module_utils.workfleet.nodes.host_nodes import HostNodes
from plugins.module_utils.workfleet.nodes.request import GroupRequest, Request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOKENS = {word: f"@{word}@" for word in ("slot", "incarnation", "generation", "release", "python")}


class FakeManager(Manager):
    """Shows nodes; must never be asked to change one."""

    nodes: list[Present]

    def present(self) -> list[Present]:
        return self.nodes

    def declared_here(self) -> list[Name]:
        return [node.name for node in self.nodes]

    def path(self, name: Name) -> str:
        return f"/{name}"

    def log(self, name: Name, lines: int) -> list[str]:
        return []

    def streams(self, name: Name, wish: logs.Wish) -> list[logs.Stream]:
        return []

    def reload(self) -> None:
        raise AssertionError

    def enable(self, names: Sequence[Name]) -> None:
        raise AssertionError

    disable = start = stop = remove = enable

    def kill(self, nodes: Sequence[Present]) -> None:
        raise AssertionError


def reconciler_of(path: Path, *nodes: Present, **group: Any) -> HostNodes:
    values = {"name": "a", "engine": "celery", "state": "started", "nodes": 1, "queues": ["q"], "notifies": True,
              "node_name": "shop.a.@slot@.@incarnation@@h1", "answers_while_busy": True, "env_text": "", "env": {},
              "drain_seconds": 60, "gives_back": True,
              "unit_text": f"{GENERATION_LINE}@generation@\n", "secret_names": [], "values": "v", **group}
    request = Request(
        app="shop", user="u", group="g", root=str(path), run_directory=str(path), manager="systemd", has_release=False,
        groups=[GroupRequest(**values)], tokens=TOKENS, rollout=Rollout(), manager_texts={}, longest_drain=1,
        broker_url="redis://h")
    manager = FakeManager("shop", str(path), str(path))
    manager.nodes = list(nodes)
    (path / "state").mkdir()
    (path / "state" / "generation.key").write_text("00" * 32)
    return HostNodes(request, manager)


UP = Present(Name("shop", "a", 1, 1), f"{GENERATION_LINE}G\n", True, "running", pid=7, generation="G", record=Record("G", ready=1.0))
DOWN = replace(UP, activity="stopped", pid=None, generation=None, record=None)
WELL = Report(pid=7, queues=["q"], running=1)

# What the host shows, what was answered over a broker that was reached or not: the state, and words of the reason.
JUDGED: dict[str, tuple[Present, Report | None, bool, dict[str, Any], str, str | None]] = {
    "consumes": (UP, WELL, True, {}, "ready", None),
    "stopped": (DOWN, None, True, {}, "stopped", None),
    "crashed": (replace(DOWN, activity="failed", result="exit-code, status 3"), None, True, {}, "failed", "status 3"),
    "crashed without a word": (replace(DOWN, activity="failed"), None, True, {}, "failed", "does not run"),
    "drains": (replace(UP, activity="stopping"), None, True, {}, "draining", None),
    "up, and its plug-in has not told yet": (replace(UP, record=Record("G")), None, True, {}, "starting", "not yet"),
    "systemd waits for it": (replace(UP, activity="starting"), None, True, {}, "starting", "not yet"),
    "silent": (UP, None, True, {}, "unresponsive", "no answer"),
    "silent, of a pool that is so while it works": (UP, None, True, {"answers_while_busy": False}, "ready", "busy"),
    "the broker is gone": (UP, None, False, {}, "unresponsive", "broker cannot be asked"),
    "a wrapper that would take the signal": (UP, replace(WELL, pid=8), True, {}, "failed", "wrapper: the worker is process 8"),
    "a wrapper whose name is another's too": (UP, Report(pid=8, doubt="shared"), True, {}, "failed", "wrapper: "),
    "its name is another's too": (UP, Report(pid=7, doubt="shared"), True, {}, "unknown", "shared"),
    "a command's worker that has not answered yet": (replace(UP, record=Record("G"), uptime_seconds=1), None, True, {"notifies": False},
                                                     "starting", "not yet"),
    "a command's worker that does not answer": (replace(UP, record=Record("G"), uptime_seconds=900), None, True, {"notifies": False},
                                                "unresponsive", "no answer"),
    "a command's worker of which arq tells nothing": (replace(UP, record=Record("G")), None, True,
                                                      {"notifies": False, "engine": "arq", "answers_while_busy": False},
                                                      "ready", "cannot be told"),
    "a queue is lacking": (UP, replace(WELL, queues=[]), True, {}, "unresponsive", "does not consume q"),
    "a queue is lacking that is declared since": (replace(UP, generation="F", record=Record("F", ready=1.0)),
                                                  replace(WELL, queues=["old"]), True, {}, "ready", None),
    "what it was started with is hidden": (replace(UP, record=None, generation=None), WELL, True, {}, "unknown", "cannot be read"),
    "a record is missing, its environment tells": (replace(UP, record=None), WELL, True, {}, "ready", None),
    "told to take no new tasks": (replace(UP, record=Record("G", ready=1.0, quiesced=2.0)), Report(pid=7, queues=[]), True, {},
                                  "draining", "told to take no new tasks; resume.yml ends that"),
    "a process that is no worker": (replace(UP, record=Record("G")), None, False,
                                    {"engine": "process", "notifies": False, "queues": []}, "ready", None),
}


@pytest.mark.parametrize(("node", "answer", "reached", "group", "state", "reason"), JUDGED.values(), ids=JUDGED.keys())
def test_a_node_is_judged(
    tmp_path: Path, node: Present, answer: Report | None, reached: bool, group: dict[str, Any], state: str, reason: str | None
) -> None:
    reconciler = reconciler_of(tmp_path, node, **group)
    real = reconciler.intents[0].generation
    if node.generation == "G":
        node = replace(node, generation=real)
    if node.record is not None and node.record.quiesced is not None:
        (tmp_path / "env").mkdir()
        reconciler.manager.mark(node.name, node.record.quiesced)
    told = info.judge(reconciler, node, reconciler.groups["a"], answer, reached=reached)
    assert told[0] == state
    assert told[1] is None if reason is None else reason in str(told[1])


def test_a_node_of_a_group_that_is_not_declared_is_shown_as_what_it_is(tmp_path: Path) -> None:
    reconciler = reconciler_of(tmp_path)
    assert info.judge(reconciler, UP, None, None, reached=False) == ("ready", "its group is not declared")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise WorkfleetError("no connection to h:6379")

    monkeypatch.setattr(type(engines.named("celery")), "inspect", refuse)
    monkeypatch.setattr(CeleryQueue, "figures", refuse)


@pytest.mark.usefixtures("silent")
def test_without_a_broker_the_host_is_told_all_the_same_and_figures_are_null(tmp_path: Path) -> None:
    found = info.look(reconciler_of(tmp_path, UP), 1.0)
    node, = found["nodes"]
    assert (node["state"], node["pid"], node["running"], node["queues"], node["node"]) == (
        "unresponsive", 7, None, None, "shop.a.1.1@h1")
    assert found["queues"][0]["waiting"] is None
    assert [text for text in found["problems"] if "no connection to h:6379" in text] == [
        "the broker cannot be asked: no connection to h:6379"]


MISSING = {
    "nothing": ([], ["a 1: declared, but not there; run site.yml"]),
    "stopped": ([DOWN], ["a 1: declared started, but stopped; run start.yml"]),
    "stale": ([UP], ["a 1: runs another generation than declared; run site.yml"]),
    "a rollout that was interrupted before the old one was stopped": (
        [UP, replace(DOWN, name=Name("shop", "a", 1, 2), text=None)],
        ["a 1: runs another generation than declared; run site.yml"]),
}


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize(("nodes", "expected"), MISSING.values(), ids=MISSING.keys())
def test_what_is_declared_and_does_not_run_is_a_problem(tmp_path: Path, nodes: list[Present], expected: list[str]) -> None:
    reconciler = reconciler_of(tmp_path)
    current = f"{GENERATION_LINE}{reconciler.intents[0].generation}\n"
    shown = [replace(node, text=current) if node.text is None else node for node in nodes]
    made = reconciler.make_plan([plan.Seen(node, "") for node in shown])
    assert info.missing(made, shown, reconciler) == expected


@pytest.mark.parametrize(("text", "release"), [
    (None, None), ("x", None), ("WorkingDirectory=/opt/a/releases/r1/src\n", "r1"), ("x /opt/a/releases/", None)])
def test_the_release_is_that_of_the_unit(text: str | None, release: str | None) -> None:
    assert info.node_release(replace(UP, text=text)) == release


def test_what_an_old_node_has_lost_is_a_problem_until_its_note_is_gone(tmp_path: Path) -> None:
    reconciler = reconciler_of(tmp_path, UP)
    (tmp_path / "env").mkdir()
    cut = {"id": "7", "task": "app.fetch", "seconds": 9.0, "lost": True}
    line = {"node": "shop.a.1.1@h1", "lost": 1, "state": "killed", "cut_short": [cut]}
    leave.write(reconciler.manager, Name("shop", "a", 1, 1), leave.Note("n", 1.0, 3, kills=True, by_mark=True, line=line))
    lost = "shop.a.1.1@h1 was killed while it ran app.fetch (7) after 9 s, which is lost"
    assert lost in info.look(reconciler, 1.0)["problems"]
