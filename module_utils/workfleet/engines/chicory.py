"""Engine ``chicory``: workers of Chicory 0.1 over Redis streams, each run by ``runners/workfleet_chicory.py``.

Facts about Chicory in this file were observed on chicory 0.1.0; see docs/decisions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .. import resp
from . import chicory_options, chicory_probe, chicory_wire
from .base import Engine, Place, Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..spec import App, Group
    from .probe import Proof, Request

RUNNER = "workfleet_chicory.py"
DEFAULT_QUEUE = "default"
_APP = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*\Z")
_OWN_COMMAND = ("Chicory's own command cancels running tasks when it is told to stop, acknowledges only on the queue default, takes all "
                "of a queue into memory, runs a task again that takes longer than broker_redis_claim_min_idle_ms, and with redis 8 dies "
                "after 5 idle seconds; leave it out, and the toolkit's runner does none of this")


class Chicory(Engine):
    """Chicory workers; each node is one process with an event loop and threads for tasks that are not async."""

    name = "chicory"
    broker_env = ("CHICORY_BROKER_REDIS_URL",)
    result_env = ("CHICORY_BACKEND_REDIS_URL",)
    speaks = True

    def notifies(self, group: Group) -> bool:
        """The runner does; a command of the user's own is not run by it."""
        return not group.command

    def answers_while_busy(self, group: Group) -> bool:
        """The runner's figures come from the event loop, beside the tasks; a command of the user's own need not tell any."""
        return not group.command

    def queues(self, group: Group) -> tuple[str, ...]:
        """A worker has one queue; Chicory's own default has this name."""
        return group.queues or (DEFAULT_QUEUE,)

    def problems(self, group: Group) -> list[str]:
        """Check the entry by what Chicory can do."""
        found = []
        if not group.app and not group.command:
            found.append("app: is required for engine chicory: module:app, such as app.tasks:app")
        elif group.app and not _APP.match(group.app):
            found.append(f"app = {group.app!r}: must be module:app, such as app.tasks:app")
        if len(group.queues) > 1:
            found.append(f"queues: a Chicory worker consumes one queue, given are {len(group.queues)}; declare a worker group for each")
        if group.queues and not group.queues[0]:
            found.append("queues: a queue without a name is none")
        if group.command and (group.options or group.concurrency):
            found.append("command: replaces the runner that sets options and concurrency; say them in it")
        timeout = group.options.get("shutdown_timeout")
        if isinstance(timeout, (int, float)) and timeout > group.drain_seconds:
            found.append(f"options.shutdown_timeout = {timeout}: is above drain_seconds = {group.drain_seconds}, after which the process "
                         "manager kills; leave it out, and tasks have all of drain_seconds")
        found += own_workers(group.command) + chicory_options.check(group.options)
        return found + chicory_options.check_settings(group.settings)

    def warnings(self, group: Group, app: App) -> list[str]:
        """Warn of drains that cut tasks short, of names in the environment, and of a command without our runner."""
        found = chicory_options.check_environment({**app.env, **app.secrets, **group.env, **group.secrets}, group.settings)
        if not group.drain_declared:
            found.append(f"drain_seconds is not set, and Chicory has no time limit: a task longer than {group.drain_seconds} s is cut "
                         "short by a stop, and run again by another node")
        if group.command:
            found.append(f"command: {_OWN_COMMAND}")
        return found

    def command(self, group: Group, place: Place) -> list[str]:
        """Return the runner's command line; secrets never stand in it.

        How long a drain may take does not stand in it either: the process manager sees to that, and may be told anew
        without a restart.
        """
        if group.command:
            return list(group.command)
        concurrency = [] if group.concurrency is None else [f"--concurrency={group.concurrency}"]
        return [place.python, f"{place.runners}/{RUNNER}", f"--node={place.node}", f"--queue={self.queues(group)[0]}",
                *concurrency, *chicory_options.render(group.options), group.app]

    def trial(self, command: Sequence[str]) -> list[str]:
        """Have the runner import the app and make its configuration."""
        return [*command, "--check"] if command[1:] and command[1].endswith(f"/{RUNNER}") else []

    def environment(self, group: Group, place: Place) -> dict[str, str]:
        """Chicory reads its settings from there."""
        return chicory_options.environment(group.settings)

    def inspect(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Report]:
        """Read the nodes' heartbeats, which each writes within a second of a change; nothing is waited for."""
        with resp.connect(url, timeout=max(timeout, 1.0)) as client:
            return chicory_wire.reports(client, nodes)

    def waiting(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, int]:
        """The messages that no worker has taken; delayed ones, such as retries, are not among them."""
        group = chicory_wire.consumer_group(options)
        with resp.connect(url) as client:
            counted = {queue: chicory_wire.waiting(client, queue, chicory_wire.look(client, queue, group)) for queue in queues}
        return {queue: number for queue, number in counted.items() if number is not None}

    def probe(self, request: Request) -> list[Proof]:
        """Send ``workfleet.probe``, which the runner registers."""
        return chicory_probe.probe(request)


def own_workers(command: Sequence[str]) -> list[str]:
    """Refuse Chicory's own command where it is to start more than one worker."""
    if "worker" not in command or not any(word.rpartition("/")[2] == "chicory" for word in command):
        return []
    line = " ".join(command)
    found = re.search(r" (?:--workers[ =]|-w ?)(\d+)(?: |\Z)", line)
    if found is None or found[1] == "1":
        return []
    return [f"command: --workers {found[1]}: {chicory_options.OPTIONS['workers'].refused}"]


ENGINE = Chicory()
