"""A failure is shown when it happens, for the suite may go on for an hour."""

from __future__ import annotations

import pytest


def pytest_exception_interact(node: pytest.Item, report: pytest.TestReport) -> None:
    """Show it."""
    node.config.get_terminal_writer().line(f"\n{report.longreprtext}")
