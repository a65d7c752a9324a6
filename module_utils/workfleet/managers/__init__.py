"""The process managers, by name (what is shipped to hosts follows the imports)."""

from __future__ import annotations

from .base import Manager
from .supervisor import Supervisor
from .systemd import Systemd

MANAGERS: dict[str, type[Manager]] = {"systemd": Systemd, "supervisor": Supervisor}


def named(name: str, app: str, root: str, run_directory: str) -> Manager:
    """Return the process manager of that name for one app on this host."""
    return MANAGERS[name](app, root, run_directory)
