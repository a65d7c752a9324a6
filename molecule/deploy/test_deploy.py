"""Deploys of good releases and of bad ones, in the order in which a bad week brings them."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet import PROJECT, Fleet, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "app" / "app"
TASKS = (Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "examples/reports/app/tasks.py").read_text()
#: What is done about the units of nodes that have drained.
CLEANING = {"remove", "reload"}
#: Code of a worker only: the release itself can be imported, as its migrations and clients do.
IN_WORKER = "\nimport sys, os, threading, time\nif 'worker' in sys.argv:\n    "


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """The scenario's hosts. The app is as it was at the end."""
    yield Fleet()
    write("")


def write(more: str, migration: str = "raise SystemExit(0)\n") -> None:
    """Let the declaration give another release: the app with more code behind its tasks."""
    (APP / "tasks.py").write_text(TASKS + more)
    (APP / "migrate.py").write_text(migration)


def current(fleet: Fleet) -> str:
    """The current release, the same on all hosts."""
    (found,) = {fleet.run(host, "readlink", f"/opt/{fleet.app}/current").strip().rpartition("/")[2] for host in fleet.workers}
    return found


def running(fleet: Fleet) -> dict[str, dict[str, int]]:
    """The main processes by host."""
    return {host: fleet.main_processes(host) for host in fleet.workers}


def releases(fleet: Fleet, *more: str) -> set[str]:
    """What the nodes of all hosts run, as they tell it; none is in another state than ready, draining or one ``more``."""
    status = fleet.status()
    nodes = [node for host in status["hosts"].values() for node in host["nodes"]]
    assert {node["state"] for node in nodes} <= {"ready", "draining", *more}, nodes
    return {node["release"] for node in nodes if node["state"] == "ready"}


def settled(fleet: Fleet) -> bool:
    """Whether each host has its two nodes, the first one the scheduler too, and no more: what drained has gone."""
    return [len(nodes) for nodes in running(fleet).values()] == [3, 2]


def scheduler(fleet: Fleet) -> int:
    """The process of the scheduler."""
    (found,) = (pid for node, pid in fleet.main_processes().items() if node.startswith(f"{fleet.app}.scheduler."))
    return found


def forgotten(fleet: Fleet) -> bool:
    """Whether no host remembers a rollout, or is held by a run."""
    state = f"/opt/{fleet.app}/state"
    return free(fleet) and not any("rollout.json" in fleet.run(host, "ls", state) for host in fleet.workers)


def free(fleet: Fleet) -> bool:
    """Whether no host is held by a run: the next try may come from another machine."""
    return {fleet.run(host, "cat", f"/opt/{fleet.app}/state/nodes.lock").strip() for host in fleet.workers} == {"{}"}


def cleaned(fleet: Fleet) -> bool:
    """Whether site.yml finds nothing to do but to remove the units of what has drained."""
    return {action for action, _ in fleet.play("site").actions} <= CLEANING


def is_held(fleet: Fleet) -> dict[str, str] | None:
    """What is held in place of what, the same on all hosts."""
    texts = {fleet.run(host, "sh", "-c", f"cat /opt/{fleet.app}/state/hold.json 2>/dev/null || true") for host in fleet.workers}
    assert len(texts) == 1, texts
    hold = json.loads(texts.pop() or "{}")
    return {name: hold[name] for name in ("instead_of", "use")} if hold else None


def history(fleet: Fleet) -> list[str]:
    """What each host remembers of its releases."""
    return [fleet.run(host, "cat", f"/opt/{fleet.app}/state/releases.json") for host in fleet.workers]


def waiting(fleet: Fleet, queue: str) -> int:
    return int(fleet.run(fleet.redis, "redis-cli", "-a", "geheim", "--no-auth-warning", "LLEN", queue))


