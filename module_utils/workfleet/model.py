"""What is declared for an app on a host, as values, and the identity of its nodes. Knows how nothing of it is read or checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The app's one scheduler and its dashboard are worker groups of one node, under names that no other group may have.
SCHEDULER, DASHBOARD = SINGLES = ("scheduler", "dashboard")
#: What a host may be there for; in the playbooks' words, its inventory groups.
PARTS = ("workers", SCHEDULER, DASHBOARD)
#: ``drain_seconds`` bounds the drain; the manager's own timeout leaves the worker time to close its connections.
STOP_MARGIN_SECONDS = 15
UNIT = re.compile(
    r"^workfleet\.(?P<app>[a-z][a-z0-9_-]*)\.(?P<group>[a-z][a-z0-9_-]*)\.(?P<slot>[1-9][0-9]{0,8})\.(?P<incarnation>[1-9][0-9]{0,8})\Z"
)


@dataclass(frozen=True, order=True)
class Name:
    """Identity of a node on a host. ``str(name)`` is its unit or program name, without ``.service``."""

    app: str
    group: str
    slot: int
    incarnation: int

    def __str__(self) -> str:
        return f"workfleet.{self.app}.{self.group}.{self.slot}.{self.incarnation}"

    @classmethod
    def parse(cls, unit: str) -> Name | None:
        """Return the identity in a unit's name, or ``None`` where it is not of our form."""
        match = UNIT.match(unit)
        if match is None:
            return None
        return cls(match["app"], match["group"], int(match["slot"]), int(match["incarnation"]))

    @classmethod
    def of_node(cls, node: str) -> Name | None:
        """Return the identity in a node's name on the broker (``<app>.<group>.<slot>.<incarnation>@<host>``), where it is of our form."""
        return cls.parse(f"workfleet.{node.rpartition('@')[0]}")


@dataclass(frozen=True)
class App:
    """What all nodes of an app on a host share. ``secrets`` and the URLs are secret."""

    name: str
    user: str
    group: str
    root: str
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    broker_url: str = ""
    result_url: str = ""
    broker_env: tuple[str, ...] | None = None
    result_env: tuple[str, ...] | None = None
    broker_options: Mapping[str, Any] = field(default_factory=dict)
    has_release: bool = True


@dataclass(frozen=True)
class Policy:
    """The ``autoscale`` of a group. ``min`` and ``max`` are totals over all hosts; ``backlog_per_node`` is in tasks."""

    max: int
    backlog_per_node: int
    min: int = 1
    scale_up_after_seconds: float = 30
    scale_down_after_seconds: float = 300
    oldest_age_seconds: float | None = None
    paused: bool = False

    def clamp(self, nodes: int) -> int:
        """Return the count within min and max that is nearest."""
        return max(self.min, min(self.max, nodes))


@dataclass(frozen=True)
class Group:
    """An entry of ``worker_groups``; see the contract for the meaning of each key."""

    name: str
    engine: str
    app: str = ""
    nodes: int = 1
    queues: tuple[str, ...] = ()
    concurrency: int | None = None
    drain_seconds: int = 300
    drain_declared: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    state: str = "started"
    command: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    #: One of ``sandbox.LEVELS``, which are more than can be asked for.
    sandbox: str = "basic"
    #: Directives of systemd's that the level sets and this group cannot bear.
    sandbox_without: tuple[str, ...] = ()
    writable_paths: tuple[str, ...] = ()
    #: Directories of the app's user that are made before a node starts; state in them outlives releases.
    directories: tuple[str, ...] = ()
    autoscale: Policy | None = None
    #: What only the scheduler or the dashboard has; see :func:`parse_scheduler` and :func:`parse_dashboard`.
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stop_seconds(self) -> int:
        """How long the process manager waits after the stop signal before it kills."""
        return self.drain_seconds + STOP_MARGIN_SECONDS


@dataclass(frozen=True)
class Rollout:
    """How nodes are replaced. ``parallelism`` is a count of nodes or a percentage such as ``25%``."""

    order: str = "start-first"
    parallelism: int | str = 1
    delay_seconds: float = 0
    monitor_seconds: float = 5
    failure_action: str = "rollback"
    drain_timeout_action: str = "wait"
    wait_for_drain: bool = False
    start_stagger_seconds: float = 0
    ready_timeout_seconds: float = 120

    def batch(self, nodes: int) -> int:
        """Return how many of ``nodes`` may be replaced at once; at least one."""
        if isinstance(self.parallelism, str):
            return max(1, nodes * int(self.parallelism[:-1]) // 100)
        return self.parallelism


@dataclass(frozen=True)
class Log:
    """Where nodes write: the journal, or files of about ``max_bytes`` with ``backups`` full ones beside each.

    Supervisor knows files only. ``format`` is that of Python's :mod:`logging`, empty for the engine's own.
    """

    to: str = "journal"
    format: str = ""
    max_bytes: int = 50_000_000
    backups: int = 5


@dataclass(frozen=True)
class Declaration:
    """All that is declared for one app on one host. ``warnings`` are sentences for people.

    ``groups`` are those that this host is to have; ``names`` are of all groups that its variables declare.
    """

    host: str
    app: App
    manager: str
    run_directory: str
    groups: tuple[Group, ...]
    rollout: Rollout
    log: Log
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
