"""What holds for every fleet of the example app, whatever its manager and release; scenarios import these tests.

They run in this order, each on what the one before left behind, as operations follow one another on a real fleet.
"""

from __future__ import annotations

import os
from typing import Any

from fleet import Fleet, wait

#: Two other environments of the group reports: a change that replaces its nodes and no others.
BLUE = {"reports": {"env": {"COLOUR": "blue"}}}
GREEN = {"reports": {"env": {"COLOUR": "green"}}}
SECRETS = ("pa ss#w0rd", "pa%20ss%23w0rd", "top$ecret#key")


def declared(fleet: Fleet, incarnation: int = 1) -> set[str]:
    return {f"{fleet.app}.{group['name']}.{slot}.{incarnation}@{fleet.worker}"
            for group in fleet.vars["worker_groups"] for slot in range(1, group["nodes"] + 1)}


def rollout(fleet: Fleet, **changes: Any) -> dict[str, Any]:
    return {**fleet.vars["worker_rollout"], **changes}


def of(processes: dict[str, int], group: str) -> dict[str, int]:
    return {node: pid for node, pid in processes.items() if f".{group}." in node}


def test_every_declared_node_is_one_process(fleet: Fleet) -> None:
    processes = fleet.main_processes()
    assert set(processes) == declared(fleet)
    owners = fleet.run(fleet.worker, "ps", "-o", "user=", "-p", ",".join(map(str, processes.values()))).split()
    assert set(owners) == {fleet.app}


def test_no_unit_is_exposed_more_than_its_sandbox_promises(fleet: Fleet) -> None:
    levels = {group["name"]: group.get("sandbox", "basic") for group in fleet.vars["worker_groups"]}
    most = {"basic": 5.0, "strict": 1.7}
    found = {unit: (score, most.get(levels.get(unit.split(".")[2] if unit.startswith("workfleet.") else "", ""), 3.0))
             for host in {fleet.worker, fleet.redis} for unit, score in fleet.exposures(host).items()}
    assert len(found) > 1
    assert {unit: scores for unit, scores in found.items() if scores[0] > scores[1]} == {}


def test_limits_are_those_of_the_process(fleet: Fleet) -> None:
    for node, pid in of(fleet.main_processes(), "reports").items():
        limits = fleet.run(fleet.worker, "cat", f"/proc/{pid}/limits")
        assert [line.split()[3] for line in limits.splitlines() if line.startswith("Max open files")] == ["4096"], node
        assert fleet.run(fleet.worker, "ps", "-o", "ni=", "-p", str(pid)).strip() == "5", node


