"""What may be declared of the scheduler and the dashboard, on which hosts they are, and where the status tells of them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.module_utils.workfleet import engines, model
from plugins.module_utils.workfleet.engines.base import Place
from plugins.module_utils.workfleet.engines.celery import beat, flower
from plugins.module_utils.workfleet.spec import checker
from plugins.module_utils.workfleet.spec import workers as spec
from tests import warm

ROOT = Path(__file__).resolve().parents[2]
PLACE = Place(node="n", directory="/d", environment="/v", runners="/r")
CELERY = {"name": "a", "app": "shop.celery", "drain_seconds": 60}


def parsed(**top: Any) -> model.Declaration:
    return spec.parse({"host": "h1", "app": {"name": "shop"}, **top})


def problems(**top: Any) -> str:
    with pytest.raises(checker.SpecError) as caught:
        parsed(**top)
    return "\n".join(caught.value.problems)


def only(**top: Any) -> model.Group:
    (group,) = parsed(**top).groups
    return group


def argv(group: model.Group) -> list[str]:
    return engines.named(group.engine).command(group, PLACE)


def test_the_scheduler_is_a_group_of_one_node_with_a_lock_of_its_app() -> None:
    group = only(scheduler={"app": "shop.celery", "options": {"max_interval": 5, "loglevel": "info"}, "settings": {"beat_sync_every": 1}})
    assert (group.name, group.engine, group.nodes, group.drain_seconds) == ("scheduler", "beat", 1, 10)
    assert group.directories == ("/opt/shop/schedule",)
    assert argv(group) == [
        "/v/bin/python", "/r/workfleet_beat.py", "--node", "n", "--lock", "workfleet:shop:scheduler", "--directory", "/opt/shop/schedule",
        "--", "-A", "shop.celery", "beat", "--schedule=/opt/shop/schedule/schedule", "--pidfile=", "--max-interval=5", "--loglevel=INFO",
        "--", "beat_sync_every=(dict)1"]


def test_the_dashboard_is_on_loopback_keeps_its_state_and_has_its_passwords_in_no_command_line() -> None:
    group = only(dashboard={"app": "shop.celery", "basic_auth": ["ann:a", "bob:b:c"], "url_prefix": "/f/", "options": {"read_only": True}})
    assert argv(group) == [
        "/v/bin/python", "/r/workfleet_flower.py", "--", "-A", "shop.celery", "flower", "--address=127.0.0.1", "--port=5555",
        "--url_prefix=f", "--persistent=true", "--db=/opt/shop/dashboard/flower", "--state_save_interval=60000", "--read_only=true"]
    assert group.secrets == {"FLOWER_BASIC_AUTH": "ann:a,bob:b:c"}
    assert only(dashboard={"app": "shop", "persistent": False}).directories == ()


@pytest.mark.parametrize(("entry", "words"), [
    ({"scheduler": {"options": {}, "env": {}, "state": "started"}}, ["worker_scheduler: app: is required"]),
    ({"scheduler": {"app": "a", "nodes": 2}}, ["worker_scheduler: nodes: unknown key", "schedule_directory"]),
    ({"scheduler": {"app": "a", "options": {"max_intervall": 5}}}, ["options.max_intervall", "did you mean max_interval?"]),
    ({"scheduler": {"app": "a", "options": {"pidfile": "x"}}}, ["options.pidfile: refused", "a lock"]),
    ({"scheduler": {"app": "a", "schedule_directory": "here"}}, ["schedule_directory = 'here'", "an absolute path"]),
    ({"dashboard": {"app": "a", "port": 0}}, ["worker_dashboard: port = 0", "1 to 65535"]),
    ({"dashboard": {"app": "a", "address": ""}}, ["address = ''"]),
    ({"dashboard": {"app": "a", "address": "0.0.0.0"}}, ["without authentication", "set basic_auth", "ssh -L"]),
    ({"dashboard": {"app": "a", "address": "10.0.0.5", "options": {"auth": ".*"}}}, ["neither works without", "without authentication"]),
    ({"dashboard": {"app": "a", "options": {"max_task": 1}}}, ["options.max_task", "did you mean max_tasks?"]),
    ({"groups": [{**CELERY, "name": "scheduler"}]}, ["name = 'scheduler'", "belongs to worker_scheduler"]),
    ({"groups": [{**CELERY, "engine": "flower"}]}, ["engine = 'flower'", "one of celery, arq, chicory, rq, process"]),
])
def test_what_is_wrong_is_named(entry: dict[str, Any], words: list[str]) -> None:
    said = problems(**entry)
    assert all(word in said for word in words), said


@pytest.mark.parametrize("wrong", ["s3cret", ["ann:s3cret,x"], {"ann": "s3cret"}, [1], "ann:s3cret\n"])
def test_a_wrong_login_is_never_shown(wrong: Any) -> None:
    said = problems(dashboard={"app": "a", "basic_auth": wrong})
    assert "basic_auth: must be user:password" in said and "s3cret" not in said


def test_beyond_loopback_with_a_password_two_things_are_warned_of() -> None:
    open_to_all = {"app": "a", "address": "::", "basic_auth": "ann:b"}
    first, second = parsed(dashboard=open_to_all).warnings
    assert "no password at /metrics and /healthcheck" in first and "plain text" in second
    assert not parsed(dashboard={**open_to_all, "address": "::1"}).warnings


@pytest.mark.parametrize("part", ["scheduler", "dashboard"])
def test_names_that_change_the_one_of_both_behind_its_back_are_warned_of(part: str) -> None:
    env = {"CELERY_BROKER_URL": "redis://other", "LOADER": "s3cret"}
    app = {"name": "shop", "broker_url": "redis://h"}
    first, second = spec.parse({"host": "h1", "app": app, part: {"app": "a", "env": env}}).warnings
    assert f"worker_{part}: environment CELERY_BROKER_URL: is another URL" in first
    assert "environment LOADER" in second and "s3cret" not in second


def test_a_host_has_the_parts_of_its_inventory_groups_and_knows_the_names_of_all() -> None:
    whole = {"groups": [CELERY], "scheduler": {"app": "a"}, "dashboard": {"app": "a"}}
    for parts, names in ((["scheduler", "redis"], ["scheduler"]), (["workers"], ["a"]), (["dashboard", "workers"], ["a", "dashboard"]),
                         ([], ["a", "scheduler", "dashboard"])):
        declared = parsed(**whole, parts=parts)
        assert [group.name for group in declared.groups] == names
        assert declared.names == ("a", "scheduler", "dashboard")


def test_the_table_has_every_option_of_the_installed_beat_and_no_other() -> None:
    pytest.importorskip("celery")
    from celery.bin.beat import beat as command

    # What it shares with other daemons (--workdir is an option of all of celery) is not in this table twice.
    real = {parameter.name: parameter for parameter in command.params if parameter.name != "workdir"}
    assert set(beat.OPTIONS) == set(real)
    assert all(option.flag in real[name].opts for name, option in beat.OPTIONS.items())


def test_loopback_is_told_from_the_world() -> None:
    assert all(map(flower.is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(flower.is_loopback, ("0.0.0.0", "::", "10.0.0.1", "web1")))


def validated(tmp_path: Path, children: dict[str, list[str]], *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run ``validate.yml`` on an inventory."""
    pytest.importorskip("ansible")
    groups = {name: {"hosts": dict.fromkeys(hosts)} for name, hosts in children.items()}
    whole = {"app_name": "shop", "worker_groups": [CELERY], **variables}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups, "vars": whole}}))
    return warm.play(["-i", str(tmp_path / "hosts.yml"), "playbooks/validate.yml", *words])


