"""Let the scenarios' tests find what they share, and their failed assertions say what they saw."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fleet import Fleet

sys.path[:0] = [str(Path(__file__).parent / "resources"), str(Path(__file__).parents[1])]
pytest.register_assert_rewrite("common", "fleet", "systems")


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """The scenario's hosts."""
    from fleet import Fleet

    return Fleet()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests in the order in which they stand in their own files, however a scenario has imported them."""

    def place(item: pytest.Item) -> tuple[bool, str, int]:
        code = item.function.__code__  # type: ignore[attr-defined]
        return not code.co_filename.endswith("common.py"), str(code.co_filename), int(code.co_firstlineno)

    if not os.environ.get("WORKFLEET_FULL"):
        items[:] = [item for item in items if not item.get_closest_marker("full")]
    items.sort(key=place)
