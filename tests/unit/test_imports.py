"""The plan of the house: which files may import which, that no imports go round in a circle, and what is shipped to hosts."""

from __future__ import annotations

import ast
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
    "workfleet",
    "errors shown resp redis_url decode dump payload model steps layout ledger forms envfile stores",
    "host files limits foreign processes ownership changes accounts system background packages requirements virtualenv archives seal logs",
    "engines sandbox",
    "spec",
    "managers postgresql postgresql_config postgresql_login postgresql_server "
    "redis redis_config redis_info redis_live redis_oracle redis_plan redis_service redis_converge",
    "nodes plan snapshot scaled lock leave answers consumers drain info live",
    "release release_choice release_spec builds build source shared in_use preflight fleet removal",
    "queues purge reset letters reap load events",
    "scaling fleet_scale autoscaler",
)

#: How many KiB of the shared code a module ships at most. Room for a module that grows, not for a package that it has no use for.
MOST_KIB = {
    "app_release": 230, "app_release_info": 240, "app_removal": 90, "autoscaler": 60, "dead_letter": 470, "deploy_check": 750,
    "postgresql_server": 95, "queue_info": 460, "queue_purge": 460, "queue_reset": 460, "queue_restore": 450, "redis_server": 160,
    "redis_server_info": 30, "task_events": 390, "task_load": 390, "task_probe": 380, "worker_control": 590, "worker_drain": 620,
    "worker_info": 650, "worker_logs": 180, "worker_nodes": 670, "worker_reap": 380, "worker_scale": 560,
}


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


@pytest.mark.parametrize("module", [pytest.param(file, id=file.stem) for file in sorted((ROOT / "library").glob("*.py"))])
def test_a_module_ships_no_more_than_it_uses(module: Path) -> None:
    sizes = {".".join(name): files()[name].stat().st_size / 1024 for name in shipped(module)}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:10]
    assert sum(sizes.values()) <= MOST_KIB.get(module.stem, 0), f"{len(sizes)} files; the largest: {', '.join(largest)}"
