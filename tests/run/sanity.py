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
from pathlib import Path

import ansible_test
import yaml

from .jobs import ROOT

PLACE = ROOT / "build" / "sanity"
CORE = PLACE / "ansible_collections" / "workfleet" / "core"
TOOL = Path(ansible_test.__file__).parent
#: What an archive of the collection holds, where Ansible looks for it; the checkout has links in these places.
MODULES = ("galaxy.yml", "meta", "plugins", "README.md")
ALL = (*MODULES, "CHANGELOG.md", "LICENSE", "docs", "playbooks", "requirements.txt", "roles", "runners", "templates")


def copied(names: tuple[str, ...]) -> None:
    """Copy these files and directories, with what their links lead to."""
    shutil.rmtree(CORE, ignore_errors=True)
    for name in names:
        target = CORE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)


def modules() -> list[list[str]]:
    """Return the commands of validate-modules, which reads documentation with its fragments and takes each module's arguments."""
    copied(MODULES)
    version = yaml.safe_load((CORE / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    files = {kind: sorted(str(path.relative_to(CORE)) for path in (CORE / "plugins" / folder).glob("*.py"))
             for kind, folder in (("module", "modules"), ("lookup", "lookup"))}
    tool = TOOL / "_util/controller/sanity/validate-modules/validate.py"
    base = ["env", f"PYTHONPATH={PLACE}:{os.environ.get('PYTHONPATH', '')}", sys.executable, str(tool), "--arg-spec",
            "--collection", str(CORE.relative_to(PLACE)), "--collection-version", version]
    return [[*base, "--plugin-type", kind, *paths] for kind, paths in files.items()]


def everything() -> list[list[str]]:
    """Return the command of ansible-test.

    It would fetch the pip of its environments from a server of its own: Python has one. Its pylint is left out, whose work ruff and mypy
    do, and which refuses a value by the name `_`.
    """
    copied(ALL)
    wanted = re.search(r"pip='([\d.]+)'", (TOOL / "_internal/python_requirements.py").read_text(encoding="utf-8"))
    cache = PLACE / "home" / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    if wanted:
        (cache / f"get_pip_{wanted[1].replace('.', '_')}.py").write_text("import ensurepip\nensurepip.bootstrap()\n", encoding="utf-8")
    return [["ansible-test", "sanity", "--color", "no", "--skip-test", "pylint", "--python", "{}.{}".format(*sys.version_info[:2])]]


def main() -> int:
    """Run what the one word asks for."""
    commands = {"modules": modules, "all": everything}[sys.argv[1]]()
    (PLACE / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {PLACE}\n", encoding="utf-8")
    own = {"ANSIBLE_CONFIG": str(PLACE / "ansible.cfg"), "HOME": str(PLACE / "home")}
    return max(subprocess.run(command, check=False, cwd=CORE, env={**os.environ, **own}).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
