"""Engine ``chicory``: workers of Chicory 0.1 over Redis streams, each run by ``runners/workfleet_chicory.py``.

Facts about Chicory in this file were observed on chicory 0.1.0; see docs/decisions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ... import redis_url, resp
from .. import local
from ..base import Reference
from ..one_queue import OneQueue, log_format
from ..verbs.report import Held
from . import options as chicory_options
from . import queues as chicory_queues
from . import wire as chicory_wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...model import App, Group
    from ..base import Place
    from ..verbs.report import Report

_OWN_COMMAND = ("Chicory's own command cancels running tasks when it is told to stop, acknowledges only on the queue default, takes all "
                "of a queue into memory, runs a task again that takes longer than broker_redis_claim_min_idle_ms, and with redis 8 dies "
                "after 5 idle seconds; leave it out, and the toolkit's runner does none of this")


class Chicory(OneQueue):
    """Chicory workers; each node is one process with an event loop and threads for tasks that are not async."""

    name = "chicory"
    broker_env = ("CHICORY_BROKER_REDIS_URL",)
    result_env = ("CHICORY_BACKEND_REDIS_URL",)
    knows_strangers = True
    runner = "workfleet_chicory.py"
    places = 32
    reference = Reference("Options and settings of Chicory", "Chicory 0.1.0", {
        "options": chicory_options.OPTIONS, "settings": chicory_options.SETTINGS})
    default_queue = "default"
    worker = "a Chicory worker"
    app_pattern = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*\Z")
    app_words = "module:app, such as app.tasks:app"
    tells_held = True

    def problems(self, group: Group) -> list[str]:
        """Check the entry by what Chicory can do."""
        found = super().problems(group)
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
        return [place.python, f"{place.runners}/{self.runner}", f"--node={place.node}", f"--queue={self.queues(group)[0]}",
                *log_format(group), *concurrency, *chicory_options.render(group.options), group.app]

    def environment(self, group: Group, place: Place) -> dict[str, str]:
        """Chicory reads its settings from there."""
        return chicory_options.environment(group.settings)

    def inspect(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Report]:
        """Read the nodes' heartbeats, which each writes within a second of a change; nothing is waited for."""
        with resp.connect(url, timeout=max(timeout, 1.0)) as client:
            return chicory_wire.reports(client, nodes)

    def everybody(self, url: str, options: Mapping[str, Any], timeout: float) -> tuple[dict[str, Report], bool]:
        """Read the heartbeats of all workers."""
        with resp.connect(url, timeout=max(timeout, 1.0)) as client:
            found = chicory_queues.nodes(client)
        return found or {}, found is not None

    def strangers(
        self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float, result_url: str = ""
    ) -> dict[str, Report]:
        """Read the heartbeats of this host's workers, which tell their processes; Chicory itself keeps them with the results."""
        with resp.connect(result_url if redis_url.is_redis(result_url) else url, timeout=max(timeout, 1.0)) as client:
            named = ((local.node_of(report.pid or 0, nodes), report) for report in chicory_wire.strangers(client))
            return {node: report for node, report in named if node}

    def held(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Held]:
        """Return the messages that Redis knows to be taken by a node and not acknowledged; a consumer has its node's name."""
        with resp.connect(url, timeout=max(timeout, 1.0)) as client:
            pending = chicory_wire.pending(client, nodes, chicory_wire.consumer_group(options))
        return {node: Held([{"id": tag, "task": None, "since": None, "acked": False} for tag in tags]) for node, tags in pending.items()}

    def waiting(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, int]:
        """The messages that no worker has taken; delayed ones, such as retries, are not among them."""
        group = chicory_wire.consumer_group(options)
        with resp.connect(url) as client:
            counted = {queue: chicory_wire.waiting(client, queue, chicory_wire.look(client, queue, group)) for queue in queues}
        return {queue: number for queue, number in counted.items() if number is not None}



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
