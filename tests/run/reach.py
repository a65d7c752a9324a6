"""What a change can reach: tests by the imports of Python, scenarios by paths."""

from __future__ import annotations

import ast
import subprocess
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .jobs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Other names under which a file of the tree is imported.
ALIASES = (("ansible_collections/workfleet/core/", ""), ("plugins/module_utils/", "module_utils/"), ("plugins/modules/", "library/"))


def changed_files(base: str = "") -> tuple[str, list[str]]:
    """Return the commit a change is counted from, and the files that it touches; what is not tracked yet is among them."""
    pending = _git("status", "--porcelain", "--untracked-files=all", "-z").split("\0")
    untracked = [line[3:] for line in pending if line.startswith("??")]
    base = base or ("HEAD" if any(pending) else "HEAD~1")
    return base, sorted({*_git("diff", "--name-only", "--no-renames", base).split("\n"), *untracked} - {""})


def tests_of(files: Sequence[str]) -> dict[str, str]:
    """Return the test files that a change reaches, each with the way from it: ``test ← module ← changed file``.

    A file that Python does not import (a template, a role, a playbook) reaches the tests whose text names its path or its directory.
    """
    importers: dict[str, set[str]] = defaultdict(set)
    for file in sources():
        for imported in imports(file):
            importers[imported].add(file)
    found: dict[str, str] = {}
    for changed in files:
        way, waiting = {changed: changed}, [changed]
        while waiting:
            file = waiting.pop(0)
            for importer in sorted({*importers[file], *(_namers(file) if file == changed else ())}):
                if importer not in way:
                    way[importer] = f"{Path(importer).stem} ← {way[file]}"
                    waiting.append(importer)
        found |= {file: why for file, why in way.items()
                  if file not in found and Path(file).name.startswith("test_") and _speaks_of(file, engine(changed))}
    return found


def engine(file: str) -> str:
    """Return the engine that a file is a part of, if it is one of an engine's own: in its folder, or its runner."""
    path = Path(file)
    folders = {folder.name for folder in (ROOT / "module_utils/workfleet/engines").iterdir() if (folder / "engine.py").exists()}
    name = path.stem.removeprefix("workfleet_").split("_")[0] if path.parent.name == "runners" else path.parent.name
    return name if name in folders else ""


def _speaks_of(test: str, word: str) -> bool:
    """Whether a test names an engine: the registry imports them all, so that by imports alone each reaches everything."""
    return not word or word in (ROOT / test).read_text()


def sources() -> list[str]:
    """Return the Python files of the tree, each once."""
    return [file for file in _git("ls-files", "--cached", "--others", "--exclude-standard").split("\n")
            if file.endswith(".py") and (ROOT / file).is_file() and not file.startswith(("plugins/modules", "plugins/module_utils"))]


@cache
def imports(file: str) -> frozenset[str]:
    """Return the files of the tree that a Python file imports, or that lie beside it and are imported by their bare name."""
    try:
        tree = ast.parse((ROOT / file).read_text())
    except SyntaxError:
        return frozenset()
    return frozenset(path for name in _names(tree, file) for path in _paths(name, file))


def _names(tree: ast.AST, file: str) -> Iterator[str]:
    folder = list(Path(file).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.replace(".", "/") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else []
            module = "/".join([*above, *(node.module or "").split(".")]).strip("/")
            yield module
            yield from (f"{module}/{alias.name}" for alias in node.names)


def _paths(name: str, file: str) -> Iterator[str]:
    for alias, real in ALIASES:
        if name.startswith(alias):
            name = real + name.removeprefix(alias)
    for folder in ("", f"{Path(file).parent}/", "molecule/resources/"):
        for end in (".py", "/__init__.py"):
            if (ROOT / f"{folder}{name}{end}").is_file():
                yield f"{folder}{name}{end}"


def _namers(file: str) -> Iterable[str]:
    """Return the tests that name a file that is not imported, by its path, its name, or as a runner that they start."""
    if file.startswith("tests/"):
        return []
    words = [file, *([Path(file).name] if "/" in file else [])]
    if file.startswith("roles/"):
        words.append("/".join(file.split("/")[:2]))
    if file.startswith("inventories/"):
        words.append("/".join(file.split("/")[:2]))
    lines = _git("grep", "-lF", *(part for word in words for part in ("-e", word)), "--", "tests/*.py", check=False)
    return lines.split()


def _git(*words: str, check: bool = True) -> str:
    return subprocess.run(["git", *words], check=check, cwd=ROOT, capture_output=True, text=True).stdout
