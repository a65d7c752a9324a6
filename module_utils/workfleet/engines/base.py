"""What an engine is: a worker's command line, environment, checks, and how it proves that it consumes.

An engine is one file of constants and a few pure functions. It knows nothing of process managers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import redis_url
from ..errors import WorkfleetError

if TYPE_CHECKING:
    import re
    from collections import Counter
    from collections.abc import Iterator, Mapping, Sequence

    from ..model import App, Group
    from .options import Option
    from .verbs.controls import Argument
    from .verbs.report import Held, Report


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
class Reference:
    """An engine's page in the reference: its title, the versions it was compared with, and tables of options by key."""

    title: str
    versions: str
    tables: Mapping[str, Mapping[str, Option]]


class Engine:
    """Base of engines, with what holds for any command."""

    name = ""
    #: What messages call it, where it is no worker.
    what = ""
    #: What ``app`` of a group looks like, and in words; ``None`` where it is free.
    app_pattern: re.Pattern[str] | None = None
    app_words = ""
    #: Environment names that receive the broker's and the result store's URL.
    broker_env: tuple[str, ...] = ()
    result_env: tuple[str, ...] = ()
    #: The environment name that receives who may log in, of a dashboard.
    auth_env = ""
    #: Schemes of the Redis URLs that the library itself understands; empty where nothing of the toolkit's speaks to the broker.
    schemes: tuple[str, ...] = ()
    #: The name under which the engine's runner is handed the broker's URL, whatever ``app_broker_env`` names for the app.
    runner_env: tuple[str, ...] = ()
    #: Other names from which the library itself takes the URL of a broker.
    other_broker_env: tuple[str, ...] = ()
    #: The file of the runner, which makes the worker with ``--check`` and does not run it; empty where there is none.
    runner = ""
    #: Tasks at once of one node where nothing is declared; ``None``: as many as the host has processors.
    places: int | None = 1
    #: The page about its options in the reference.
    reference: Reference | None = None
    #: What is said of a node that is up, but not ready.
    awaited = "up, not yet consuming"
    #: Whether nodes can be asked over the broker.
    speaks = False
    #: Whether each of its nodes that lives is among ``everybody``, however busy.
    beats = False
    #: Whether nodes hold tasks whose time has not come, so that these are among the unacknowledged.
    holds_scheduled = False
    #: Whether a task may run that the broker no longer counts as held, so that only its node can tell of it.
    acknowledges_first = False
    #: Whether a worker can be asked that a command of the user's own has started.
    knows_strangers = False
    #: Whether its nodes may run side by side, see ``overlap``. What holds a port or a lock cannot.
    overlaps = False
    #: Whether a node that heeds no mark, one of a command of the user's own, can be told over the broker to take no new tasks.
    quiesces_commands = False
    #: Whether ``held`` tells anything; without it the runner's own word that its node is idle is the proof.
    tells_held = False
    #: Whether nodes tell of their tasks as they go, by ``listener`` and ``switch`` of its queues.
    tells_events = False
    #: Controls of running nodes by their names, with what each takes.
    controls: Mapping[str, Sequence[Argument]] = {}
    #: Those of them that have no effect, whatever a node answers, unless our runner is in it.
    runner_controls: Sequence[str] = ()

    def overlap(self, group: Group) -> bool:
        """Whether the old and the new node of a slot of this group may run side by side."""
        return self.overlaps

    def notifies(self, group: Group) -> bool:
        """Whether a runner inside the worker tells when it consumes."""
        return False

    def has_children(self, group: Group) -> bool:
        """Whether tasks run in child processes that the worker can replace."""
        return False

    def answers_while_busy(self, group: Group) -> bool:
        """Whether a node that runs a task can be asked all the same."""
        return True

    def gives_back(self, group: Group) -> bool:
        """Whether a node that has its mark gives back at once what it has not begun, busy as it may be."""
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

    def urls(self, app: App) -> dict[str, str]:
        """Return the environment names under which a node is handed the broker's and the result store's URL, with these."""
        broker = dict.fromkeys((*self.runner_env, *(self.broker_env if app.broker_env is None else app.broker_env)), app.broker_url)
        result = dict.fromkeys(self.result_env if app.result_env is None else app.result_env, app.result_url)
        return {name: url for name, url in {**broker, **result}.items() if url}

    def option_problems(self, options: Mapping[str, Any]) -> list[str]:
        """Return what is wrong in ``app_broker_options`` by this engine's rules, one sentence each; nothing of a value is shown."""
        return []

    def is_started_by(self, group: Group) -> bool:
        """Whether a command of the user's own starts this, as far as its words tell; for what an app may have only one of."""
        return False

    def url_problems(self, app: App) -> Iterator[str]:
        """Yield why the broker's or the result store's URL, sound by itself, is none for this engine; nothing of the URL is shown."""
        known = ", ".join(f"{name}://" for name in self.schemes)
        for variable, url in (("app_broker_url", app.broker_url), ("app_result_url", app.result_url)):
            given = redis_url.scheme(url)
            if not url or not self.schemes or given in self.schemes:
                continue
            if redis_url.is_redis(url):
                yield f"{variable}: is a {given}:// URL, which engine {self.name} does not read; give it one of {known}"
            elif variable == "app_broker_url":
                yield (f"{variable}: is {given or 'no'}:// and no Redis: queues, workers and tasks of engine {self.name} are looked at, "
                       f"drained and told over Redis alone; give one of {known}")

    def url_warnings(self, group: Group, app: App) -> list[str]:
        """Warn of declared names by which nodes get another broker or result store than the toolkit looks at; no value is shown."""
        if not (self.broker_env or self.runner_env):
            return []
        results = (*self.result_env, *(app.result_env or ()))
        brokers = (*self.broker_env, *self.other_broker_env, *(app.broker_env or ()))
        given = {**app.env, **app.secrets, **group.env, **group.secrets}
        found = []
        for name, url in self.urls(replace(app, broker_env=brokers, result_env=results)).items():
            if given.get(name) not in (None, "", url):
                variable = "app_result_url" if name in results else "app_broker_url"
                found.append(f"environment {name}: is another URL than {variable} and wins over it: the nodes would use the one, while "
                             f"status, drains and probes look at the other; leave it out, or say it in {variable}")
        return found

    def command(self, group: Group, place: Place) -> list[str]:
        """Return the argv that starts a node."""
        return list(group.command)

    def trial(self, command: Sequence[str], runners: str, drain_seconds: int) -> list[str]:
        """Return the argv that makes the worker of a command without running it, where there is one.

        What fails there would fail every start, so it is tried before a node is touched. What may only hurt it prints, one line
        behind ``workfleet-warning:`` for each. ``runners`` is as for :meth:`ask`, ``drain_seconds`` the group's.
        """
        return []

    def ask(self, command: Sequence[str], runners: str) -> list[str]:
        """Return the argv that has a release tell what tasks the worker of a command would register, where there is one.

        It prints one line of JSON behind ``workfleet-tasks:`` with ``tasks``, and what else the engine knows. ``runners`` is the
        directory of the toolkit's own on the host.
        """
        return []

    def with_log_format(self, group: Group, text: str) -> Group:
        """Return the group as one that writes its log in this format of Python's logging; raises where its worker takes none."""
        raise WorkfleetError(f"engine {self.name} knows nothing of its program's logging")

    def environment(self, group: Group, place: Place) -> dict[str, str]:
        """Return what the engine itself needs in a node's environment."""
        return {}

    def inspect(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Report]:
        """Ask nodes over the broker; those that did not answer within ``timeout`` seconds are left out."""
        return {}

    def strangers(
        self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float, result_url: str = ""
    ) -> dict[str, Report]:
        """Ask the workers of nodes whose command gave them other names on the broker, found by their processes on this host."""
        return {}

    def everybody(self, url: str, options: Mapping[str, Any], timeout: float) -> tuple[dict[str, Report], bool]:
        """Ask all that listen on the broker, whoever started them, what they consume; and tell whether all have answered."""
        return {}, False

    def held(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Held]:
        """Return what the broker, or the nodes over it, say that these hold; those of which nothing is known are left out."""
        return {}

    def ran(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Counter[str]]:
        """Return by node how many tasks of each name it has run since its start, or holds; nothing where nodes do not count."""
        return {}

    def quiesce(self, url: str, queues: Mapping[str, Sequence[str]], options: Mapping[str, Any], timeout: float) -> None:
        """Have nodes that heed no mark take no new tasks, each from these queues."""

    def resume(self, url: str, queues: Mapping[str, Sequence[str]], options: Mapping[str, Any], timeout: float) -> None:
        """Have nodes that heed no mark take tasks again, each from these queues."""

    def control(
        self, url: str, nodes: Sequence[str], name: str, arguments: Mapping[str, Any], options: Mapping[str, Any], timeout: float
    ) -> dict[str, str | None]:
        """Carry out one of ``controls`` on running nodes; return the error of each that answered, or None for done."""
        return {}

    def waiting(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, int]:
        """Return how many tasks wait in each queue."""
        return {}

