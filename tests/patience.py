"""How long a test waits: one place, and on a slow or busy machine longer, by a measured factor."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")
#: Seconds that a Python which does a little takes to start and end on a machine that does nothing else.
QUIET = 0.06


def factor() -> float:
    """Return how many times as long as on a quiet machine things take now; at least 1."""
    begun = time.monotonic()
    for _ in range(3):
        subprocess.run([sys.executable, "-I", "-c", "import json, re, subprocess; sum(range(200000))"], check=True)
    return max(1.0, (time.monotonic() - begun) / 3 / QUIET)


def is_within(took: float, seconds: float) -> bool:
    """Whether something that took so long would have taken less than so many seconds on a quiet machine."""
    return took < seconds or took < seconds * factor()


def until(holds: Callable[[], Found | None], seconds: float = 60, *, pause: float = 0.02, why: Callable[[], str] = lambda: "") -> Found:
    """Wait until ``holds`` returns something true, and return that; fails after ``seconds`` of a quiet machine, with what ``why`` says.

    At most half of the time is spent on looking. The factor is measured only when the seconds are over, so that it costs nothing else.
    """
    begun = time.monotonic()
    deadline = begun + seconds
    is_final = False
    while True:
        looked = time.monotonic()
        if found := holds():
            return found
        if time.monotonic() > deadline:
            if is_final:
                raise AssertionError(f"it did not happen within {time.monotonic() - begun:.0f} s {why()}")
            deadline, is_final = begun + seconds * factor(), True
        time.sleep(max(pause, time.monotonic() - looked))
