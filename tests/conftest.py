"""What holds for all tests: those of a full run are left out of the others."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a full run does; it is said by ``bin/test`` which parts that are."""
    if os.environ.get("WORKFLEET_FULL"):
        return
    left = [item for item in items if item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]
