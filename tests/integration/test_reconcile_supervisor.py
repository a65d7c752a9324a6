"""The reconciler with a real supervisord and real processes; ``converge`` proves each time that check equals apply."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import effects as host
from tests.integration.supervised import Site, site, sleeper

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["site"]


def alive(pid: int | None) -> bool:
    return pid is not None and os.path.exists(f"/proc/{pid}")


def test_nodes_are_created_and_a_second_run_changes_nothing(site: Site) -> None:
    done = site.converge([sleeper("a", 2), sleeper("b")])
    assert done.steps == [*(f"write {node}" for node in ("a.1.1", "a.2.1", "b.1.1")), "reload",
                          *(f"{action} {node}" for action in ("enable", "start") for node in ("a.1.1", "a.2.1", "b.1.1"))]
    pids = site.pids()
    assert len(pids) == 3 and all(alive(pid) for pid in pids.values())
    for pid in pids.values():
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00"
    assert stat.S_IMODE(site.env_file("a.1.1").stat().st_mode) == 0o600
    assert site.work([sleeper("a", 2), sleeper("b")]).steps == []
    assert site.pids() == pids


def test_scaling_touches_no_other_node(site: Site) -> None:
    site.converge([sleeper(nodes=2)])
    pids = site.pids()
    assert site.converge([sleeper(nodes=4)]).steps[:2] == ["write a.3.1", "write a.4.1"]
    assert {name: site.pids()[name] for name in pids} == pids and len(site.pids()) == 4
    gone = [pid for name, pid in site.pids().items() if name not in pids]
    site.converge([sleeper(nodes=2)])
    assert site.pids() == pids
    assert not any(map(alive, gone)) and not site.env_file("a.3.1").exists()


def test_a_stop_that_takes_longer_than_a_call_is_waited_for(site: Site) -> None:
    slow = sleeper(command=["/bin/sh", "-c", "trap 'sleep 3; exit' TERM; while :; do sleep 0.1; done"], drain_seconds=30)
    site.converge([slow])
    pid = site.pids()["a.1.1"]
    site.work([{**slow, "state": "stopped"}], deadline_seconds=0.2)
    assert not alive(pid)


def test_a_changed_environment_is_a_rollout_of_its_group_alone(site: Site) -> None:
    site.converge([sleeper("a", 2), sleeper("b")])
    pids = site.pids()
    changed = [sleeper("a", 2, env={"NEW": "1"}), sleeper("b")]
    assert site.work(changed, with_rollout=False).stale == 2 and site.pids() == pids
    done = site.converge(changed)
    assert (done.steps.index("start a.1.2"), done.stale) < (done.steps.index("stop a.2.1"), 1)
    assert done.stale == 0
    assert sorted(site.pids()) == ["a.1.2", "a.2.2", "b.1.1"] and site.pids()["b.1.1"] == pids["b.1.1"]
    assert b"NEW=1" in Path(f"/proc/{site.pids()['a.1.2']}/environ").read_bytes().split(b"\0")


def test_a_change_that_concerns_the_manager_alone_restarts_nothing(site: Site) -> None:
    site.converge([sleeper(drain_seconds=10)])
    pids = site.pids()
    assert site.converge([sleeper(drain_seconds=77)]).steps == ["write a.1.1", "reload"]
    assert site.pids() == pids and "stopwaitsecs=92" in str(site.present()["a.1.1"].text)


def test_a_group_is_stopped_started_and_leaves_no_trace_when_it_is_absent(site: Site) -> None:
    site.converge([sleeper(nodes=2)])
    old = site.pids()
    assert site.converge([sleeper(nodes=2, state="stopped")]).steps == [
        "disable a.1.1", "disable a.2.1", "stop a.1.1", "stop a.2.1"]
    assert not any(map(alive, old.values())) and set(site.pids().values()) == {None}
    assert site.converge([sleeper(nodes=2)]).steps == ["enable a.1.1", "enable a.2.1", "start a.1.1", "start a.2.1"]
    assert all(map(alive, site.pids().values()))
    site.converge([sleeper(nodes=2, state="absent")])
    assert site.present() == {}
    left = [path.name for path in Path(site.root).rglob("*a.1.1*") if path.parent.name != "log"]
    assert left == []


def test_a_stop_was_called_done_while_nodes_that_outlast_one_call_still_drained(site: Site) -> None:
    slow = sleeper(command=["sh", "-c", "trap 'sleep 3; exit' TERM; while :; do sleep 0.1; done"])
    site.converge([slow])
    pid, = site.pids().values()
    site.work([{**slow, "state": "stopped"}], deadline_seconds=0.5)
    assert not alive(pid)


def test_an_undeclared_group_goes_but_not_in_a_run_that_is_narrowed(site: Site) -> None:
    site.converge([sleeper("a"), sleeper("b")])
    assert site.converge([sleeper("a")], only=["a"]).steps == [] and sorted(site.present()) == ["a.1.1", "b.1.1"]
    site.converge([sleeper("a")])
    assert sorted(site.present()) == ["a.1.1"]


@pytest.mark.parametrize("broken", [None, "", "NOT OF OUR FORM\n", 'A="unfinished'])
def test_an_environment_file_that_is_missing_or_broken_is_made_again(site: Site, broken: str | None) -> None:
    site.converge([sleeper()])
    pids, text = site.pids(), site.env_file("a.1.1").read_text()
    if broken is None:
        site.env_file("a.1.1").unlink()
    else:
        site.env_file("a.1.1").write_text(broken)
    assert site.converge([sleeper()]).steps == ["write a.1.1", "reload"]
    assert (site.env_file("a.1.1").read_text(), site.pids()) == (text, pids)


def test_a_node_that_was_killed_or_edited_or_stopped_by_hand_is_mended(site: Site) -> None:
    site.converge([sleeper(nodes=3)])
    pids = site.pids()
    names = [node.name for node in site.manager.present()]
    with open(site.manager.path(names[0]), "a", encoding="utf-8") as file:
        file.write("; by hand\n")
    site.manager.stop([names[1]])
    while site.present()["a.2.1"].is_up:
        pass
    assert site.converge([sleeper(nodes=3)]).steps == ["write a.1.1", "reload", "start a.2.1"]
    assert {name: site.pids()[name] for name in ("a.1.1", "a.3.1")} == {name: pids[name] for name in ("a.1.1", "a.3.1")}


def test_a_restart_by_wish_replaces_each_node_once(site: Site) -> None:
    site.converge([sleeper(nodes=2)])
    pids = site.pids()
    done = site.work([sleeper(nodes=2)], restart_since=0)
    assert [text for text in done.steps if text.startswith("start")] == ["start a.1.2", "start a.2.2"]
    assert sorted(site.pids()) == ["a.1.2", "a.2.2"] and not set(pids.values()) & set(site.pids().values())


def test_a_crashing_command_is_told_with_the_nodes_last_words_and_the_next_node_is_left_alone(site: Site) -> None:
    site.converge([sleeper(nodes=2)])
    pids = site.pids()
    bad = sleeper(nodes=2, command=["sh", "-c", "echo no broker here; exit 3"])
    with pytest.raises(WorkfleetError) as caught:
        site.work([bad])
    said = str(caught.value)
    assert "workfleet.shop.a.1.2" in said and "  | no broker here" in said and "backoff: Exited too quickly" in said
    assert caught.value.details["node"] == "workfleet.shop.a.1.2"
    # In one line what its release is held for.
    assert caught.value.details["blame"].startswith("node workfleet.shop.a.1.2 does not stay up: ")
    assert site.pids()["a.2.1"] == pids["a.2.1"] and alive(pids["a.2.1"])
    # Mended, the next run goes on from there. Nothing is foretold: supervisor tries the bad one now and then until it is replaced.
    site.work([sleeper(nodes=2)])
    assert all(alive(pid) for pid in site.pids().values()) and len(site.pids()) == 2


def test_secrets_stand_in_the_environment_file_only_and_a_diff_says_only_that_they_change(site: Site) -> None:
    site.secrets = {"TOKEN": "geheim1"}
    site.converge([sleeper(env={"PLAIN": "1"})])
    site.secrets = {"TOKEN": "geheim2"}
    done = site.converge([sleeper(env={"PLAIN": "2"})])
    shown = str(done.diff)
    assert "geheim" not in shown and "<secret changed>" in shown and "PLAIN=1" in shown and "PLAIN=2" in shown
    holders = [path for path in Path(site.root).rglob("*")
               if path.is_file() and not path.is_relative_to(Path(site.root, "supervisor", "venv"))
               and b"geheim" in path.read_bytes()]
    assert holders == [site.env_file("a.1.2")]


def test_a_second_run_is_refused_while_one_is_at_work_and_names_it(site: Site) -> None:
    slow = site.request([sleeper()], rollout={"monitor_seconds": 3}, deadline_seconds=0, holder="anna on laptop")
    told = site.reconciler(slow).call().result()
    assert told["more"]
    other = site.request([sleeper(env={"B": "2"})], run="run 2", holder="bert")
    with pytest.raises(WorkfleetError, match=r"anna on laptop is changing the nodes of shop on this host") as caught:
        site.reconciler(other).call()
    assert caught.value.details == {"locked": True, "holder": "anna on laptop", "run": "run 1"}
    assert site.reconciler(other, check=True).call().result()["steps"]  # a look is free
    while told["more"]:
        slow.update(waiting=told["waiting"])
        told = site.reconciler(slow).call().result()
    site.work([sleeper(env={"B": "2"})], run="run 2")


class Killed(BaseException):
    """As a kill -9: nothing in between catches it."""


def dying(action: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def wrapper(*words: Any, **more: Any) -> Any:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return action(*words, **more)

    return wrapper


def test_a_rollout_that_was_killed_before_any_of_its_effects_is_finished_by_the_next_run(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.converge([sleeper()])
    effects = [(site.manager, name) for name in ("write", "reload", "enable", "disable", "start", "stop", "remove")]
    survived = 0
    while True:
        before = max(site.present().values(), key=lambda node: node.name)
        wanted = [sleeper(env={"ROUND": str(survived)})]
        left = [survived]
        with monkeypatch.context() as patch:
            for owner, name in [*effects, (host, "write"), (host, "remove")]:
                patch.setattr(owner, name, dying(getattr(owner, name), left))
            try:
                site.work(wanted)
                break
            except Killed:
                survived += 1
        site.converge(wanted)
        node, = site.present().values()
        assert node.activity == "running" and node.enabled and node.name.incarnation == before.name.incarnation + 1
        assert f"ROUND={survived - 1}".encode() in Path(f"/proc/{node.pid}/environ").read_bytes().split(b"\0")
        assert not alive(before.pid)
        assert [path.name for path in Path(site.root, "env").iterdir()] == [f"{node.name}.env"]
    assert survived >= 9


def test_what_outlived_its_supervisord_is_replaced(site: Site) -> None:
    site.converge([sleeper(nodes=2)])
    pids = site.pids()
    os.kill(int(Path(site.run_directory, "supervisord.pid").read_text()), signal.SIGKILL)
    site.work([sleeper(nodes=2)])
    assert not any(map(alive, pids.values()))
    assert [node.activity for node in site.present().values()] == ["running", "running"]
    assert site.work([sleeper(nodes=2)], check=True).steps == []
