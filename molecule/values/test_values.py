"""What a node's process under systemd is given is what the inventory says, whatever the value."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import values

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
RUN = "/run/workfleet/exact"


def run(*argv: str) -> str:
    done = subprocess.run([str(PROJECT / "molecule/resources/hosts"), "run", "values-worker", *argv], check=True,
                          capture_output=True, text=True)
    return done.stdout


@pytest.fixture(params=values.given(), scope="module")
def group(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def unit(group: str) -> str:
    return f"workfleet.exact.{group}.1.1"


@pytest.fixture(scope="module")
def dump(group: str) -> dict[str, Any]:
    return dict(json.loads(run("cat", f"{RUN}/{group}.json")))


def test_every_value_arrives_exactly(group: str, dump: dict[str, Any]) -> None:
    assert values.differences(group, dump) == []


def test_nothing_else_arrives(group: str, unit: str, dump: dict[str, Any]) -> None:
    others = {name: value for name, value in dump["env"].items() if name not in values.environment(group)}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    ours = {"HOME": "/opt/exact", "USER": "exact", "LOGNAME": "exact", "SHELL": "/bin/sh", "LANG": "C.UTF-8", "PATH": path,
            "SPT_NOENV": "1", "WORKFLEET_RECORD": f"{RUN}/{unit}.json"}
    assert {name: others.get(name) for name in ours} == ours
    systemds = {"NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM", "WORKFLEET_GENERATION"}
    assert set(others) - set(ours) <= systemds


def test_systemd_has_nothing_to_say_about_the_unit(unit: str) -> None:
    said = run("journalctl", "--no-pager", "--output=cat", "--identifier=systemd", f"--unit={unit}")
    assert [line for line in said.splitlines() if line and not line.startswith(("Starting", "Started"))] == []
    assert unit in run("systemctl", "show", "--property=Id", f"{unit}.service")


def test_the_environment_file_is_the_users_own(unit: str) -> None:
    assert run("stat", "--format=%a %U", f"/opt/exact/env/{unit}.env").strip() == "600 exact"
