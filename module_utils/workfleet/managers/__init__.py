"""The process managers, by name: each is sent to hosts, and imported there when it is first asked for."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING

from ..registry import Registry
from .base import NODE_FILES, Manager

if TYPE_CHECKING:  # sent to hosts, and imported there only by its name
    from . import supervisor, systemd  # noqa: F401 - see above

MANAGERS = Registry[type[Manager]](__name__, {"systemd": "systemd:Systemd", "supervisor": "supervisor:Supervisor"})


def named(name: str, app: str, root: str, run_directory: str) -> Manager:
    """Return the process manager of that name for one app on this host."""
    return MANAGERS[name](app, root, run_directory)


def has_traces(name: str, app: str, root: str) -> bool:
    """Whether anything may be a node's file of this manager: what is really one, the manager itself tells."""
    return bool(glob.glob(NODE_FILES[name].format(root=glob.escape(root), node=f"workfleet.{glob.escape(app)}.*")))
