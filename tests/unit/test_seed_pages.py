"""The pages about the five systems promise no playbook that is not there, and hide none that is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "seeds").glob("*.md"))
PLAYBOOKS = {path.name for path in (ROOT / "playbooks").glob("*.yml")}
NAMED = re.compile(r"(\*later\* )?`([a-z_]+\.yml)[ `]")
CELL = re.compile(r"(?<!\\)\|")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_later_is_not_there_and_what_is_not_later_is(page: Path) -> None:
    for later, name in NAMED.findall(page.read_text(encoding="utf-8")):
        assert (name in PLAYBOOKS) is not bool(later), f"{name}: {'is there by now' if later else 'is not there'}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_of_a_table_has_all_its_cells(page: Path) -> None:
    width = 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        cells = len(CELL.findall(line)) - 1 if line.startswith("|") else 0
        assert not (width and cells) or cells == width, f"line {number} has {cells} cells, not {width}"
        width = cells
