"""For all that changes something there is a test that compares what a check foretells with what is then done."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY, COMMON, APART = "molecule/deploy/test_deploy.py", "molecule/resources/common.py", "molecule/apart/test_apart.py"
AUTOSCALE, BARE = "molecule/autoscale/test_autoscale.py", "molecule/resources/bare.py"
QUEUES, REAP = "tests/integration/test_queues_foretold.py", "tests/integration/test_reap.py"
RESET = "tests/integration/test_reset.py"
#: The functions that compare, by module. ``converge`` is how the tests of its file change anything at all.
MODULES = {
    "app_removal": {APART: "test_an_app_that_is_declared_absent_leaves_the_hosts_as_they_were"},
    "app_release": {"tests/integration/test_app_release.py": "converge", "tests/integration/test_release_hold.py": "back"},
    "autoscaler": {AUTOSCALE: "test_a_dry_run_only_tells_and_absent_leaves_neither_units_nor_secrets"},
    "dead_letter": {QUEUES: "test_what_is_done_to_dead_letters_is_what_a_check_says"},
    "postgresql_server": {"tests/unit/test_postgresql.py": "test_what_a_check_foretells_is_what_is_done"},
    "queue_purge": {QUEUES: "test_a_purge_and_a_restore_do_what_a_check_says"},
    "queue_reset": {RESET: "test_what_is_foretold_goes_nothing_else_does_and_all_tasks_come_back"},
    "queue_restore": {QUEUES: "test_a_purge_and_a_restore_do_what_a_check_says"},
    "redis_server": {"tests/integration/test_redis_server.py": "converge"},
    "worker_control": {
        "tests/integration/test_control.py": "test_a_running_node_does_as_it_is_told_and_what_it_refuses_is_said_in_its_own_words"},
    "worker_drain": {
        "tests/integration/test_drain.py":
            "test_a_node_finishes_what_it_runs_takes_nothing_more_and_stays_so_beyond_its_death_until_it_is_resumed"},
    "worker_nodes": {"tests/integration/supervised.py": "converge", "tests/unit/test_plan.py": "test_what_is_done_is_what_was_foretold"},
    "worker_reap": {REAP: "test_a_killed_workers_tasks_go_back_once_each_to_its_priority_and_no_foreign_one"},
    "worker_scale": {AUTOSCALE: "test_a_count_set_by_hand_is_foretold_kept_by_site_and_left_alone_while_paused"},
}
RUNNING = {DEPLOY: "test_what_is_done_to_running_nodes_is_foretold"}
#: The same by playbook; what a playbook does through one module alone is compared there.
PLAYBOOKS = {
    "site": {BARE: "test_a_check_of_bare_hosts_predicts_every_step_and_changes_nothing",
             COMMON: "test_a_change_is_predicted_restarts_only_its_group_and_loses_no_task",
             "molecule/fleet/test_fleet.py": "test_a_change_on_two_hosts_is_foretold_step_by_step_and_replaces_only_its_group"},
    "deploy": {DEPLOY: "test_a_deploy_on_bare_hosts_is_foretold_and_says_what_a_check_cannot_compare"},
    "rollback": {DEPLOY: "test_rollback_builds_nothing_and_site_stays_there"},
    "restart": RUNNING, "stop": RUNNING, "start": RUNNING, "drain": RUNNING, "resume": RUNNING,
    "scale": MODULES["worker_scale"], "autoscale": MODULES["worker_scale"], "control": MODULES["worker_control"],
    "purge": MODULES["queue_purge"], "restore": MODULES["queue_restore"], "dead_letters": MODULES["dead_letter"],
    "reap": MODULES["worker_reap"], "reset": {RESET: "test_the_playbook_asks_foretells_resets_and_the_tasks_run_when_they_are_restored"},
}
#: These look or measure; ``verify`` and ``load`` send tasks of their own, and none in check mode.
LOOKING = {"events", "health", "load", "logs", "queues", "status", "validate", "verify"}


def changes(module: Path) -> bool:
    """Whether a module ever reports a change. One that works through its action plugin alone reports nothing itself."""
    exits = [line for line in module.read_text().splitlines() if "exit_json(" in line]
    return any("changed=False" not in line for line in exits)


def compares(path: str, name: str) -> bool:
    """Whether a file has this function, and it asserts something of what was foretold beside what was done."""
    functions = [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef) and node.name == name]
    return any(is_comparison(node) for function in functions for node in ast.walk(function))


def is_comparison(node: ast.AST) -> bool:
    """Whether this compares with a check, by itself or through the method ``foretold`` of a fixture."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "foretold"
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} if isinstance(node, ast.Compare) else set()
    return bool(names & {"predicted", "foretold"})


def test_each_module_that_changes_something_has_a_test_that_compares() -> None:
    assert {path.stem for path in (ROOT / "library").glob("*.py") if changes(path)} == set(MODULES)


def test_each_playbook_that_changes_something_has_a_test_that_compares() -> None:
    assert {path.stem for path in (ROOT / "playbooks").glob("*.yml")} - LOOKING == set(PLAYBOOKS)


@pytest.mark.parametrize(("path", "name"), sorted({item for found in (*MODULES.values(), *PLAYBOOKS.values()) for item in found.items()}))
def test_the_tests_that_compare_are_there_and_do(path: str, name: str) -> None:
    assert compares(path, name)
