"""What an engine is: a worker's command line, environment, checks, and how it proves that it consumes.

An engine is one file of constants and a few pure functions. It knows nothing of process managers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import resp
from .probe import Proof, Request, not_proved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..spec import App, Group


@dataclass(frozen=True)
class Place:
    """Where a node runs. Every text may hold placeholders that are filled in on the host.

    ``node`` is the node's name on the broker, ``directory`` the working directory, ``environment`` the virtualenv
    (empty where the app has no release), ``runners`` the directory of the toolkit's own runners on the host.
    """

    node: str
    directory: str
    environment: str
    runners: str

    @property
    def python(self) -> str:
        """The interpreter of the release."""
        return f"{self.environment}/bin/python" if self.environment else "python3"


@dataclass(frozen=True)
class Report:
    """What one node tells about itself over the broker. A figure that it cannot tell is ``None``, never 0."""

    pid: int | None = None
    concurrency: int | None = None
    running: int | None = None
    reserved: int | None = None
    processed: int | None = None
    failed: int | None = None
    queues: Sequence[str] | None = None


class Engine:
    """Base of engines, with what holds for any command."""

    name = ""
    #: Environment names that receive the broker's and the result store's URL.
    broker_env: tuple[str, ...] = ()
    result_env: tuple[str, ...] = ()
    #: The name under which the engine's runner is handed the broker's URL, whatever ``app_broker_env`` names for the app.
    runner_env: tuple[str, ...] = ()
    #: What is said of a node that is up, but not ready.
    awaited = "up, not yet consuming"
    #: Whether nodes can be asked over the broker.
    speaks = False

    def notifies(self, group: Group) -> bool:
        """Whether a runner inside the worker tells when it consumes."""
        return False

    def has_children(self, group: Group) -> bool:
        """Whether tasks run in child processes that the worker can replace."""
        return False

    def answers_while_busy(self, group: Group) -> bool:
        """Whether a node that runs a task can be asked all the same."""
        return True

    def queues(self, group: Group) -> tuple[str, ...]:
        """Return the queues that a node consumes."""
        return group.queues

    def problems(self, group: Group) -> list[str]:
        """Return what makes this entry unusable, one sentence each."""
        return []

    def warnings(self, group: Group, app: App) -> list[str]:
        """Return what will probably hurt, one sentence each."""
        return []

    def command(self, group: Group, place: Place) -> list[str]:
        """Return the argv that starts a node."""
        return list(group.command)

    def trial(self, command: Sequence[str]) -> list[str]:
        """Return the argv that makes the worker of a command without running it, where there is one.

        What fails there would fail every start, so it is tried before a node is touched.
        """
        return []

    def environment(self, group: Group, place: Place) -> dict[str, str]:
        """Return what the engine itself needs in a node's environment."""
        return {}

    def reach(self, url: str) -> None:
        """Connect to the broker, log in and ping; raise :class:`WorkfleetError` where that cannot be done from here."""
        with resp.connect(url, timeout=3.0) as client:
            client.call("PING")

    def inspect(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Report]:
        """Ask nodes over the broker; those that did not answer within ``timeout`` seconds are left out."""
        return {}

    def waiting(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, int]:
        """Return how many tasks wait in each queue."""
        return {}

    def probe(self, request: Request) -> list[Proof]:
        """Send a canary through each queue and say what became of it, in the order of the queues."""
        return not_proved(request.queues, f"engine {self.name} has no canary")
