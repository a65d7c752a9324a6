"""The autoscaler's timer: what of an inventory is copied, what the units say, which variables are wrong."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.scaling import timer
from ansible_collections.workfleet.core.plugins.plugin_utils import autoscaler

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = {"secret_key": "BEGIN KEY\nabc\n", "vault_password": "geheim"}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A project's directory that is the inventory's as well, as many are."""
    inventory = tmp_path / "inventory"
    for name, text in {
        "hosts.yml": "all: {}\n", "group_vars/all/vault.yml": "$ANSIBLE_VAULT;1.1\n", "group_vars/all/notes.md": "x",
        "host_vars/web1.yml": "b: 1\n", "group_vars/.old/all.yml": "x", ".git/config": "x",
        "deploy.sh": "#!/bin/sh\n", "app/tasks.py": "x", "README.md": "x",
    }.items():
        (inventory / name).parent.mkdir(parents=True, exist_ok=True)
        (inventory / name).write_text(text)
    (inventory / "deploy.sh").chmod(0o755)
    (tmp_path / "shared.yml").write_text("a: 1\n")
    (inventory / "group_vars" / "all" / "shared.yml").symlink_to(tmp_path / "shared.yml")
    return {"app": "shop", "name": "shop-autoscaler", "user": "shop-autoscaler", "root": "/opt/x",
            "inventory": [str(inventory / "hosts.yml")]}