def test_a_deploy_is_foretold_done_and_current_on_every_host(fleet: Fleet) -> None:
    before, old = running(fleet), current(fleet)
    write("# good 1\n")
    predicted = fleet.play("deploy", "--check")
    assert (running(fleet), current(fleet)) == (before, old)
    done = fleet.play("deploy")
    assert done.steps == predicted.steps
    wait(lambda: settled(fleet), 30)
    assert current(fleet) != old
    assert releases(fleet) == {current(fleet)}
    # Nothing was replaced before everything was built, and nothing was current before everything was replaced.
    actions = [step["unit"].split()[0] if step["action"] in ("write", "live") and not step["group"] else step["action"]
               for step in done.steps if step["group"] or (step["unit"] or "").startswith("release")]
    first, last = actions.index("start"), len(actions) - actions[::-1].index("start")
    assert actions[:first].count("release") >= 2
    assert actions[last:].count("release") >= 2
    # The scheduler is replaced behind the workers of all hosts, and is no canary.
    starts = [(step["host"], step["group"]) for step in done.steps if step["action"] == "start"]
    assert starts[-1] == (fleet.workers[0], "scheduler")
    assert starts[:-1] == [(host, "reports") for host in fleet.workers for _ in range(2)]
    assert forgotten(fleet)
    assert cleaned(fleet)


@pytest.mark.parametrize(("code", "said"), [
    ("raise RuntimeError('broken at import')\n", "RuntimeError: broken at import"),
    (None, "release command 1 of 1"),
], ids=["crashes at import", "migration fails"])
def test_a_release_that_is_found_bad_in_time_touches_no_node(fleet: Fleet, code: str | None, said: str) -> None:
    before, old = running(fleet), current(fleet)
    write(code or "# migration\n", "raise SystemExit(0)\n" if code else "raise SystemExit('no such column')\n")
    run = fleet.play("deploy", expect=2)
    assert said in run.out
    assert run.touched == set()
    assert (running(fleet), current(fleet), is_held(fleet)) == (before, old, None)
    assert forgotten(fleet)
    if code is None:
        # Who goes back then does not leave what runs.
        fleet.play("rollback")
        assert (running(fleet), current(fleet)) == (before, old)


@pytest.mark.parametrize(("code", "said"), [
    (f"{IN_WORKER}threading.Timer(3, lambda: (os.write(2, b'fell over'), os._exit(3))).start()\n", "fell over"),
    (f"{IN_WORKER}time.sleep(600)\n", "did not become ready"),
], ids=["crashes after 3 s", "hangs before ready"])
def test_a_release_whose_canary_fails_is_taken_back_and_not_tried_again(fleet: Fleet, code: str, said: str) -> None:
    old, sends = current(fleet), scheduler(fleet)
    write(code)
    run = fleet.play("deploy", expect=2)
    assert said in run.out
    assert scheduler(fleet) == sends
    assert forgotten(fleet)
    assert "What ran before runs again" in run.out
    wait(lambda: settled(fleet), 60)
    assert (current(fleet), releases(fleet)) == (old, {old})
    held = is_held(fleet)
    assert held is not None
    assert held["use"] == old
    fleet.run(fleet.worker, "test", "-d", f"/opt/{fleet.app}/releases/{held['instead_of']}/venv")
    # The second host was not touched.
    assert not any(step["group"] for step in run.steps if step["host"] == fleet.workers[1])
    again = fleet.play("site")
    assert {action for action, _ in again.actions} <= CLEANING
    assert f"release {old} is held" in again.out.replace("\n", " ")


def test_a_host_that_was_out_of_reach_when_a_release_was_taken_back_does_not_get_it_from_the_next_run(fleet: Fleet) -> None:
    second = fleet.workers[1]
    held, old, before = is_held(fleet), current(fleet), running(fleet)
    assert held is not None
    fleet.run(second, "rm", f"/opt/{fleet.app}/state/hold.json")
    predicted = fleet.play("site", "--check")
    run = fleet.play("site")
    assert run.steps == predicted.steps
    assert [(step["host"], step["unit"]) for step in run.steps if not step["group"]] == [(second, f"file /opt/{fleet.app}/state/hold.json")]
    assert (is_held(fleet), current(fleet), running(fleet)) == (held, old, before)


def test_a_release_that_lacks_a_waiting_task_is_refused_with_its_name_and_number(fleet: Fleet) -> None:
    write("# good 2\n")
    fleet.play("deploy")
    assert is_held(fleet) is None
    old = current(fleet)
    write("\n\n@celery_app.task\ndef only_in_old() -> None:\n    time.sleep(20)\n")
    fleet.play("deploy")
    # More than four nodes of two take ahead of their turn.
    fleet.in_app("from app.tasks import only_in_old\nfor n in range(60): only_in_old.apply_async(queue='reports')")
    wait(lambda: waiting(fleet, "reports") > 0, 10)
    before = running(fleet)
    write("# good 2\n")
    run = fleet.play("deploy", expect=2)
    assert "app.tasks.only_in_old (" in run.out
    assert running(fleet) == before
    fleet.run(fleet.redis, "redis-cli", "-a", "geheim", "--no-auth-warning", "DEL", "reports")
    fleet.play("deploy", allow_unregistered=True)
    wait(lambda: settled(fleet), 60)
    assert current(fleet) == old


