"""The plan of the house: which files may import which, that no imports go round in a circle, and what is shipped to hosts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible.executor.module_common import ModuleDepFinder

if TYPE_CHECKING:
    from collections.abc import Iterable

    #: A file's name below the shared code; a package's own is that of its folder.
    Name = tuple[str, ...]

ROOT = Path(__file__).parents[2]
PLUGINS = ("ansible_collections", "workfleet", "core", "plugins")
SHARED = (*PLUGINS, "module_utils", "workfleet")

#: From the ground up, packages and files that are in none: each imports those of its own line, or of lines before it.
ORDER = (
    "workfleet errors registry shown resp redis_url decode dump forms payload model",
    "host",
    "engines",
    "spec arguments",
    "managers postgresql redis",
    "nodes",
    "release queues",
    "scaling",
)

#: How many KiB of the shared code a module ships at most. Room for a module that grows, and for an engine more where all are shipped; not
#: for a package that it has no use for. Those that are not here do their work on the control node.
MOST_KIB = {
    "app_release": 230, "app_release_info": 240, "app_removal": 100, "autoscaler": 60, "dead_letter": 530, "deploy_check": 900,
    "postgresql_server": 100, "queue_info": 530, "queue_purge": 530, "queue_reset": 530, "queue_restore": 520, "redis_server": 170,
    "redis_server_info": 35, "task_events": 520, "task_load": 520, "task_probe": 510, "worker_control": 510, "worker_drain": 540,
    "worker_info": 780, "worker_logs": 180, "worker_nodes": 600, "worker_reap": 510, "worker_scale": 700,
}
CONTROL_NODE_KIB = 5
#: How many KiB of it Python compiles, at each call, for the modules of a site.yml that has nothing to do. It is most of such a call's time.
MOST_READ_KIB = {"app_release": 170, "redis_server": 170, "worker_nodes": 280}


@cache
def files() -> dict[Name, Path]:
    """Return the files of the shared code."""
    folder = ROOT / "module_utils" / "workfleet"
    names = {file: file.relative_to(folder).with_suffix("").parts for file in folder.rglob("*.py")}
    return {name[:-1] if name[-1] == "__init__" else name: file for file, name in names.items()}


def read(file: Path, name: tuple[str, ...]) -> set[Name]:
    """Return which of the shared files are imported by a file of this name, for their types too, as Ansible's packer finds them."""
    found = ModuleDepFinder(".".join(name), ast.parse(file.read_text()), file.name == "__init__.py").submodules
    return {nearest(one[len(SHARED):]) for one in found if one[:len(SHARED)] == SHARED}


def nearest(name: Name) -> Name:
    """Return the file that a name is of: it may be a value in it."""
    while name not in files():
        name = name[:-1]
    return name


def packages(name: Name) -> Iterable[Name]:
    """Return the packages that a file is in; their own files are imported, and shipped, with it."""
    return (name[:depth] for depth in range(len(name)))


@cache
def graph() -> dict[Name, set[Name]]:
    """Return by file which others it imports, and by that of their packages those that it is not in itself."""
    found = {}
    for name, file in files().items():
        direct = read(file, (*SHARED, *name))
        around = {package for one in direct for package in packages(one) if package != name[:len(package)]}
        found[name] = (direct | around) - {name}
    return found


def shipped(file: Path) -> set[Name]:
    """Return the shared files that a module is sent with."""
    found: set[Name] = set()
    open_ends = read(file, (*PLUGINS, "modules", file.stem))
    while open_ends:
        name = open_ends.pop()
        if name not in found:
            found.add(name)
            open_ends |= {*graph()[name], *packages(name)}
    return found


def test_no_imports_of_the_shared_code_go_round_in_a_circle() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' imports '.join('.'.join(name) for name in reversed(error.args[1]))}")


def test_each_file_imports_only_what_stands_below_it() -> None:
    line = {name: number for number, names in enumerate(ORDER) for name in names.split()}
    place = {name: line[name[0] if name else "workfleet"] for name in files()}
    wrong = [f"{'.'.join(name)} imports {'.'.join(other)}" for name, others in graph().items() for other in others
             if place[other] > place[name]]
    assert not wrong


def test_the_order_and_the_drawing_of_the_architecture_have_every_package() -> None:
    drawing = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
    drawn = {int(number): set(names.split(", ")) for number, names in re.findall(r"^ +(\d)  (\w+(?:, \w+)*)", drawing, re.MULTILINE)}
    order = {number: set(names.split()) - {"workfleet"} for number, names in enumerate(ORDER, 1)}
    assert drawn == order
    assert set().union(*order.values()) == {name[0] for name in files() if name}


def test_each_path_of_the_architecture_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:library|module_utils|molecule|playbooks|plugins|roles|runners|templates|tests)/[\w./]*)`", page)
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("module", [pytest.param(file, id=file.stem) for file in sorted((ROOT / "library").glob("*.py"))])
def test_a_module_ships_no_more_than_it_uses(module: Path) -> None:
    sizes = {".".join(name): files()[name].stat().st_size / 1024 for name in shipped(module)}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:10]
    assert sum(sizes.values()) <= MOST_KIB.get(module.stem, CONTROL_NODE_KIB), f"{len(sizes)} files; the largest: {', '.join(largest)}"


@pytest.mark.parametrize("module", MOST_READ_KIB)
def test_a_call_with_nothing_to_do_reads_no_more_than_it_needs(module: str) -> None:
    lines = ["import sys", f"import plugins.modules.{module}"]
    if module == "worker_nodes":  # of engines and managers only those that it is about
        lines += ["from plugins.module_utils.workfleet import engines, managers", "engines.named('process'); managers.MANAGERS['systemd']"]
    lines += ["print(*(name for name in ('asyncio', 'ssl', 'tarfile', 'xml') if name in sys.modules))",
              "print(*(file.__file__ for name, file in sys.modules.items() if name.startswith('plugins.module_utils.')))"]
    said = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    costly, names = said.splitlines()
    sizes = {name.partition("/module_utils/")[2]: Path(name).stat().st_size / 1024 for name in names.split() if name != "None"}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:10]
    assert not costly
    assert sum(sizes.values()) <= MOST_READ_KIB[module], f"{sum(sizes.values()):.0f} KiB; the largest: {', '.join(largest)}"