def test_two_schedulers_of_one_app_are_refused_with_their_hosts(tmp_path: Path) -> None:
    groups = {"workers": ["w1"], "scheduler": ["s1", "s2"]}
    done = validated(tmp_path, groups, worker_scheduler={"app": "a"})
    assert done.returncode and "the app shop would have 2 schedulers, on s1, s2" in done.stdout
    assert validated(tmp_path, groups).returncode == 0


def test_two_schedulers_were_not_told_of_beside_another_mistake(tmp_path: Path) -> None:
    done = validated(tmp_path, {"workers": ["w1"], "scheduler": ["s1", "s2"]},
                     worker_scheduler={"app": "a"}, worker_dashboard={"app": "a", "address": "0.0.0.0"})
    assert "The inventory has 2 mistakes" in done.stdout and "2 schedulers, on s1, s2" in done.stdout


def test_a_scheduler_without_a_host_is_warned_of_and_a_name_of_any_host_can_be_chosen(tmp_path: Path) -> None:
    done = validated(tmp_path, {"workers": ["w1"], "dashboard": ["d1"]}, "-e", "worker_only=a,dashboard",
                     worker_scheduler={"app": "a"}, worker_dashboard={"app": "a"})
    assert done.returncode == 0 and "worker_scheduler is declared, but no host is in the inventory group" in done.stderr
    done = validated(tmp_path, {"workers": ["w1"]}, "-e", "worker_only=b")
    assert done.returncode and "worker_only: b: no such worker group; known are a" in done.stdout


def test_the_status_tells_of_them_beside_the_nodes() -> None:
    pytest.importorskip("ansible")
    from ansible_collections.workfleet.core.plugins.plugin_utils import status

    from tests.unit.test_status_table import node, told

    old, new = node(1, "draining", group="scheduler"), node(1, group="scheduler", incarnation=2, queues=[])
    found = status.combine("shop", {"w1": told(node(), old, new), "w2": told(node())})
    assert [entry["group"] for entry in found["hosts"]["w1"]["nodes"]] == ["reports"]
    assert found["hosts"]["w1"]["scheduler"] == new and found["hosts"]["w1"]["dashboard"] is None
    assert found["hosts"]["w2"]["scheduler"] is None
    lines = status.table(found, 120, lambda text, colour: text)
    assert lines[0] == "shop: 2 nodes on 2 hosts: 2 ready, scheduler ready on w1"
    assert any(line.startswith("w1") and "scheduler" in line for line in lines)


def test_under_systemd_both_may_write_where_they_keep_their_state_and_tell_when_they_are_ready() -> None:
    pytest.importorskip("ansible")
    from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import workers as collection_spec
    from ansible_collections.workfleet.core.plugins.plugin_utils.render import Renderer

    declared = collection_spec.parse({
        "host": "h1", "app": {"name": "shop"}, "manager": "systemd",
        "scheduler": {"app": "a", "sandbox": "strict"}, "dashboard": {"app": "a", "basic_auth": "ann:s3cret"}})
    beat_group, flower_group = Renderer(declared).payload()["groups"]
    for group, directory in ((beat_group, "/opt/shop/schedule"), (flower_group, "/opt/shop/dashboard")):
        assert group["directories"] == [directory]
        line = next(line for line in group["unit_text"].splitlines() if line.startswith("ReadWritePaths="))
        assert f'"{directory}"' in line
        assert ('"-/opt/shop/shared"' in line) == (group is beat_group)  # what is not strict may write there anyway
        assert "SystemCallFilter=@system-service" in group["unit_text"]
        assert "Type=notify" in group["unit_text"] and "KillMode=mixed" in group["unit_text"] and "TimeoutStopSec=25" in group["unit_text"]
    assert "s3cret" not in flower_group["unit_text"] and flower_group["secret_names"] == ["FLOWER_BASIC_AUTH"]