def test_rollback_builds_nothing_and_site_stays_there(fleet: Fleet) -> None:
    write("# good 3\n")
    fleet.play("deploy")
    new = current(fleet)
    predicted = fleet.play("rollback", "--check", "--diff")
    assert current(fleet) == new
    run = fleet.play("rollback")
    assert run.steps == predicted.steps
    wait(lambda: settled(fleet), 60)
    old = current(fleet)
    assert old != new
    assert releases(fleet) == {old}
    assert is_held(fleet) == {"instead_of": new, "use": old}
    assert not any(step["action"] == "write" and step["unit"].startswith("release ") for step in run.steps)
    assert cleaned(fleet)
    back = fleet.play("site", release_hold=False)
    assert ("live", f"release {new}") in back.actions
    wait(lambda: settled(fleet), 60)
    assert releases(fleet) == {new}


def test_hosts_of_two_debians_have_one_release_and_go_to_it_by_its_id(fleet: Fleet) -> None:
    pythons = {fleet.run(host, "python3", "-c", "import sys; print(sys.version_info[:2])") for host in fleet.workers}
    assert len(pythons) == 2
    old = current(fleet)
    write("# by its id\n")
    fleet.play("deploy")
    new = current(fleet)
    for release in (old, new):
        fleet.play("deploy", release=release, allow_unregistered=True)
        wait(lambda: settled(fleet), 60)
        assert (current(fleet), releases(fleet)) == (release, {release})
    assert fleet.status()["problems"] == []


def test_a_release_that_goes_out_host_by_host_runs_its_commands_once_and_says_that_the_fleet_is_parted(fleet: Fleet) -> None:
    first, second = fleet.workers
    old = current(fleet)
    write("# by --limit\n", "import os, redis\nredis.Redis.from_url(os.environ['CELERY_BROKER_URL']).incr('ship:migrated')\n")
    run = fleet.play("deploy", "--limit", first)
    assert f"outside of --limit there is {old} on {second}" in run.out.replace("\n", " ")
    assert any("the hosts do not have one release" in text for text in fleet.status()["problems"])
    predicted = fleet.play("deploy", "--limit", second, "--check")
    run = fleet.play("deploy", "--limit", second)
    assert run.steps == predicted.steps
    assert current(fleet) != old
    count = fleet.run(fleet.redis, "redis-cli", "-a", "geheim", "--no-auth-warning", "GET", "ship:migrated")
    assert count.strip() == "1"
    wait(lambda: settled(fleet), 60)


def test_a_host_that_joins_is_given_no_other_release_than_the_fleet_has(fleet: Fleet) -> None:
    second = fleet.workers[1]
    old = current(fleet)
    text, migration = (APP / "tasks.py").read_text(), (APP / "migrate.py").read_text()
    # As a new machine under the old name: nothing of the app is on it.
    fleet.run(second, "sh", "-c", f"systemctl stop 'workfleet.{fleet.app}.*'; cd /etc/systemd/system; "
                                  "systemctl disable workfleet.*.service; "
                                  f"rm -rf /etc/systemd/system/workfleet.{fleet.app}.* /opt/{fleet.app} /run/workfleet/{fleet.app}; "
                                  "systemctl daemon-reload")
    write("# declared, and on no host\n")
    run = fleet.play("site", "--limit", second, expect=2)
    assert f"the rest of the fleet has {old}" in run.out.replace("\n", " ")
    fleet.run(second, "test", "!", "-e", f"/opt/{fleet.app}/releases")
    write(text.removeprefix(TASKS), migration)
    fleet.play("site", "--limit", second)
    count = fleet.run(fleet.redis, "redis-cli", "-a", "geheim", "--no-auth-warning", "GET", "ship:migrated")
    assert (current(fleet), count.strip()) == (old, "1")
    wait(lambda: settled(fleet), 60)
    assert cleaned(fleet)