def test_secrets_are_in_the_environment_and_nowhere_else(fleet: Fleet) -> None:
    seen = {
        "argv": fleet.run(fleet.worker, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        "journal": fleet.run(fleet.worker, "journalctl", "--no-pager", "-o", "verbose"),
        "units": fleet.run(fleet.worker, "sh", "-c", "cat /etc/systemd/system/workfleet.* "
                                                     f"/opt/{fleet.app}/supervisor/programs/* 2>/dev/null; true"),
        "logs": fleet.run(fleet.worker, "sh", "-c", f"cat /opt/{fleet.app}/log/* 2>/dev/null; true"),
        "status": fleet.play("status", "-vvv").out,
        "diff": fleet.play("site", "--check", "--diff", "-vvv", app_env={"GREETING": "other"}).out,
    }
    for place, text in seen.items():
        for secret in SECRETS:
            assert secret not in text, f"{secret} stands in {place}"
    modes = fleet.run(fleet.worker, "sh", "-c", f"stat -c '%a %U' /opt/{fleet.app}/env/*.env").splitlines()
    assert set(modes) == {f"600 {fleet.app}"}


def test_tasks_of_each_kind_are_done(fleet: Fleet) -> None:
    said = fleet.run(fleet.worker, f"/opt/{fleet.app}/bin/run", "python", "-m", "app.send", "--cpu", "4", "--io", "4", "--retry", "2",
                     "--fail", "1", "--chord", "1")
    assert "12 of 12 came back" in said, said


def test_a_canary_comes_back_from_every_queue(fleet: Fleet) -> None:
    fleet.play("verify")


def test_status_tells_what_is(fleet: Fleet) -> None:
    status = fleet.status()
    nodes = status["hosts"][fleet.worker]["nodes"]
    assert {node["node"]: node["pid"] for node in nodes} == fleet.main_processes()
    assert all(node["state"] == "ready" and node["current"] for node in nodes)
    assert {(node["group"], *node["queues"]) for node in nodes} == {("reports", "reports"), ("default", "default")}
    assert sum(node["processed"] for node in nodes) >= 12
    assert status["problems"] == []


def test_a_change_is_predicted_restarts_only_its_group_and_loses_no_task(fleet: Fleet) -> None:
    before = fleet.main_processes()
    change = {"worker_groups": fleet.groups(**BLUE)}
    predicted = fleet.play("site", "--check", "--diff", **change)
    assert fleet.main_processes() == before
    tasks = [fleet.send("fetch", 10, queue="reports") for _ in range(3)]
    done = fleet.play("site", **change)
    assert done.steps == predicted.steps
    after = fleet.main_processes()
    assert of(after, "default") == of(before, "default")
    assert {node.split("@")[0].rsplit(".", 1)[1] for node in of(after, "reports")} == {"2"}
    assert [fleet.ended(task, 60) for task in tasks] == ["SUCCESS"] * 3
    environments = fleet.run(fleet.worker, "sh", "-c", f"grep -l COLOUR=.blue /opt/{fleet.app}/env/*.env").splitlines()
    assert len(environments) == len(of(after, "reports"))
    assert fleet.play("site", **change).steps == []


def test_what_somebody_broke_is_repaired_and_nothing_else(fleet: Fleet) -> None:
    change = {"worker_groups": fleet.groups(**BLUE)}
    before = fleet.main_processes()
    unit = f"workfleet.{fleet.app}"
    fleet.run(fleet.worker, "rm", f"/opt/{fleet.app}/env/{unit}.default.1.1.env")
    fleet.run(fleet.worker, "sh", "-c", f"sed -i '1i # mine' $(ls /etc/systemd/system/{unit}.default.2.1.service "
                                        f"/opt/{fleet.app}/supervisor/programs/{unit}.default.2.1.conf 2>/dev/null)")
    supervisor = f"/opt/{fleet.app}/supervisor"
    fleet.run(fleet.worker, "sh", "-c", f"systemctl stop {unit}.reports.1.2 2>/dev/null || "
                                        f"{supervisor}/venv/bin/supervisorctl -c {supervisor}/supervisord.conf stop {unit}.reports.1.2")
    run = fleet.play("site", **change)
    assert run.touched == {f"{unit}.default.1.1", f"{unit}.default.2.1", f"{unit}.reports.1.2"}
    assert {(action, name) for action, name in run.actions if action in ("start", "stop", "remove")} == {("start", f"{unit}.reports.1.2")}
    after = fleet.main_processes()
    assert set(after) == set(before)
    assert {node for node in after if after[node] != before[node]} == {f"{fleet.app}.reports.1.2@{fleet.worker}"}
    assert fleet.play("site", **change).steps == []


def test_a_play_killed_in_a_rollout_is_finished_by_the_next(fleet: Fleet) -> None:
    change = {"worker_groups": fleet.groups(**GREEN)}
    fleet.play_and_kill("site", lambda: any(".3@" in node for node in fleet.main_processes()), **change)
    wait(lambda: fleet.play("site", worker_lock_seconds=60, **change).steps is not None, 90)
    assert {node.split("@")[0].rsplit(".", 1)[1] for node in of(fleet.main_processes(), "reports")} == {"3"}
    assert fleet.play("site", **change).steps == []


def test_an_app_that_does_not_import_is_named_and_the_rest_runs_on(fleet: Fleet) -> None:
    change = fleet.groups(**GREEN, default={"app": "app.nosuch"})
    before = fleet.main_processes()
    run = fleet.play("site", expect=2, worker_groups=change)
    assert "nodes of default were not started, and none was stopped for them" in run.out
    assert "No module named 'app.nosuch'" in run.out
    assert fleet.main_processes() == before


def test_a_worker_that_does_not_become_ready_halts_the_rollout(fleet: Fleet) -> None:
    before = fleet.main_processes()
    lost = {"env": {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}}
    change = {"worker_rollout": rollout(fleet, ready_timeout_seconds=6), "worker_groups": fleet.groups(**GREEN, default=lost)}
    run = fleet.play("site", expect=2, **change)
    assert f"workfleet.{fleet.app}.default." in run.out
    assert "did not become ready within 6 s" in run.out
    after = fleet.main_processes()
    assert of(after, "reports") == of(before, "reports")
    assert "What ran before on this host runs again." in run.out
    replaced = 1 if fleet.vars["worker_rollout"].get("order") == "stop-first" else 0
    assert len(set(before.items()) - set(after.items())) == replaced, "the rollout went on behind the node that failed"
    assert len(after) == len(before)
    assert fleet.play("site", worker_groups=fleet.groups(**GREEN)).steps == []


def test_a_wrong_password_changes_nothing(fleet: Fleet) -> None:
    before = fleet.main_processes()
    run = fleet.play("site", expect=2, app_broker_url=fleet.vars["app_broker_url"].replace("ss%23w0rd", "wrong"),
                     worker_groups=fleet.groups(**GREEN))
    assert "does not reach the broker" in run.out
    assert "WRONGPASS" in run.out
    assert fleet.main_processes() == before


def test_stop_and_start(fleet: Fleet) -> None:
    groups = {"worker_groups": fleet.groups(**GREEN)}
    fleet.play("stop", worker_only="default", **groups)
    assert of(fleet.main_processes(), "default") == {}
    assert of(fleet.main_processes(), "reports")
    fleet.play("start", **groups)
    assert len(of(fleet.main_processes(), "default")) == next(group["nodes"] for group in fleet.groups() if group["name"] == "default")


def test_restart_replaces_every_node_once(fleet: Fleet) -> None:
    groups = {"worker_groups": fleet.groups(**GREEN)}
    before = fleet.main_processes()
    fleet.play("restart", worker_rollout=rollout(fleet, parallelism=2), **groups)
    after = fleet.main_processes()
    assert len(after) == len(before)
    assert not set(before) & set(after)


def test_a_reboot_brings_every_node_back(fleet: Fleet) -> None:
    before = fleet.main_processes()
    fleet.reboot(fleet.worker)
    wait(lambda: set(fleet.main_processes()) == set(before), 60)
    fleet.wait_until_reachable(fleet.worker)
    groups = {"worker_groups": fleet.groups(**GREEN)}
    fleet.play("site", **groups)
    fleet.play("verify", **groups)


def test_apps_with_alike_names_do_not_touch_each_other(fleet: Fleet) -> None:
    def converge(app: str, seconds: str, nodes: int) -> None:
        sleeper = {"name": "sleeper", "engine": "process", "command": ["/bin/sleep", seconds], "nodes": nodes, "drain_seconds": 5}
        fleet.play("site", "--tags", "app,worker", app_name=app, app_source={}, app_requirements=[], app_broker_url="", app_result_url="",
                   worker_groups=[sleeper])

    def processes(seconds: str) -> list[str]:
        return fleet.run(fleet.worker, "pgrep", "-fx", f"/bin/sleep {seconds}", check=False).split()

    ours = fleet.main_processes()
    converge("foo-bar", "4243", 2)
    bars = processes("4243")
    assert len(bars) == 2
    converge("foo", "4242", 2)
    assert len(processes("4242")) == 2
    converge("foo", "4242", 0)
    assert processes("4242") == []
    assert processes("4243") == bars
    assert fleet.main_processes() == ours


def test_absent_leaves_no_trace(fleet: Fleet) -> None:
    groups = fleet.groups(reports={"state": "absent"}, default={"state": "absent"})
    predicted = fleet.play("site", "--check", worker_groups=groups)
    assert fleet.play("site", worker_groups=groups).steps == predicted.steps
    assert fleet.main_processes() == {}
    left = fleet.run(fleet.worker, "sh", "-c", f"find / -xdev -name 'workfleet.{fleet.app}.*' -not -path '/proc/*' -not -name '*.log*' "
                                               f"-not -name '*supervisord*'; ls /run/workfleet/{fleet.app}/*.json 2>/dev/null; true")
    assert left == ""


if os.environ.get("MOLECULE_SCENARIO_NAME") is None:
    raise ImportError("these tests are run by molecule, see molecule/README.md")
