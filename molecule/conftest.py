"""Let the scenarios' tests find what they share, and their failed assertions say what they saw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "resources"))
pytest.register_assert_rewrite("common", "fleet")
