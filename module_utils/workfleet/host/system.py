"""Which systems are managed as root, told without gathering facts, and what differs between them."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import WorkfleetError
from . import effects


class System(NamedTuple):
    """A release of a system, by what ``os-release`` and Ansible's facts call it, and what it has.

    ``redis`` and ``valkey`` are the versions of the packages ``redis-server`` and ``valkey-server``, empty where there is none. Names of
    packages, units and directories are the same on all, and Supervisor comes from PyPI.
    """

    id: str
    version: str
    codename: str
    python: str
    redis: str
    valkey: str
    postgresql: str

    @property
    def name(self) -> str:
        """Its name for people."""
        return f"{self.id.capitalize()} {self.version}"


SYSTEMS = (
    System("debian", "12", "bookworm", python="3.11", redis="7.0", valkey="", postgresql="15"),
    System("debian", "13", "trixie", python="3.13", redis="8.0", valkey="8.1", postgresql="17"),
    System("ubuntu", "22.04", "jammy", python="3.10", redis="6.0", valkey="", postgresql="14"),
    System("ubuntu", "24.04", "noble", python="3.12", redis="7.0", valkey="7.2", postgresql="16"),
)


def identity(text: str) -> tuple[str, str]:
    """Return id and version from the text of an ``os-release`` file; what it does not say is empty."""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return found.get("ID", "").strip("\"'"), found.get("VERSION_ID", "").strip("\"'")


def named(distribution: str, version: str) -> System:
    """Return the system of this name and version, of which there may be more digits; raise where it is none that we manage as root."""
    for system in SYSTEMS:
        if distribution.lower() == system.id and f"{version}.".startswith(f"{system.version}."):
            return system
    name = f"{distribution} {version}".strip()
    raise WorkfleetError(
        f"this host is {name or 'of an unknown system'}; as root Workfleet manages {', '.join(known.name for known in SYSTEMS)} only. "
        "Elsewhere it works without root's rights, with app_user as the account that logs in", system=name)


def here(path: str = "/etc/os-release") -> System:
    """Return the system of this host; raise where it is none that we manage as root."""
    return named(*identity(effects.read(path) or ""))