def made_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return what the host is asked for, where nothing is to be said."""
    request, notices = autoscaler.request(given)
    assert notices == []
    return request


VARIABLES = {f"inventory/1/{name}" for name in ("group_vars/all/vault.yml", "group_vars/all/shared.yml", "host_vars/web1.yml")}


def test_of_an_inventory_that_lies_in_a_project_only_what_ansible_reads_is_copied(given: dict[str, Any]) -> None:
    made = made_of(given)
    assert set(made["files"]) == {"inventory/1/hosts.yml", *VARIABLES}
    assert made["executable"] == []
    assert made["files"]["inventory/1/group_vars/all/shared.yml"] == "a: 1\n"
    assert '"-i" "/opt/x/inventory/1/hosts.yml" "/opt/x/current/src/playbooks/autoscale.yml"' in made["service"]


def test_a_program_is_copied_where_it_is_named_as_a_source_and_refused_in_a_directory(given: dict[str, Any], tmp_path: Path) -> None:
    program = str(tmp_path / "inventory" / "deploy.sh")
    made = made_of({**given, "inventory": [*given["inventory"], program]})
    assert set(made["files"]) == {"inventory/1/hosts.yml", "inventory/1/deploy.sh", *VARIABLES}
    assert made["executable"] == ["inventory/1/deploy.sh"]
    assert '"-i" "/opt/x/inventory/1/hosts.yml" "-i" "/opt/x/inventory/1/deploy.sh"' in made["service"]
    with pytest.raises(WorkfleetError, match=rf"{program} is a program, which Ansible would run on the control host too: name the sources"):
        autoscaler.request({**given, "inventory": [str(tmp_path / "inventory")]})


def test_sources_of_several_places_keep_their_own_variables(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "more" / "deeper").mkdir(parents=True)
    for name in ("10-hosts.yml", "deeper/hosts", "notes.txt", "left~"):
        (tmp_path / "more" / name).write_text("all: {}\n")
    (tmp_path / "more" / "group_vars").mkdir()
    (tmp_path / "more" / "group_vars" / "all").write_text("c: 1\n")
    made = made_of({**given, "inventory": [*given["inventory"], str(tmp_path / "more")]})
    assert set(made["files"]) == {"inventory/1/hosts.yml", *VARIABLES, *(
        f"inventory/2/{name}" for name in ("10-hosts.yml", "deeper/hosts", "group_vars/all"))}
    assert '"-i" "/opt/x/inventory/1/hosts.yml" "-i" "/opt/x/inventory/2" ' in made["service"]


def test_what_is_looked_up_on_the_machine_that_reads_it_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "inventory" / "group_vars" / "all" / "app.yml"
    file.write_text("""{
        "a": "{{ lookup('file', '~/key') }}", "b": "{{ query( 'ansible.builtin.env', 'HOME') }}",
        "c": "{{ lookup('vars', 'a') }}"}""")
    (text,) = autoscaler.request(given)[1]
    assert text.startswith(f"autoscaler_inventory: {file} looks something up on the machine that reads it (env, file), and the control")


def test_secrets_are_in_files_of_the_account_and_nowhere_else(given: dict[str, Any]) -> None:
    made = made_of({**given, **SECRETS})
    assert made["files"]["private/key"] == "BEGIN KEY\nabc\n"
    assert made["files"]["private/vault"] == "geheim\n"
    shown = made["service"] + made["timer"] + "".join(made["public"].values())
    assert "geheim" not in shown and "abc" not in shown
    assert "vault_password_file = /opt/x/private/vault" in made["public"]["ansible.cfg"]


@pytest.mark.parametrize("text", [
    "autoscaler_secret_key: \"{{ lookup('file', '~/key') }}\"\nb: 1\n",
    "control:\n  autoscaler_vault_password: >-\n    {{ lookup('pipe',\n       'pass vault') }}\n  b: 1\n",
    "[all:vars]\nautoscaler_known_hosts={{ lookup('file', '~/.ssh/known_hosts') }}\n",
])
def test_secrets_may_be_looked_up_here_for_an_evaluation_does_not_ask_for_them(given: dict[str, Any], tmp_path: Path, text: str) -> None:
    file = tmp_path / "inventory" / "group_vars" / "all" / "control.yml"
    file.write_text(text)
    service = made_of({**given, **SECRETS})["service"]
    assert all(f'"-e" "autoscaler_{name}="' in service for name in ("secret_key", "known_hosts", "vault_password"))
    file.write_text(text + "c: \"{{ lookup('env', 'HOME') }}\"\n")
    (said,) = autoscaler.request(given)[1]
    assert "reads it (env), and" in said


def test_a_dry_run_is_a_check(given: dict[str, Any]) -> None:
    assert '"--check"' not in made_of(given)["service"]
    assert '"--check"' in made_of({**given, "dry_run": True})["service"]


def test_absent_takes_all_files_along(given: dict[str, Any]) -> None:
    assert made_of({**given, "state": "absent"})["files"] == {}


def test_an_inventory_that_is_not_there_or_is_a_home_directory_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(WorkfleetError, match="autoscaler_inventory: /no/where is not on this control node"):
        autoscaler.request({**given, "inventory": ["/no/where"]})
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "film").write_bytes(bytes(5_000_001))
    with pytest.raises(WorkfleetError, match="home/film it is more than 5 MB"):
        autoscaler.request({**given, "inventory": [str(tmp_path / "home")]})


@pytest.mark.parametrize(("key", "value", "said"), [
    ("name", "A b", "autoscaler_name = 'A b': must be a name for units"),
    ("root", "opt", "autoscaler_root = 'opt': must be an absolute path"),
    ("interval_seconds", 0, "autoscaler_interval_seconds = 0: must be a whole number, 1 or more"),
    ("dry_run", "yes", "autoscaler_dry_run = 'yes': must be true or false"),
    ("inventory", [7], "autoscaler_inventory = [7]: must be a list of paths on this control node, such as -i takes"),
    ("inventory", "hosts.yml", "autoscaler_inventory = 'hosts.yml': must be a list of paths"),
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
    request = timer.Request.parse(made_of(given))
    with pytest.raises(WorkfleetError, match=r"an evaluation fails(.|\n)*web1: unreachable") if status and started else nullcontext():
        timer.prove(request, changed=changed)
    asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    assert ("start shop-autoscaler.service" in asked) is started
