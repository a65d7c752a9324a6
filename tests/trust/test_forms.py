"""What belongs to others is no app's, no secret stands where everybody can read it, and what cannot be read is named with its key."""

from __future__ import annotations

import getpass
import os
import time
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.workfleet.core.plugins.plugin_utils import inventory, ourselves

from plugins.module_utils.workfleet import forms

SECRET = "hushhush"
SOURCE = {"app_source": {"type": "directory", "location": "."}}
CELERY = {"name": "a", "app": "shop.app", "queues": ["q"]}


def judged(**variables: Any) -> list[str]:
    """Return what ``validate`` says of a worker host."""
    raw = {"app_name": "shop", "group_names": ["workers", "scheduler"], "inventory_hostname": "h1", **variables}
    return list(inventory.problems(inventory.Host("h1", raw, Templar(DataLoader(), variables=raw))))


@pytest.mark.parametrize("path", [
    "/", "/opt", "/srv", "/tmp", "/var", "/var/lib", "/var/log", "/var/run/shop", "/var/lib/systemd/shop", "/var/lib/redis", "/home",
    "/home/x", "/root", "/etc", "/etc/shop", "/usr/local/shop", "/run/systemd", "/run/shop", "/proc/1", "/dev/shm/shop",
    "/boot/shop", "/bin/shop",
    "/opt/../etc", "/opt/./shop", "/opt//shop", "../shop", "opt/shop", "/opt/shop/..",
])
def test_a_directory_of_the_system_or_of_others_is_no_apps_own(path: str) -> None:
    for variable, inner in (("app_root", None), ("worker_scheduler", "schedule_directory")):
        given = path if inner is None else {"app": "shop.app", inner: path}
        found = judged(**{variable: given, "app_broker_url": "redis://h"})
        assert found and all((inner or variable) in text for text in found), found


@pytest.mark.parametrize("path", [
    "/opt/shop", "/srv/apps/shop", "/home/x/shop", "/var/lib/shop", "/var/www/shop", "/mnt/data/shop", "/tmp/x/shop", "/root/shop"])
def test_a_directory_that_nobody_else_has_can_be_an_apps_own(path: str) -> None:
    assert judged(app_root=path) == []


@pytest.mark.parametrize(("manager", "path", "own"), [
    ("systemd", "/run/workfleet/shop", True), ("systemd", "/run/shop", True), ("systemd", "/run/shop/nodes", True),
    ("systemd", "/run/systemd", False), ("systemd", "/run/systemd/shop", False), ("systemd", "/run/user", False),
    ("systemd", "/run", False), ("systemd", "/run/workfleet", False), ("systemd", "/run/../etc", False),
    ("supervisor", "/run/systemd/shop", False),
    ("supervisor", "/etc/shop", False), ("supervisor", "/opt/shop/run", True), ("supervisor", "/run/shop", True),
    ("supervisor", "/", False),
])
def test_a_run_directory_is_the_apps_own(manager: str, path: str, own: bool) -> None:
    found = judged(worker_manager=manager, worker_run_directory=path)
    assert (found == []) == own, found
    assert all("worker_run_directory" in text for text in found)


@pytest.mark.parametrize("account", ["root", "daemon", "redis", "postgres", "nobody", "www-data", "systemd-network", "sshd"])
def test_an_account_of_the_system_is_no_apps(account: str) -> None:
    found = judged(app_user=account)
    assert len(found) == 1 and found[0].startswith(f"app_user = '{account}': ")
    assert judged(app_group=account)[0].startswith(f"app_group = '{account}': ")


def test_who_runs_an_app_of_their_own_on_their_own_machine_may_be_anybody() -> None:
    me = getpass.getuser()
    assert judged(app_user=me, ansible_connection="local") == []
    assert (judged(app_user="root") == []) is False


def test_a_process_without_an_account_runs_no_app_here_and_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was started as a bare number: Redis ran already when that was found out."""
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999)
    text, = judged(app_user="ci", ansible_connection="local")
    assert text.startswith("ansible_connection = 'local': this runs as user number 3999999, which has no account on this machine")
    assert "ci:x:3999999:" in text
    assert ourselves.user() == "3999999"
    assert judged() == [], "another machine has its own accounts"


@pytest.mark.parametrize(("variables", "said"), [
    ({**SOURCE, "app_requirements": [f"git+https://user:{SECRET}@h/x.git"]}, "app_requirements"),
    ({**SOURCE, "app_requirements": [f"--index-url=https://{SECRET}@h/simple"]}, "app_requirements"),
    ({**SOURCE, "app_release_commands": [["x", f"redis://:{SECRET}@h/0"]]}, "app_release_commands[0]"),
    ({"worker_groups": [{"name": "a", "engine": "process", "command": ["x", f"--broker=redis://:{SECRET}@h/0"]}]}, "command"),
    ({"worker_groups": [{**CELERY, "options": {"hostname": f"redis://:{SECRET}@h"}}]}, "options"),
])
def test_credentials_that_everybody_could_read_are_refused_with_a_better_place(variables: dict[str, Any], said: str) -> None:
    found = judged(**variables)
    assert any(said in text and "a password or a token" in text for text in found), found
    assert SECRET not in "\n".join(found)
    assert any(word in "\n".join(found) for word in ("app_pip_environment", "app_secrets"))


def test_a_repository_by_ssh_and_an_index_without_a_password_are_no_credentials() -> None:
    for text in ("git+ssh://git@github.com/x/y.git", "https://pypi.example/simple", "redis://h:6379/0", "a@b", "mailto:x@y"):
        assert not forms.has_credentials(text)


def test_a_long_text_is_looked_at_in_no_time() -> None:
    began = time.process_time()
    for text in ("a" * 10**5, "a:" * 10**5, "a+" * 10**5, "://" * 10**5, "http://" * 10**4):
        forms.has_credentials(text)
        forms.quoted(text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(("variables", "place"), [
    ({"app_env": {"A": "x", "B": trust_as_template("{{ nobody_sets_this }}")}}, "app_env.B: "),
    ({"app_root": trust_as_template("/opt/{{ nobody_sets_this }}")}, "app_root: "),
    ({"worker_groups": [CELERY, {**CELERY, "name": "b", "env": {"X": trust_as_template("{{ nobody_sets_this }}")}}]},
     "worker_groups[1].env.X: "),
])
def test_a_variable_that_is_not_set_is_named_with_the_key_that_wants_it(variables: dict[str, Any], place: str) -> None:
    found = judged(**variables)
    assert len(found) == 1 and found[0].startswith(place) and "nobody_sets_this" in found[0], found
