"""The app's declaration: every mistake is named at once, and no secret is repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.release import spec as release_spec
from plugins.module_utils.workfleet.spec.checker import SpecError

if TYPE_CHECKING:
    from pathlib import Path


def parse(**raw: Any) -> tuple[dict[str, Any], dict[str, Any] | None]:
    return release_spec.parse({"name": "shop", **raw}, "web1")


def test_defaults_follow_the_name() -> None:
    payload, declared = parse()
    assert (payload["user"], payload["group"], payload["root"], payload["python"]) == (
        "shop",
        "shop",
        "/opt/shop",
        "python3",
    )
    assert (payload["kept"], declared, payload["environment"]) == (5, None, {})


def test_the_environment_is_broker_then_env_then_secrets() -> None:
    payload, _ = parse(
        broker_url="redis://b",
        result_url="redis://r",
        env={"A": 1, "CELERY_BROKER_URL": "own"},
        secrets={"B": "x", "A": "y"},
    )
    assert payload["environment"] == {
        "CELERY_BROKER_URL": "own",
        "CHICORY_BROKER_REDIS_URL": "redis://b",
        "RQ_REDIS_URL": "redis://b",
        "CELERY_RESULT_BACKEND": "redis://r",
        "CHICORY_BACKEND_REDIS_URL": "redis://r",
        "A": "y",
        "B": "x",
    }
    assert set(payload["secret_names"]) == {
        "CHICORY_BROKER_REDIS_URL",
        "RQ_REDIS_URL",
        "CELERY_RESULT_BACKEND",
        "CHICORY_BACKEND_REDIS_URL",
        "A",
        "B",
    }


def test_declared_names_replace_the_usual_ones_and_an_empty_list_means_none() -> None:
    payload, _ = parse(broker_url="redis://b", broker_env=["QUEUE_URL"], result_url="redis://r", result_env=[])
    assert payload["environment"] == {"QUEUE_URL": "redis://b"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"root": "/"}, "app_root"),
        ({"root": "/opt"}, "app_root"),
        ({"root": "/opt/../etc/x"}, "app_root"),
        ({"root": "opt/x"}, "app_root"),
        ({"user": "Shop User"}, "app_user"),
        ({"releases_kept": 0}, "releases_kept"),
        ({"nmae": "x"}, "did you mean name"),
        ({"env": {"A-B": "x"}}, "env.A-B"),
        ({"env": {"A": True}}, "env.A"),
        ({"pip_environment": {"A": None}}, "pip_environment.A"),
        ({"release_commands": ["migrate"]}, r"release_commands\[0\]"),
        ({"release_commands": [["x"]]}, "app_source: is not set"),
        ({"requirements": ["six"]}, "app_source: is not set"),
        ({"shared_paths": ["media/"]}, "app_source: is not set"),
        ({"requirements": "six", "source": {"type": "directory", "location": "x"}}, "requirements"),
        ({"source": {"location": "x"}}, "type: is required"),
        ({"source": {"type": "svn", "location": "x"}}, "'svn'"),
        ({"source": {"type": "git"}}, "location: is required"),
        ({"source": {"type": "git", "location": "--upload-pack=x"}}, "location"),
        ({"source": {"type": "git", "location": "x", "version": "-x"}}, "version"),
        ({"source": {"type": "git", "location": "x", "version": 1.10}}, "quotes"),
        ({"source": {"type": "pypi", "location": "six"}}, "version"),
        ({"source": {"type": "pypi", "location": "six; x", "version": "1"}}, "location"),
        ({"source": {"type": "directory", "location": "x", "version": "1"}}, "no meaning"),
        ({"source": {"type": "directory", "location": "x", "excludes": []}}, "did you mean exclude"),
    ],
)
def test_a_mistake_is_named(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(**raw)


def test_all_mistakes_come_at_once_and_no_value_that_may_be_secret() -> None:
    with pytest.raises(SpecError) as caught:
        parse(
            root="/",
            releases_kept=-1,
            secrets={"A": "geheim\0"},
            broker_url="geheim",
            release_commands="geheim",
            env={"x y": "geheim"},
        )
    assert len(caught.value.problems) >= 6
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "location", "found"),
    [
        ("directory", "../app", "{top}/app"),
        ("directory", "/srv/app", "/srv/app"),
        ("git", "./repo", "{top}/staging/repo"),
        ("git", "https://example.org/x.git", "https://example.org/x.git"),
        ("git", "git@example.org:x.git", "git@example.org:x.git"),
        ("pypi", "shop", "shop"),
    ],
)
def test_relative_paths_count_from_the_inventory(kind: str, location: str, found: str, tmp_path: Path) -> None:
    inventory = tmp_path / "staging"
    for place in (tmp_path / "app", inventory / "repo"):
        place.mkdir(parents=True)
    assert release_spec.located({"kind": kind, "location": location}, str(inventory))["location"] == found.format(top=tmp_path)


def test_in_an_inventory_of_links_a_relative_path_counts_from_where_they_lead(tmp_path: Path) -> None:
    """As molecule makes one: the team's own files are linked into a directory of its own."""
    (tmp_path / "app").mkdir()
    found = release_spec.located({"kind": "directory", "location": "../app"}, str(tmp_path / "molecule" / "x"), [str(tmp_path / "deploy")])
    assert found["location"] == str(tmp_path / "app")


def test_a_relative_path_to_nowhere_is_told_as_declared_and_from_where_it_was_counted(tmp_path: Path) -> None:
    with pytest.raises(WorkfleetError) as caught:
        release_spec.located({"kind": "directory", "location": "../app"}, str(tmp_path / "deploy"), ["/"])
    said = str(caught.value)
    assert "location: ../app is not on the control node: " in said
    assert f"counts from the inventory's directory, {tmp_path}/deploy, " in said
    assert f"{tmp_path}/app does not exist" in said
