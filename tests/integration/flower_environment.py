"""A virtualenv with Flower, for tests and benchmarks."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".cache" / "flower"
REQUIREMENTS = ("celery[redis]==5.7.0", "flower==2.2.0")


def environment() -> Path:
    """Return its directory; it is made if it is not there."""
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    made = ENVIRONMENT / "made-from"
    with (ENVIRONMENT.parent / "flower.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != str(REQUIREMENTS):
            subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
            subprocess.run([ENVIRONMENT / "bin" / "pip", "install", "--quiet", *REQUIREMENTS], check=True)
            made.write_text(str(REQUIREMENTS))
    return ENVIRONMENT
