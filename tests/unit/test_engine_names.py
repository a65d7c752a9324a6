"""An engine is its folder, its runners and two lines: no other code knows its name."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet import engines
from plugins.module_utils.workfleet.engines import taskqueues

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "module_utils" / "workfleet"
#: Not ``process``, which is a word of its own.
NAMES = sorted(set(engines.ALL) - {"process"})
NAMED = re.compile(rf"(?<![a-z])({'|'.join(NAMES)})(?![a-z])", re.IGNORECASE)
#: Where an engine may be named: its own folder, and the specs of arguments.
ALLOWED = (SHARED / "engines", SHARED / "arguments")
DOCUMENTATION = ("DOCUMENTATION", "EXAMPLES", "RETURN")
FOLDERS = sorted(path.parent.name for path in (SHARED / "engines").glob("*/engine.py"))


def code() -> Iterator[Path]:
    """The Python that is no engine's."""
    for folder in (SHARED, ROOT / "library", ROOT / "plugins"):
        for path in folder.rglob("*.py"):
            if not {*ALLOWED} & {*path.resolve().parents}:
                yield path.resolve()


def spoken(tree: ast.Module) -> set[int]:
    """Return the nodes that are documentation: what a docstring, or a module of Ansible's, says."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.add(id(node.value))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in DOCUMENTATION:
            found.add(id(node.value))
    return found


def named(path: Path) -> list[str]:
    """Return where a file's code names an engine: in a text, an import or a name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation, said = spoken(tree), []
    for node in ast.walk(tree):
        words: list[str] = []
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            words = [node.value]
        elif isinstance(node, ast.ImportFrom):
            words = [node.module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            words = [node.attr]
        elif isinstance(node, ast.Name):
            words = [node.id]
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        said += [f"{where}: {word[:60]}" for word in words if NAMED.search(word.replace("_", " "))]
    return said


def test_no_code_outside_of_the_engines_names_one() -> None:
    found = [said for path in code() for said in named(path)]
    assert found == [], "\n".join(found)


def test_no_playbook_and_no_task_names_an_engine() -> None:
    files = [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/*/*.yml"), *ROOT.glob("templates/**/*.j2")]
    found = [f"{path.relative_to(ROOT)}: {line.strip()[:80]}" for path in files
             if path.parent.name != "meta" for line in path.read_text(encoding="utf-8").splitlines()
             if NAMED.search(line.partition("#")[0])]
    assert found == []


@pytest.mark.parametrize("name", FOLDERS)
def test_an_engines_folder_has_its_name_and_is_registered(name: str) -> None:
    assert engines.ENGINES[name].name == name
    assert (name in taskqueues.QUEUES) == (SHARED / "engines" / name / "taskqueue.py").exists()


@pytest.mark.parametrize("name", FOLDERS)
def test_no_engine_imports_another(name: str) -> None:
    others = {f"engines.{other}" for other in FOLDERS if other != name} | {f"..{other}" for other in FOLDERS if other != name}
    for path in (SHARED / "engines" / name).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                whole = "." * node.level + (node.module or "")
                assert not any(whole == other or whole.startswith(f"{other}.") for other in others), f"{path.name}: {whole}"


def test_what_is_about_nodes_imports_no_second_face() -> None:
    for path in [*(SHARED / "engines").glob("*/engine.py"), SHARED / "engines" / "__init__.py", SHARED / "engines" / "base.py"]:
        imported = {word for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
                    for word in ((node.module or "").split(".") + [alias.name for alias in node.names])}
        assert not imported & {"taskqueue", "taskqueues", "stash", "letters", "load", "results", "traces"}, path
