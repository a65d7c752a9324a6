"""The tree as a collection: built, installed elsewhere, used without the checkout, by the project that docs/collection.md shows."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.arguments import queue_purge
from tests.patience import until
from tests.run import environments

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PLAYBOOKS = sorted(f"workfleet.core.{path.stem}" for path in (ROOT / "playbooks").glob("*.yml"))
#: A file of the page: its name in backticks, in the paragraph before the block.
FILE = re.compile(r"`([\w./]+\.(?:cfg|yml|py))`[^`]*?:\n\n```\w+\n(.*?)^```$|^`(own\.yml)`.*?```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Project:
    """A directory with the collection in it, and nothing of the checkout on Ansible's paths."""

    def __init__(self, home: Path) -> None:
        self.home = home
        page = (ROOT / "docs" / "collection.md").read_text(encoding="utf-8")
        for found in FILE.finditer(page):
            path = home / (found[1] or found[3])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found[2] or found[4], encoding="utf-8")
        (home / "app" / "shop" / "__init__.py").touch()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = str(probe.getsockname()[1])

    def run(self, *command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command that knows of no configuration but the project's."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {"HOME": str(self.home), "SHOP_PORT": self.port, "PIP_CACHE_DIR": os.path.expanduser("~/.cache/pip"), **more}
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=self.home, env=environment)

    def play(self, *words: str, bin_of: Path = BIN) -> str:
        """Run a playbook that has to go well; return what it said."""
        done = self.run(bin_of / "ansible-playbook", "-i", "deploy/hosts.yml", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    home = Path(tempfile.mkdtemp(prefix="wf-", dir="/tmp"))  # pytest's own paths are too long for a socket
    made = Project(home)
    try:
        for words in (["build", "--output-path", str(home), str(ROOT)],
                      ["install", "--offline", "-p", ".collections", str(home / "workfleet-core-0.1.0.tar.gz")]):
            done = made.run(BIN / "ansible-galaxy", "collection", *words)
            assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def fleet(project: Project) -> Iterator[tuple[Project, str]]:
    """The project, converged, and what that said."""
    try:
        yield project, project.play("workfleet.core.site", "-e", "steps_json=steps.json")
    finally:
        root = project.home / ".shop"
        with contextlib.suppress(FileNotFoundError):
            project.run(root / "supervisor/venv/bin/supervisorctl", "-c", root / "supervisor/supervisord.conf", "shutdown")
        until(lambda: not told_to_end(root), 60, pause=0.2)


def told_to_end(root: Path) -> list[int]:
    """Tell the processes whose command line names this directory to end; return them."""
    found = [int(file.parent.name) for file in Path("/proc").glob("[0-9]*/cmdline") if f"{root}/".encode() in read(file)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return found


def read(file: Path) -> bytes:
    """Return what a file of /proc holds while its process is there."""
    with contextlib.suppress(OSError):
        return file.read_bytes()
    return b""


def newest() -> Path | None:
    """Return the newest Ansible's directory, where there is a Python for it."""
    try:
        program = environments.python(12)
    except environments.NoSuchPython:
        return None
    return environments.virtualenv(".cache/newest", program, "requirements.txt", "tests/requirements-newest.txt")


def test_the_archive_holds_what_hosts_and_control_nodes_need_and_nothing_else(project: Project) -> None:
    core = project.home / ".collections" / "ansible_collections" / "workfleet" / "core"
    assert {path.name for path in core.iterdir()} == {
        "CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "SECURITY.md", "requirements.txt",
        "docs", "library", "meta", "module_utils", "playbooks", "plugins", "roles", "runners", "templates"}
    kinds = {path.suffix for path in core.rglob("*") if path.is_file()}
    assert kinds == {"", ".j2", ".json", ".md", ".png", ".py", ".txt", ".yml"}
    # What galaxy-importer asks for beside this: a page a role.
    assert all((role / "README.md").exists() for role in (core / "roles").iterdir())


def test_modules_are_documented_under_the_collections_name(project: Project) -> None:
    done = project.run(BIN / "ansible-doc", "-t", "module", "--json", "-l", "workfleet.core")
    assert done.returncode == 0, done.stderr
    assert {"workfleet.core.worker_nodes", "workfleet.core.app_release", "workfleet.core.redis_server"} <= set(json.loads(done.stdout))
    done = project.run(BIN / "ansible-doc", "-t", "module", "--json", "workfleet.core.queue_purge")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["workfleet.core.queue_purge"]["doc"]["options"]
    assert set(shown) == set(queue_purge.ARGUMENTS)  # those of fragments too


def test_a_playbook_of_the_collection_refuses_a_wrong_inventory_by_name(project: Project) -> None:
    (project.home / "wrong.yml").write_text(json.dumps({"workers": {"hosts": {"nowhere": {
        "app_name": "shop", "app_broker_url": "{{ 'h' | workfleet.core.redis_url('p/w', 1) }}",
        "worker_groups": [{"name": "a", "app": "x", "nodes": -1}]}}}}))
    done = project.run(BIN / "ansible-playbook", "-i", "wrong.yml", "workfleet.core.validate")
    assert done.returncode != 0
    assert "The inventory has 1 mistake" in done.stdout + done.stderr  # and the filter is there
    assert "worker_groups[0] (a): nodes = -1: must be a whole number, 0 or more" in done.stdout + done.stderr


def test_every_playbook_can_be_named(project: Project) -> None:
    said = project.play("--syntax-check", *PLAYBOOKS)
    assert said.count("playbook: ") == len(PLAYBOOKS), said


def test_the_project_of_the_page_runs_with_two_lines_of_configuration_and_no_warning(fleet: tuple[Project, str]) -> None:
    project, said = fleet
    assert len((project.home / "ansible.cfg").read_text().splitlines()) == 2
    assert "Could not match" not in said
    steps = json.loads((project.home / "steps.json").read_text())
    assert ("here", "start", "orders") in {(step["host"], step["action"], step["group"]) for step in steps}
    assert "orders: ok: there and back" in project.play("workfleet.core.verify")


def test_roles_by_name_in_a_play_of_ones_own_have_nothing_left_to_do(fleet: tuple[Project, str]) -> None:
    project, _ = fleet
    said = project.play("own.yml", "-e", "steps_json=again.json")
    assert json.loads((project.home / "again.json").read_text()) == []
    assert "Validating arguments against arg spec 'main'" in said


@pytest.mark.full
def test_a_teams_own_molecule_scenario_runs_the_inventory_of_production(fleet: tuple[Project, str]) -> None:
    project, _ = fleet
    path = {"PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_COLLECTIONS_PATH": str(project.home / ".collections")}
    for words in (["test"], ["converge", "--", "-e", f"steps_json={project.home}/molecule.json"]):
        done = project.run(BIN / "molecule", *words, **path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((project.home / "molecule.json").read_text()) == []


def test_the_newest_ansible_replaces_what_is_declared_anew_and_proves_it(fleet: tuple[Project, str]) -> None:
    project, _ = fleet
    place = newest()
    if place is None:
        return  # this machine has no Python for it; part newest says so, and proves that it can read every playbook
    # Pythons stay those that it was built with: this Ansible has another.
    built_with = (BIN / "ansible-playbook").read_text().splitlines()[0].removeprefix("#!")
    words = {"app_python": built_with, "ansible_python_interpreter": built_with, "app_env": {"NEW": "yes"}, "steps_json": "newest.json"}
    project.play("workfleet.core.site", "-e", json.dumps(words), bin_of=place)
    steps = json.loads((project.home / "newest.json").read_text())
    assert ("here", "start", "orders") in {(step["host"], step["action"], step["group"]) for step in steps}
    assert "orders: ok: there and back" in project.play("workfleet.core.verify", "-e", json.dumps(words), bin_of=place)
