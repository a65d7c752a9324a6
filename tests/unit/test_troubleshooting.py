"""What docs/troubleshooting.md quotes stands in the code: a message that is worded anew is worded anew there too."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MOMENTS = ["Install", "Validate", "First converge", "Deploy and rollback", "Stop and drain", "Redis", "Supervisor", "Autoscaler"]
ROW = re.compile(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", re.MULTILINE)
SOURCES = ("bin", "library", "module_utils", "playbooks", "plugins", "roles", "runners")
#: Stands for what is known only when it is said.
VALUE = "\0"


def spoken(tree: ast.AST) -> Iterator[str]:
    """Yield every text of a module, with a mark for each value in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def texts(value: object) -> Iterator[str]:
    """Yield the texts of a YAML file."""
    if isinstance(value, str):
        yield re.sub(r"\{\{.*?\}\}", VALUE, value)
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


@cache
def said() -> list[str]:
    """Return all that the project can say, each text on one line."""
    found: list[str] = []
    for path in sorted(path for top in SOURCES for path in (ROOT / top).rglob("*") if path.is_file()):
        if path.suffix == ".py":
            found += spoken(ast.parse(path.read_text(encoding="utf-8")))
        elif path.suffix == ".yml":
            found += texts(yaml.safe_load(path.read_text(encoding="utf-8")))
        elif path.parent.name == "bin":
            found += path.read_text(encoding="utf-8").splitlines()
    return [" ".join(text.split()) for text in found]


def has(text: str, pieces: list[str]) -> bool:
    """Whether all pieces stand in a text, one behind the other."""
    at = 0
    for piece in pieces:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


@pytest.mark.parametrize("quoted", [row[1] for row in ROW.finditer(PAGE)])
def test_what_is_quoted_is_what_is_said(quoted: str) -> None:
    pieces = [piece.strip() for piece in quoted.split("…") if piece.strip()]
    assert max(map(len, pieces)) >= 12, "too little to be found by"
    assert any(has(text, pieces) for text in said()), f"nobody says this any more: {quoted}"


def test_each_moment_has_rows() -> None:
    found = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    assert [part.splitlines()[0] for part in found] == MOMENTS
    assert all(ROW.search(part) for part in found)
    assert len(ROW.findall(PAGE)) >= 30
    assert PAGE.count("\n| `") == len(ROW.findall(PAGE)), "each row has three cells, the first of them a quotation"