def test_a_host_that_installs_its_updates_for_long_is_left_out_and_does_not_hold_up_the_others(fleet: Fleet) -> None:
    first, second = fleet.workers
    old = current(fleet)
    version = fleet.run(second, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    fleet.run(second, "apt-get", "-y", "-q", "purge", f"python{version}-venv")
    hold = "import fcntl, time; file = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(file, fcntl.LOCK_EX); time.sleep(600)"
    fleet.run(second, "systemd-run", "--unit=updates", "--property=Type=exec", "python3", "-c", hold)
    write("# while a host installs its updates\n")
    run = fleet.play("site", expect=2)
    assert "something else installs packages on this host" in run.out.replace("\n", " ")
    assert "looked at 2 of 3 hosts" in run.out and f"(not {second})" in run.out
    there = {host: fleet.run(host, "readlink", f"/opt/{fleet.app}/current").strip().rpartition("/")[2] for host in fleet.workers}
    assert there[second] == old != there[first]
    fleet.run(second, "systemctl", "stop", "updates")
    fleet.play("site")
    wait(lambda: settled(fleet), 60)
    assert releases(fleet) == {current(fleet)} == {there[first]}


def test_while_a_host_is_lost_a_new_release_asks_whether_its_commands_were_run(fleet: Fleet) -> None:
    first, second = fleet.workers
    old = current(fleet)
    write("# while a host is lost\n")
    # Connections that are open would do.
    fleet.run(second, "sh", "-c", "systemctl stop ssh.socket ssh; pkill sshd", check=False)
    run = fleet.play("deploy", "--limit", first, expect=2)
    assert f"{second}, outside of --limit, cannot be asked" in run.out.replace("\n", " ")
    assert (run.touched, current(fleet)) == (set(), old)
    fleet.play("deploy", "--limit", first, release_commands="run")
    fleet.play("rollback", "--limit", first, allow_unregistered=True)
    fleet.run(second, "systemctl", "start", "ssh")
    fleet.wait_until_reachable(second)
    wait(lambda: settled(fleet), 60)
    assert current(fleet) == old
    fleet.play("deploy")
    wait(lambda: settled(fleet), 60)
    assert releases(fleet) == {current(fleet)}


def test_a_rollback_that_fails_on_the_way_keeps_no_host_and_is_gone_on_with(fleet: Fleet) -> None:
    write(f"{IN_WORKER}os.path.exists('/run/broken') and sys.exit('broken on the way back')\n")
    fleet.play("deploy")
    old = current(fleet)
    write("# good 4\n")
    fleet.play("deploy")
    new = current(fleet)
    wait(lambda: settled(fleet), 60)
    fleet.run(fleet.workers[1], "touch", "/run/broken")
    run = fleet.play("rollback", expect=2)
    fleet.run(fleet.workers[1], "rm", "/run/broken")
    assert "broken on the way back" in run.out
    assert "It stops here: site.yml goes on with the rest, deploy.yml goes forward again" in run.out.replace("\n", " ")
    assert (current(fleet), free(fleet)) == (new, True)
    wait(lambda: settled(fleet), 60)
    assert releases(fleet, "stopped") == {old, new}, "what has drained is removed by the next run"
    fleet.play("rollback")
    wait(lambda: settled(fleet), 60)
    assert (current(fleet), releases(fleet), forgotten(fleet)) == (old, {old}, True)


def test_what_has_been_run_refuses_to_go_back_though_nothing_waits(fleet: Fleet) -> None:
    write("\n\n@celery_app.task\ndef only_in_new() -> None:\n    pass\n")
    fleet.play("deploy")
    wait(lambda: settled(fleet), 60)
    new, before = current(fleet), running(fleet)
    fleet.in_app("from app.tasks import only_in_new\nonly_in_new.apply_async(queue='reports').get(timeout=20)")
    run = fleet.play("rollback", expect=2)
    assert "app.tasks.only_in_new (1)" in run.out.replace("\n", " ")
    assert (current(fleet), is_held(fleet), running(fleet)) == (new, None, before)
    assert forgotten(fleet)
    fleet.play("rollback", allow_unregistered=True)
    wait(lambda: settled(fleet), 60)
    assert current(fleet) != new


def test_a_deploy_on_bare_hosts_is_foretold_and_says_what_a_check_cannot_compare(fleet: Fleet) -> None:
    sleeper = {"name": "sleeper", "engine": "process", "command": ["/bin/sleep", "4242"], "nodes": 2, "drain_seconds": 5}
    asked = {"name": "asked", "app": "app.celery_app", "state": "stopped", "drain_seconds": 5}
    bare = {"app_name": "bare", "app_requirements": [], "app_release_commands": [["true"]], "worker_groups": [sleeper, asked],
            "worker_scheduler": {}}
    predicted = fleet.play("deploy", "--check", "--diff", **bare)
    fleet.run(fleet.worker, "test", "!", "-e", "/opt/bare")
    done = fleet.play("deploy", "--diff", **bare)
    assert done.steps == predicted.steps
    assert fleet.play("site", "--tags", "app,worker", **bare).steps == []
    gone = {**bare, "worker_groups": [{**sleeper, "state": "absent"}, {**asked, "state": "absent"}]}
    fleet.play("site", "--tags", "worker", **gone)

    first = {**bare, "app_name": "first", "worker_groups": [{**sleeper, "command": ["/bin/false"]}]}
    assert "there is nothing to go back to" in fleet.play("deploy", expect=2, **first).out.replace("\n", " ")
    fleet.play("site", "--tags", "worker", **{**first, "worker_groups": [{**sleeper, "state": "absent"}]})


@pytest.mark.parametrize("then", ["restart", "stop", "start", "drain", "resume"])
def test_what_is_done_to_running_nodes_is_foretold(fleet: Fleet, then: str) -> None:
    predicted = fleet.play(then, "--check", "--diff")
    # One host at a time: a drain tells all of them before it waits for the first.
    done = fleet.play(then, *(["--forks=1"] if then == "drain" else []))
    assert predicted.steps == done.steps != []
    if then == "drain":
        before = running(fleet)
        refused = fleet.play("deploy", expect=2)
        assert "nodes were told to take no new tasks (drain.yml), and a deploy does not change that" in refused.out.replace("\n", " ")
        assert (refused.steps, running(fleet)) == ([], before)
        site = fleet.play("site")
        assert "2 nodes were told to take no new tasks and are left so; resume.yml ends that" in site.out.replace("\n", " ")
    wait(lambda: then == "stop" or settled(fleet), 60)


@pytest.mark.parametrize("then", ["deploy", "rollback", "site"])
def test_a_deploy_killed_in_the_middle_is_finished_or_undone_by_the_next_run(fleet: Fleet, then: str) -> None:
    old, before = current(fleet), running(fleet)
    write(f"# killed, then {then}\n")
    fleet.play_and_kill("deploy", lambda: bool(set(fleet.main_processes()) - set(before[fleet.worker])))
    assert current(fleet) == old
    fleet.play(then, worker_lock_seconds=60)
    wait(lambda: settled(fleet), 60)
    assert releases(fleet) == {current(fleet)}
    assert (current(fleet) == old) is (then == "rollback")
    assert cleaned(fleet)


def test_pause_stops_there_and_a_second_deploy_goes_on(fleet: Fleet) -> None:
    old = current(fleet)
    write(f"{IN_WORKER}os.path.exists('/run/broken') and sys.exit('broken here')\n")
    fleet.run(fleet.workers[1], "touch", "/run/broken")
    pause = {"worker_rollout": {**fleet.vars["worker_rollout"], "failure_action": "pause"}}
    run = fleet.play("deploy", expect=2, **pause)
    assert "broken here" in run.out
    assert "deploy.yml again goes on, rollback.yml goes back" in run.out.replace("\n", " ")
    assert (current(fleet), is_held(fleet)) == (old, None)
    # Nodes of the release that is current would be started beside the new ones.
    scaled = fleet.play("scale", group="reports", nodes=3, expect=2)
    assert "the number of nodes was not changed: a rollout is under way" in scaled.out.replace("\n", " ")
    fleet.run(fleet.workers[1], "rm", "/run/broken")
    fleet.play("deploy", **pause)
    wait(lambda: settled(fleet), 60)
    assert current(fleet) != old
    assert releases(fleet) == {current(fleet)}


def test_what_a_killed_deploy_had_done_is_undone_on_hosts_that_the_next_one_did_not_come_to(fleet: Fleet) -> None:
    old, before = current(fleet), running(fleet)
    write(f"{IN_WORKER}os.path.exists('/run/broken-again') and sys.exit('broken when it was tried again')\n")
    first, second = fleet.workers
    fleet.play_and_kill("deploy", lambda: len(set(fleet.main_processes(second)) - set(before[second])) == 2, 240)
    fleet.run(first, "touch", "/run/broken-again")
    crashed = next(pid for node, pid in fleet.main_processes(first).items() if ".reports." in node)
    fleet.run(first, "kill", "-KILL", str(crashed))
    run = fleet.play("deploy", worker_lock_seconds=60, expect=2)
    fleet.run(first, "rm", "/run/broken-again")
    assert "broken when it was tried again" in run.out
    assert "What ran before runs again, and release" in run.out.replace("\n", " ")
    wait(lambda: settled(fleet), 60)
    assert (current(fleet), releases(fleet)) == (old, {old})
    assert forgotten(fleet)


def test_what_failed_on_the_second_host_is_undone_on_the_first_too(fleet: Fleet) -> None:
    old = current(fleet)
    write(f"{IN_WORKER}os.path.exists('/run/broken') and sys.exit('broken here, too')\n")
    fleet.run(fleet.workers[1], "touch", "/run/broken")
    run = fleet.play("deploy", expect=2)
    fleet.run(fleet.workers[1], "rm", "/run/broken")
    assert "broken here, too" in run.out
    wait(lambda: settled(fleet), 60)
    assert (current(fleet), releases(fleet)) == (old, {old})
    assert forgotten(fleet)


def test_a_second_deploy_is_refused_and_leaves_the_first_one_alone(fleet: Fleet) -> None:
    old, before = current(fleet), running(fleet)
    write("# two at once\n")
    with tempfile.NamedTemporaryFile(suffix=".json") as steps:
        first = subprocess.Popen(fleet.command("deploy", steps.name, {}), cwd=PROJECT, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait(lambda: bool(set(fleet.main_processes()) - set(before[fleet.worker])), 120)
        second = fleet.play("deploy", expect=2, worker_lock_seconds=1)
        remembered = history(fleet)
        assert fleet.play("site", expect=2, worker_lock_seconds=1).steps == []
        assert history(fleet) == remembered
        said = first.communicate()[0]
    assert first.returncode == 0, said
    assert f"is changing the nodes of {fleet.app} on this host" in second.out.replace("\n", " ")
    assert second.touched == set()
    wait(lambda: settled(fleet), 60)
    assert current(fleet) != old
    assert (releases(fleet), is_held(fleet), forgotten(fleet)) == ({current(fleet)}, None, True)


@pytest.mark.parametrize("where", [1, 0], ids=["on the second host", "on the only one"])
def test_a_release_that_fails_in_site_is_not_current_and_not_tried_again(fleet: Fleet, where: int) -> None:
    old = current(fleet)
    write(f"{IN_WORKER}os.path.exists('/run/broken') and sys.exit('broken in site')  # {where}\n")
    bad = fleet.workers[where]
    limit = [] if where else ["--limit", bad]
    fleet.run(bad, "touch", "/run/broken")
    run = fleet.play("site", *limit, expect=2)
    assert "broken in site" in run.out
    assert "its release is held" in run.out.replace("\n", " ")
    wait(lambda: settled(fleet), 60)
    assert (current(fleet), releases(fleet)) == (old, {old})
    assert forgotten(fleet)
    again = fleet.play("site", *limit)
    assert {action for action, _ in again.actions} <= CLEANING
    fleet.run(bad, "rm", "/run/broken")


@pytest.mark.parametrize("then", ["site", "deploy"])
def test_what_a_killed_site_had_made_current_stayed_so_though_the_next_run_brought_the_nodes_back(fleet: Fleet, then: str) -> None:
    old = current(fleet)
    # It runs on the canary and on the first host, so that there is something to kill and to bring back.
    write(f"{IN_WORKER}os.path.exists('/run/broken') and sys.exit('broken now')  # {then}\n")
    fleet.run(fleet.workers[1], "touch", "/run/broken")
    before = running(fleet)
    fleet.play_and_kill("site", lambda: bool(set(fleet.main_processes()) - set(before[fleet.worker])))
    bad = current(fleet)
    assert bad != old
    run = fleet.play(then, worker_lock_seconds=60, expect=2)
    fleet.run(fleet.workers[1], "rm", "/run/broken")
    assert "broken now" in run.out
    wait(lambda: settled(fleet), 60)
    assert (current(fleet), releases(fleet), is_held(fleet)) == (old, {old}, {"instead_of": bad, "use": old})
    assert forgotten(fleet)
    again = fleet.play("site")
    assert {action for action, _ in again.actions} <= CLEANING
