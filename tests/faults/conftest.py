"""``--all`` runs every fault; without it one of each kind."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--all", action="store_true", help="every fault, with the longest tasks; what docs/faults.md is made by")


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark of what only the whole suite runs."""
    config.addinivalue_line("markers", "more: a further fault of a kind, run with --all only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the further faults out, as if they were not there: nothing is skipped that was asked for."""
    if not config.getoption("--all"):
        items[:] = [item for item in items if item.get_closest_marker("more") is None]


def pytest_exception_interact(node: pytest.Item, report: pytest.TestReport) -> None:
    """Show a failure when it happens, for the suite may go on for an hour."""
    node.config.get_terminal_writer().line(f"\n{report.longreprtext}")
