"""Which systems are supported, told without gathering facts."""

from __future__ import annotations

from . import host
from .errors import WorkfleetError

SUPPORTED = ("debian 12", "debian 13")


def identity(text: str) -> tuple[str, str]:
    """Return id and version from the text of an ``os-release`` file; what it does not say is empty."""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return found.get("ID", "").strip("\"'"), found.get("VERSION_ID", "").strip("\"'")


def require_supported(path: str = "/etc/os-release") -> None:
    """Raise where this host is no system that we manage as root."""
    text = host.read(path) or ""
    name = " ".join(identity(text)).strip()
    if name not in SUPPORTED:
        raise WorkfleetError(
            f"this host is {name or 'of an unknown system'}; as root Workfleet manages Debian 12 and Debian 13 only. "
            "Elsewhere it works without root's rights, with app_user as the account that logs in",
            system=name,
        )
