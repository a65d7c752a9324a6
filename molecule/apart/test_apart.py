"""What needs a Redis on another host than the workers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from common import of
from fleet import Fleet, load_json, wait

if TYPE_CHECKING:
    from pathlib import Path


def check_and_outlast(fleet: Fleet, playbook: str, **variables: Any) -> tuple[Any, float]:
    """Return what a check foretells, and the seconds of a task that outlasts the real run, on a machine with much else to do too."""
    begun = time.monotonic()
    return fleet.play(playbook, "--check", **variables), 10 + 4 * (time.monotonic() - begun)


def test_the_old_nodes_finish_their_tasks_while_the_new_ones_take_over_and_the_play_is_long_gone(fleet: Fleet, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"

    def told(node: str) -> tuple[Any, ...]:
        line, = (line for line in json.loads(ledger.read_text()) if line["node"] == node)
        return tuple(line[name] for name in ("running_before", "finished", "lost", "state"))

    fleet.play("site")
    before = fleet.main_processes()
    change = {"worker_groups": fleet.groups(reports={"env": {"COLOUR": "red"}}),
              "worker_rollout": {"monitor_seconds": 1, "parallelism": "100%"}}
    predicted, seconds = check_and_outlast(fleet, "site", **change)
    task = fleet.send("fetch", seconds, queue="reports")
    wait(lambda: any(node["running"] for node in fleet.status()["hosts"][fleet.worker]["nodes"]), seconds)
    assert fleet.state(task) in ("STARTED", "PENDING")
    assert fleet.play("site", result_json=str(ledger), **change).steps == predicted.steps
    nodes = [node for node in fleet.status()["hosts"][fleet.worker]["nodes"] if node["group"] == "reports"]
    old = [node for node in nodes if node["state"] == "draining"]
    assert len(old) == 1 and old[0]["draining_seconds"] > 0 and before[old[0]["node"]] == old[0]["pid"]
    assert told(old[0]["node"]) == (1, None, None, "draining")
    assert [node["incarnation"] for node in nodes if node["state"] == "ready"] == [old[0]["incarnation"] + 1] * 3
    assert fleet.ended(task, seconds + 60) == "SUCCESS"
    wait(lambda: old[0]["pid"] not in fleet.main_processes().values(), 15)
    assert {action for action, _ in fleet.play("site", result_json=str(ledger), **change).actions} == {"remove"}
    assert told(old[0]["node"]) == (1, 1, 0, "gone")


def test_a_boot_with_redis_unreachable_ends_in_ready_nodes_when_redis_is_back(fleet: Fleet) -> None:
    fleet.play("site")
    nodes = set(fleet.main_processes())
    assert nodes
    fleet.run(fleet.redis, "systemctl", "stop", "redis-server")
    fleet.reboot(fleet.worker)
    wait(lambda: set(fleet.main_processes()) == nodes, 60)
    fleet.wait_until_reachable(fleet.worker)
    assert not fleet.is_well()
    fleet.run(fleet.redis, "systemctl", "start", "redis-server")
    fleet.wait_until_ready(90)
    fleet.play("verify")


def test_a_drained_host_takes_no_task_beyond_a_reboot_until_it_is_resumed(fleet: Fleet, tmp_path: Path) -> None:
    fleet.play("site")
    fleet.wait_until_ready()
    nodes = fleet.main_processes()
    foretold, seconds = check_and_outlast(fleet, "drain")
    running = fleet.send("fetch", seconds, queue="reports")
    done = fleet.play("drain", result_json=str(tmp_path / "ledger.json"))
    assert done.steps == foretold.steps and {step["action"] for step in done.steps} == {"drain"} and len(done.steps) == len(nodes)
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    assert {line["node"] for line in ledger} == set(nodes)
    assert (sum(line["running_before"] for line in ledger), sum(line["finished"] for line in ledger)) == (1, 1)
    assert {(line["lost"], line["duplicates"], line["state"]) for line in ledger} == {(0, 0, "idle")}
    assert fleet.state(running) == "SUCCESS" and fleet.main_processes() == nodes
    waiting = fleet.send("fetch", 0.1, queue="reports")

    fleet.reboot(fleet.worker)
    fleet.wait_until_reachable(fleet.worker)
    wait(lambda: set(fleet.main_processes()) == set(nodes), 60)
    wait(lambda: {node["state"] for node in fleet.status()["hosts"][fleet.worker]["nodes"]} == {"draining"}, 60)
    assert fleet.play("site").steps == []
    assert fleet.state(waiting) == "PENDING"

    fleet.play("resume")
    fleet.wait_until_ready()
    assert fleet.ended(waiting, 90) == "SUCCESS"


def test_a_queue_is_shown_emptied_into_a_dump_and_filled_again(fleet: Fleet, tmp_path: Path) -> None:
    """The worker host is reached by a user who is not root: the dump comes to the control node through his hands."""
    fleet.in_app("from app import tasks; [tasks.fetch.apply_async((n,), queue='nobody', priority=n % 10) for n in range(40)]")

    def nobody() -> int:
        keys = ["env", f"REDISCLI_AUTH={fleet.vars['redis_password']}", "redis-cli"]
        return sum(int(fleet.run(fleet.redis, *keys, "LLEN", key)) for key in fleet.run(fleet.redis, *keys, "KEYS", "nobody*").splitlines())

    fleet.play("queues", sample_seconds=0, queues_json=str(tmp_path / "queues.json"))
    told = load_json(str(tmp_path / "queues.json"))["queues"]
    assert {queue["queue"]: queue["consumers"] for queue in told if queue["declared"]} == {"reports": 3, "default": 3}
    assert [(queue["waiting"], queue["declared"]) for queue in told if queue["queue"] == "nobody"] == [(40, False)]
    fleet.play("purge", queue="nobody", dump_dir=str(tmp_path), confirm=f"purge {fleet.app} nobody")
    assert nobody() == 0
    dump, = tmp_path.glob("*.dump")
    assert dump.stat().st_mode & 0o777 == 0o600
    fleet.play("restore", dump=str(dump))
    assert nobody() == 40
    assert fleet.run(fleet.worker, "sh", "-c", "find / -xdev -name tasks.dump -not -path '/proc/*'") == ""


def test_what_killed_nodes_held_is_returned_and_the_host_judges_itself_well(fleet: Fleet) -> None:
    fleet.play("site")
    fleet.wait_until_ready()
    # Held from the start for its time, and without reap for an hour beyond it.
    task = fleet.in_app("from app import tasks; print(tasks.fetch.apply_async((0,), queue='reports', countdown=45).id)")
    held = ["env", f"REDISCLI_AUTH={fleet.vars['redis_password']}", "redis-cli", "HVALS", "unacked"]
    wait(lambda: task in fleet.run(fleet.redis, *held), 30)
    before = of(fleet.main_processes(), "reports")
    fleet.run(fleet.worker, "kill", "-KILL", *map(str, before.values()))
    wait(lambda: not set(before.items()) & set(fleet.main_processes().items()), 90)
    fleet.wait_until_ready()
    said = fleet.play("reap", sample_seconds=1).out
    assert f"reports: {task} (app.tasks.fetch) went back" in said
    assert fleet.ended(task, 60) == "SUCCESS"
    assert task not in fleet.run(fleet.redis, *held)
    assert f"{fleet.app}: all declared nodes consume (6 of 6)" in fleet.play("health").out


#: What a package, its index or the machine itself changes; and the login user's own.
ELSEWHERE = (r"/proc|/sys|/dev|/tmp|/home|/root|/run/(systemd|udev|user|sudo|log|lock|credentials|adduser|motd.dynamic)"
             r"|/var/(lib/(dpkg|apt|systemd)|backups|cache|log|tmp)")


def seen(fleet: Fleet, host: str) -> dict[str, set[str]]:
    """Return what is on a host, without what packages have brought that are there now and were not in the image."""
    files = fleet.run(host, "sh", "-c", f"find / /run -xdev -regextype posix-extended -regex '({ELSEWHERE})' -prune -o -print")
    units = fleet.run(host, "systemctl", "list-units", "--all", "--plain", "--no-legend")
    return {"files": set(files.splitlines()), "users": set(fleet.run(host, "cat", "/etc/passwd", "/etc/group").splitlines()),
            "units": {name for name, *state in map(str.split, units.splitlines())
                      if name.startswith(("workfleet", "redis")) and state[:2] != ["not-found", "inactive"]},
            "packages": set(fleet.run(host, "dpkg-query", "-W", "-f", "${Package}\\n").splitlines())}


def test_an_app_that_is_declared_absent_leaves_the_hosts_as_they_were(fleet: Fleet) -> None:
    """Compared with a clean host; packages stay, so that those go first by hand which a clean host has not."""
    fleet.play("site")
    words = f"absent {fleet.app}"
    assert words in fleet.play("site", expect=2, app_state="absent").out
    assert "site.yml takes this app away" in fleet.play("start", expect=2, app_state="absent").out
    assert fleet.main_processes()
    fleet.forget_client()  # it would be a process of the app's, under which nothing is taken away
    predicted = fleet.play("site", "--check", app_state="absent")
    done = fleet.play("site", app_state="absent", confirm=words)
    assert done.steps == predicted.steps and done.steps
    assert fleet.play("site", app_state="absent").steps == []
    with fleet.clean_host() as clean:
        was = seen(fleet, clean)
        for host in (fleet.redis, fleet.worker):
            more = seen(fleet, host)["packages"] - was["packages"]
            fleet.run(host, "sh", "-c", f"apt-get -qy purge {' '.join(more)} >/dev/null 2>&1")
            left = seen(fleet, host)
            assert {name: sorted(left[name] - was[name]) for name in left} == {name: [] for name in left}, host
