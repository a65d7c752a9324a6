"""The tree as a collection: built, installed elsewhere, used without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the collection installed in it, and nothing of the checkout on Ansible's paths."""
    home = tmp_path_factory.mktemp("collections")
    galaxy: list[str | Path] = [BIN / "ansible-galaxy", "collection"]
    for command in ([*galaxy, "build", "--output-path", home, PROJECT], [*galaxy, "install", "--offline", "-p", home]):
        done = run(home, *command, *home.glob("workfleet-core-*.tar.gz"))
        assert done.returncode == 0, done.stdout + done.stderr
    return home


def run(home: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of Ansible's that sees no configuration, and no collection but what is installed here."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(home), "HOME": str(home)}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=home, env=environment)


def test_the_archive_holds_what_hosts_need_and_no_tests(installed: Path) -> None:
    core = installed / "ansible_collections" / "workfleet" / "core"
    for name in ("runners/workfleet_redis_url.py", "plugins/filter/redis_url.py", "runners/launch.py",
                 "templates/systemd/node.service.j2", "plugins/modules/worker_nodes.py", "playbooks/site.yml"):
        assert (core / name).exists(), name
    for name in ("tests", "molecule", ".collections", ".venv", "demo", "build"):
        assert not (core / name).exists(), name


def test_modules_are_documented_under_the_collections_name(installed: Path) -> None:
    done = run(installed, BIN / "ansible-doc", "-t", "module", "--json", "-l", "workfleet.core")
    assert done.returncode == 0, done.stderr
    assert {"workfleet.core.worker_nodes", "workfleet.core.app_release", "workfleet.core.redis_server"} <= set(json.loads(done.stdout))


def test_a_playbook_of_the_collection_refuses_a_wrong_inventory_by_name(installed: Path) -> None:
    (installed / "hosts.yml").write_text(json.dumps({"workers": {"hosts": {"nowhere": {
        "app_name": "shop", "app_broker_url": "{{ 'h' | workfleet.core.redis_url('p/w', 1) }}",
        "worker_groups": [{"name": "a", "app": "x", "nodes": -1}]}}}}))
    done = run(installed, BIN / "ansible-playbook", "-i", "hosts.yml", "workfleet.core.validate")
    assert done.returncode != 0
    assert "The inventory has 1 mistake" in done.stdout + done.stderr  # and the filter is there
    assert "worker_groups[0] (a): nodes = -1: must be a whole number, 0 or more" in done.stdout + done.stderr
