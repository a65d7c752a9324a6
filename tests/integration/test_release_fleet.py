"""One fleet, whichever of its hosts a run is limited to: hosts of this machine, each with a root of its own, through Ansible."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests import printed, warm
from tests.integration.test_app_release import PYTHON, REPOSITORY, Site, site

if TYPE_CHECKING:
    from typing import Any

__all__ = ["site"]

PLAY = [{
    "hosts": "workers", "gather_facts": False, "any_errors_fatal": True, "roles": ["workfleet.core.app"],
    "vars": {"__app_fleet": "{{ groups.workers }}", "__app_joins": True},
}]


class Fleet:
    """Hosts that are told apart by their ``app_root``; a release of v1 and one of v2 of a repository, and a counter of its commands."""

    def __init__(self, site: Site) -> None:
        self.site, self.counter = site, site.folder / "counter"
        self.counter.write_text("")
        self.counter.chmod(0o666)
        for number in (1, 2):
            (site.code / "tasks.py").write_text(f"one = {number}\n")
            self.git(*(["init", "--quiet"] if number == 1 else ["status"]))
            self.git("add", ".")
            self.git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "x")
            self.git("tag", f"v{number}")

    def git(self, *words: str) -> None:
        subprocess.run(["git", *words], cwd=self.site.code, check=True, capture_output=True)

    def root(self, host: str) -> Path:
        return self.site.folder / host

    def play(self, version: str, *options: str, hosts: tuple[str, ...], lost: str = "", expect: int = 0) -> str:
        variables: dict[str, Any] = {f"app_{name}": value for name, value in self.site.raw.items()}
        variables.update(
            ansible_connection="local", ansible_python_interpreter=PYTHON,
            app_source={"type": "git", "location": str(self.site.code), "version": version},
            app_release_commands=[["sh", "-c", f"echo run >> {self.counter}"]])
        members: dict[str, Any] = {host: {"app_root": str(self.root(host))} for host in hosts}
        if lost:
            members[lost] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
        (self.site.folder / "hosts.yml").write_text(yaml.safe_dump({"workers": {"hosts": members, "vars": variables}}))
        (self.site.folder / "play.yml").write_text(yaml.safe_dump(PLAY))
        done = warm.play(["-i", str(self.site.folder / "hosts.yml"), str(self.site.folder / "play.yml"), *options], cwd=REPOSITORY)
        said = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == expect, said[-4000:]
        return said

    def current(self, host: str) -> str:
        return os.path.basename(os.readlink(self.root(host) / "current"))

    def ran(self) -> int:
        return len(self.counter.read_text().split())


def test_release_commands_run_once_and_a_host_that_joins_gets_what_the_fleet_has(site: Site) -> None:
    fleet = Fleet(site)
    fleet.play("v2", "--limit", "old", hosts=("old",))
    assert fleet.ran() == 1
    # It stands first, the inventory declares another version, and no other host is in the play.
    said = fleet.play("v1", "--limit", "new", hosts=("new", "old"))
    assert f"new: release {fleet.current('old')} (v2 (" in said
    printed.same("docs/deploying.md", "joins", said)
    assert (fleet.current("new"), fleet.ran()) == (fleet.current("old"), 1)
    assert (fleet.root("new") / "current/src/tasks.py").read_text() == "one = 2\n"
    # A host without a note of it stands first in the list: the other one knows.
    (fleet.root("new") / "state" / "release-commands.json").unlink()
    fleet.play("v2", hosts=("new", "old"))
    assert fleet.ran() == 1
    assert fleet.current("old") in json.loads((fleet.root("new") / "state" / "release-commands.json").read_text())
    # A commit that does not exist is named before any host is changed, as deploy.yml builds it.
    said = fleet.play("f" * 40, "-e", "__app_until=built", hosts=("new", "next"), expect=2)
    assert f"version: {'f' * 40} is no commit that a branch or tag of" in said
    assert not fleet.root("next").exists()
    # What cannot be known is said before anything is done.
    both = fleet.current("new"), fleet.current("old"), sorted(os.listdir(fleet.root("old") / "releases"))
    said = fleet.play("v1", "--limit", "old", hosts=("new", "old"), lost="lost", expect=2)
    printed.same("docs/deploying.md", "not-known", said)
    assert (fleet.current("new"), fleet.current("old"), sorted(os.listdir(fleet.root("old") / "releases"))) == both
    assert fleet.ran() == 1
