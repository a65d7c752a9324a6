"""An option that a module does not have is refused by every one of them, before anything is done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ansible_collections.workfleet.core.plugins.plugin_utils import actions

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "plugins/action").glob("*.py"))
VALUES = {"str": "x", "int": 1, "float": 1, "bool": False, "dict": {}, "list": [], "path": "x", "raw": "x"}
SECRET = "hushhush-in-a-url"


def run(tasks: list[dict[str, Any]], home: Path, *words: str) -> str:
    """Run tasks on this machine and return what is said."""
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
    (home / "play.yml").write_text(json.dumps(play), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-c", "local", *words, str(home / "play.yml")], cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "HOME": str(home)},
        capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def required(name: str) -> dict[str, Any]:
    """Return the least arguments that an action takes."""
    options = {key: option for key, option in actions.arguments(name).items() if option.get("required")}
    return {key: option.get("choices", [VALUES[option["type"]]])[0] for key, option in options.items()}


def refused(name: str, told: str, said: list[str]) -> list[dict[str, Any]]:
    """Return the tasks that see that what a task was ``told`` says ``said``."""
    return [{"ansible.builtin.assert": {"that": [f"{told} is failed", *(f"{text!r} in {told}.msg" for text in said)], "fail_msg": name}}]


def test_there_is_a_module_with_documented_options_for_every_action() -> None:
    assert [path.stem for path in sorted((ROOT / "library").glob("*.py"))] == NAMES
    for name in NAMES:
        for key, option in actions.arguments(name).items():
            assert option["type"] in VALUES, f"{name}: {key}"
            assert ("elements" in option) == (option["type"] == "list"), f"{name}: {key}"


def test_no_log_is_for_what_holds_nothing_but_secrets_and_for_no_list_of_entries() -> None:
    def walk(options: dict[str, Any], label: str) -> Iterator[str]:
        for name, option in options.items():
            if option.get("no_log") and option["type"] not in ("str", "raw") and not name.endswith("secrets"):
                yield f"{label}{name}"
            yield from walk(option.get("options", {}), f"{label}{name}.")

    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            assert list(walk(entry["options"], f"{path.parts[-3]}: ")) == []
    assert not any("no_log" in option for name in NAMES for option in actions.arguments(name).values())


def test_the_newest_ansible_that_is_said_to_do_is_the_newest_that_is_tested() -> None:
    said = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["requires_ansible"]
    tested = re.findall(r"^ansible-core>=[\d.]+,<([\d.]+);", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert tested == [said.partition("<")[2].removesuffix(".0")]


def test_no_action_takes_an_option_that_it_does_not_have(tmp_path: Path) -> None:
    tasks = []
    for name in NAMES:
        tasks += [{f"workfleet.core.{name}": {**required(name), "olny": "reports"}, "register": "told", "ignore_errors": True},
                  *refused(name, "told", ["olny", "Unsupported parameters", name])]
    run(tasks, tmp_path)


def test_no_action_takes_a_value_of_another_type_or_goes_without_a_required_one(tmp_path: Path) -> None:
    tasks = []
    for name in NAMES:
        for key, option in actions.arguments(name).items():
            wrong = {"int": "many", "float": "much", "bool": "perhaps", "dict": "text", "list": {"a": 1}}.get(option["type"])
            if option.get("choices"):
                wrong = "nonsense"
            if wrong is not None and key in ("hosts", "force", "lock_seconds", "app", "state", "timeout", "sample_seconds"):
                tasks += [{f"workfleet.core.{name}": {**required(name), key: wrong}, "register": "told", "ignore_errors": True},
                          *refused(name, "told", [key])]
        if required(name):
            tasks += [{f"workfleet.core.{name}": {}, "register": "told", "ignore_errors": True},
                      *refused(name, "told", ["missing required arguments", *required(name)])]
    run(tasks, tmp_path)


def test_a_secret_in_the_arguments_is_not_shown_however_much_is_asked_for(tmp_path: Path) -> None:
    url = f"redis://:{SECRET}@127.0.0.1:1/0"
    app = {"name": "shop", "user": "shop", "group": "shop", "root": "/opt/shop", "broker_url": url, "secrets": {"TOKEN": SECRET}}
    group = {"name": "reports", "app": "shop", "queues": ["reports"], "secrets": {"OTHER": SECRET}}
    given = {"app": app, "groups": [group]}
    calls: dict[str, dict[str, Any]] = {
        "queue_info": {}, "queue_purge": {"queue": "reports", "confirm": "purge shop reports"}, "task_probe": {"timeout": 1},
        "task_load": {"count": 1, "sample_seconds": 1}, "worker_info": {"parts": ["workers"]}, "task_events": {"sample_seconds": 1},
        "worker_nodes": {"parts": ["workers"], "olny": 1}, "worker_drain": {"lock_seconds": "x"},
    }
    tasks: list[dict[str, Any]] = [
        {f"workfleet.core.{name}": {**given, **more}, "ignore_errors": True} for name, more in calls.items()]
    tasks += [{"workfleet.core.redis_server_info": {"url": url, "timeout": 1}, "ignore_errors": True},
              {"workfleet.core.app_release": {**app, "releases_kept": 0}, "ignore_errors": True},
              {"workfleet.core.redis_server": {"app": "shop", "password": SECRET, "port": 0}, "ignore_errors": True}]
    assert SECRET not in run(tasks, tmp_path, "-vvv", "--diff", "--check")
