"""Ansible's own checks of a collection, on a copy of it where they look for one.

    python -m tests.run.sanity modules      validate-modules: each module's documentation against its arguments; seconds
    python -m tests.run.sanity all          ansible-test sanity, each check in an environment that it makes itself; minutes
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ansible_test
import yaml

from .jobs import ROOT

CORE = Path("ansible_collections/workfleet/core")
TOOL = Path(ansible_test.__file__).parent
#: Where ansible-test keeps its environments; our user's own are left alone.
HOME = ROOT / "build" / "sanity"
#: What an archive of the collection holds, where Ansible looks for it; the checkout has links in these places.
MODULES = ("galaxy.yml", "meta", "plugins", "README.md")
ALL = (*MODULES, "CHANGELOG.md", "LICENSE", "docs", "playbooks", "requirements.txt", "roles", "runners", "templates")


def modules(place: Path) -> list[list[str]]:
    """Return the commands of validate-modules, which reads documentation with its fragments and takes each module's arguments."""
    copied(place, MODULES)
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    base = ["env", f"PYTHONPATH={place}:{os.environ.get('PYTHONPATH', '')}", sys.executable,
            str(TOOL / "_util/controller/sanity/validate-modules/validate.py"), "--arg-spec",
            "--collection", str(CORE), "--collection-version", version]
    return [[*base, "--plugin-type", kind, *sorted(str(path.relative_to(place / CORE)) for path in (place / CORE / folder).glob("*.py"))]
            for kind, folder in (("module", "plugins/modules"), ("lookup", "plugins/lookup"))]


def everything(place: Path) -> list[list[str]]:
    """Return the command of ansible-test.

    It would fetch the pip of its environments from a server of its own: Python has one. Its pylint is left out, whose work ruff and mypy
    do, and which refuses a value by the name `_`.
    """
    copied(place, ALL)
    wanted = re.search(r"pip='([\d.]+)'", (TOOL / "_internal/python_requirements.py").read_text(encoding="utf-8"))
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    if wanted:
        (cache / f"get_pip_{wanted[1].replace('.', '_')}.py").write_text("import ensurepip\nensurepip.bootstrap()\n", encoding="utf-8")
    return [["ansible-test", "sanity", "--color", "no", "--skip-test", "pylint", "--python", "{}.{}".format(*sys.version_info[:2])]]


def copied(place: Path, names: tuple[str, ...]) -> None:
    """Copy these files and directories, with what their links lead to."""
    for name in names:
        target = place / CORE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)


def main() -> int:
    """Run what the one word asks for; outside of the checkout, whose git would tell ansible-test that the copy is none of its files."""
    with tempfile.TemporaryDirectory(prefix="workfleet-sanity-") as name:
        place = Path(name)
        commands = {"modules": modules, "all": everything}[sys.argv[1]](place)
        (place / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {place}\n", encoding="utf-8")
        own = {**os.environ, "ANSIBLE_CONFIG": str(place / "ansible.cfg"), "HOME": str(HOME)}
        return max([subprocess.run(command, check=False, cwd=place / CORE, env=own).returncode for command in commands])


if __name__ == "__main__":
    sys.exit(main())
