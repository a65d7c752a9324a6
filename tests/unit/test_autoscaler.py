"""The autoscaler's timer: what of an inventory is copied, what the units say, which variables are wrong."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import autoscaler as timer
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.plugin_utils import autoscaler

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = {"secret_key": "BEGIN KEY\nabc\n", "vault_password": "geheim"}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    inventory = tmp_path / "inventory"
    (inventory / "group_vars" / "all").mkdir(parents=True)
    (inventory / "hosts.yml").write_text("all: {}\n")
    (inventory / "group_vars" / "all" / "vault.yml").write_text("$ANSIBLE_VAULT;1.1\n")
    (inventory / ".git").mkdir()
    (inventory / ".git" / "config").write_text("x")
    (tmp_path / "shared.yml").write_text("a: 1\n")
    (inventory / "group_vars" / "all" / "shared.yml").symlink_to(tmp_path / "shared.yml")
    (inventory / "dynamic").write_text("#!/bin/sh\n")
    (inventory / "dynamic").chmod(0o755)
    return {"app": "shop", "name": "shop-autoscaler", "user": "shop-autoscaler", "root": "/opt/x", "inventory": str(inventory)}


def test_the_inventory_is_copied_with_what_it_links_to_and_without_hidden_files(given: dict[str, Any]) -> None:
    made = autoscaler.request(given)
    assert set(made["files"]) == {f"inventory/{name}" for name in (
        "hosts.yml", "dynamic", "group_vars/all/vault.yml", "group_vars/all/shared.yml")}
    assert made["executable"] == ["inventory/dynamic"]
    assert made["files"]["inventory/group_vars/all/shared.yml"] == "a: 1\n"
    assert set(autoscaler.request({**given, "inventory": f"{given['inventory']}/hosts.yml"})["files"]) == set(made["files"])


def test_secrets_are_in_files_of_the_account_and_nowhere_else(given: dict[str, Any]) -> None:
    made = autoscaler.request({**given, **SECRETS})
    assert made["files"]["private/key"] == "BEGIN KEY\nabc\n"
    assert made["files"]["private/vault"] == "geheim\n"
    shown = made["service"] + made["timer"] + "".join(made["public"].values())
    assert "geheim" not in shown and "abc" not in shown
    assert "vault_password_file = /opt/x/private/vault" in made["public"]["ansible.cfg"]


def test_a_dry_run_is_a_check(given: dict[str, Any]) -> None:
    assert '"--check"' not in autoscaler.request(given)["service"]
    assert '"--check"' in autoscaler.request({**given, "dry_run": True})["service"]


def test_absent_takes_all_files_along(given: dict[str, Any]) -> None:
    assert autoscaler.request({**given, "state": "absent"})["files"] == {}


def test_an_inventory_that_is_not_there_or_is_a_home_directory_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(WorkfleetError, match="autoscaler_inventory: /no/where is not on this control node"):
        autoscaler.request({**given, "inventory": "/no/where"})
    (tmp_path / "inventory" / "film").write_bytes(bytes(5_000_001))
    with pytest.raises(WorkfleetError, match="holds more than 5 MB"):
        autoscaler.request(given)


@pytest.mark.parametrize(("key", "value", "said"), [
    ("name", "A b", "autoscaler_name = 'A b': must be a name for units"),
    ("root", "opt", "autoscaler_root = 'opt': must be an absolute path"),
    ("interval_seconds", 0, "autoscaler_interval_seconds = 0: must be a whole number, 1 or more"),
    ("dry_run", "yes", "autoscaler_dry_run = 'yes': must be true or false"),
    ("state", "on", "autoscaler_state = 'on': must be one of started"),
])
def test_a_wrong_variable_is_named(given: dict[str, Any], key: str, value: Any, said: str) -> None:
    with pytest.raises(WorkfleetError) as caught:
        autoscaler.request({**given, key: value})
    assert said in str(caught.value)


@pytest.mark.parametrize(("changed", "last", "status", "started"), [
    (True, "success", 0, True), (False, "success", 1, False), (False, "exit-code", 0, True), (True, "success", 4, True)])
def test_a_timer_is_done_when_an_evaluation_has_ended_well(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool, last: str, status: int, started: bool
) -> None:
    """One that could not reach any host was reported as done."""
    programs = {"systemctl": f'echo "$@" >> {tmp_path}/asked; [ "$1" = show ] && echo Result={last} && exit 0; exit {status}',
                "journalctl": "echo web1: unreachable"}
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    request = timer.Request.parse(autoscaler.request(given))
    with pytest.raises(WorkfleetError, match=r"an evaluation fails(.|\n)*web1: unreachable") if status and started else nullcontext():
        timer.prove(request, changed=changed)
    asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    assert ("start shop-autoscaler.service" in asked) is started
