"""Each role's defaults and its argument specs tell the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from plugins.module_utils.workfleet import engines, model
from plugins.module_utils.workfleet.spec import workers as spec

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())


def load(role: str, name: str) -> dict[str, Any]:
    """Return a YAML file of a role."""
    loaded: dict[str, Any] = yaml.safe_load((ROLES / role / name).read_text(encoding="utf-8")) or {}
    return loaded


def options(role: str) -> dict[str, dict[str, Any]]:
    """Return the options of a role's main entry."""
    found: dict[str, dict[str, Any]] = load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return found


def group_options() -> dict[str, dict[str, Any]]:
    """Return the options of an entry of ``worker_groups``."""
    found: dict[str, dict[str, Any]] = options("worker")["worker_groups"]["options"]
    return found


def own(role: str) -> dict[str, dict[str, Any]]:
    """Return the options of a role without those that it shares with the role app."""
    return {name: option for name, option in options(role).items() if role == "app" or name == "app_name" or not name.startswith("app_")}


@pytest.mark.parametrize("role", NAMES)
def test_every_input_is_typed_described_and_defaulted(role: str) -> None:
    defaults = load(role, "defaults/main.yml")
    inputs = own(role)
    assert set(inputs) == set(defaults) | {name for name, option in inputs.items() if option.get("required")}
    assert all(option["type"] and option["description"] for option in inputs.values())


@pytest.mark.parametrize("role", NAMES)
def test_defaults_equal_the_specs(role: str) -> None:
    inputs = options(role)
    for name, value in load(role, "defaults/main.yml").items():
        if value is None or (isinstance(value, str) and "{{" in value):
            assert "default" not in inputs[name], f"{name}: computed, so its description tells the default"
        else:
            assert inputs[name]["default"] == value, name


@pytest.mark.parametrize("role", NAMES)
def test_a_role_takes_its_own_defaults(role: str) -> None:
    """Ansible checks what a role is given, defaults included, wherever it is used by its name: ``roles: [workfleet.core.worker]``."""
    computed = {name for name, value in load(role, "defaults/main.yml").items() if isinstance(value, str) and "{{" in value}
    given = {name: value for name, value in load(role, "defaults/main.yml").items() if name not in computed}
    assert ArgumentSpecValidator(options(role)).validate({**given, "app_name": "shop"}).error_messages == []


@pytest.mark.parametrize("role", NAMES)
def test_what_a_role_reads_of_the_app_it_takes_as_a_parameter_too(role: str) -> None:
    files = [path for folder in ("tasks", "vars", "defaults") for path in (ROLES / role).glob(f"{folder}/*")]
    texts = "".join(path.read_text(encoding="utf-8") for path in files)
    read = set(re.findall(r"(?<![\w.'])app_(?!release\b)\w+", texts))
    assert read <= set(options(role))
    for name in read - {"app_name"}:
        compared = ("type", "elements", "default", "no_log")
        assert [options(role)[name].get(key) for key in compared] == [options("app")[name].get(key) for key in compared], name


def test_no_play_and_no_role_of_ours_turns_the_check_of_arguments_off() -> None:
    files = [*ROOT.glob("playbooks/*.yml"), *ROLES.glob("*/tasks/*.yml")]
    assert [path.name for path in files if "rolespec_validate" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("role", NAMES)
def test_names_begin_with_their_role_and_secrets_are_marked(role: str) -> None:
    for name, option in own(role).items():
        assert name.startswith((f"{role}_", "app_name"))
        if any(word in name for word in ("secret", "password", "url")):
            assert option["no_log"] is True, name
            assert "choices" not in option, name


def test_the_keys_of_a_group_are_those_that_are_parsed() -> None:
    assert set(group_options()) == set(spec.GROUP_KEYS)
    assert set(group_options()["limits"]["options"]) == set(spec.LIMITS)
    assert group_options()["engine"]["choices"] == sorted(engines.ENGINES)
    assert set(group_options()["autoscale"]["options"]) == set(spec.AUTOSCALE_KEYS)
    assert set(options("worker")["worker_rollout"]["options"]) == set(spec.ROLLOUT_KEYS)
    assert set(options("worker")["worker_scheduler"]["options"]) == set(spec.SCHEDULER_KEYS)
    assert set(options("worker")["worker_dashboard"]["options"]) == set(spec.DASHBOARD_KEYS)


def test_defaults_inside_entries_are_those_of_the_parser() -> None:
    parsed = {"worker_groups": model.Group("x", engines.DEFAULT), "worker_rollout": model.Rollout(), "worker_log": model.Log()}
    for variable, value in parsed.items():
        for name, option in options("worker")[variable]["options"].items():
            if "default" in option:
                own = getattr(value, name)
                assert option["default"] == (list(own) if isinstance(own, tuple) else own), f"{variable}: {name}"
    for name, option in group_options()["autoscale"]["options"].items():
        if "default" in option:
            assert option["default"] == getattr(model.Policy(max=1, backlog_per_node=1), name), f"autoscale: {name}"
