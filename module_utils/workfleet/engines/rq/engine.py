"""Engine ``rq``: workers of rq 2.12 and 3.0, each run by ``runners/workfleet_rq.py``: one process, one queue, one job at a time.

Facts about rq in this folder were observed on rq 3.0.0 and 2.12.0; see docs/decisions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ... import resp
from ..base import Reference
from ..one_queue import OneQueue, log_format
from . import keys
from . import options as rq_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...model import App, Group
    from ..base import Place
    from ..verbs.report import Report


class Rq(OneQueue):
    """rq workers. A job has a process of its own, a child of its node that dies with it."""

    name = "rq"
    broker_env = ("RQ_REDIS_URL",)
    runner_env = ("WORKFLEET_BROKER_URL",)
    runner = "workfleet_rq.py"
    reference = Reference("Options of `rq worker`", "rq 2.12 and 3.0, names with `_`", {"options": rq_options.OPTIONS})
    default_queue = "default"
    worker = "a node of rq"
    app_pattern = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
    app_words = "the dotted path of a module with job functions, such as app.tasks, which a node imports at its start"

    def problems(self, group: Group) -> list[str]:
        """Check the entry by what rq can do."""
        found = super().problems(group)
        if group.settings:
            found.append("settings: rq has no settings beside its worker's options; use options")
        if group.concurrency not in (None, 1):
            found.append(f"concurrency = {group.concurrency}: an rq worker runs one job at a time; declare nodes: {group.concurrency}")
        return found + rq_options.check(group.options)

    def warnings(self, group: Group, app: App) -> list[str]:
        """Warn of what loses jobs, and of another prefix of keys."""
        found = []
        if group.command:
            found.append("command: without the toolkit's runner a stop can lose a job that was popped and not begun, and the node does not "
                         "heed its drain mark; rq worker -P <app_root>/workfleet -w workfleet_rq.Worker has the runner's worker class")
        if any("RQ_KEY_PREFIX" in env for env in (app.env, app.secrets, group.env, group.secrets)):
            found.append("environment RQ_KEY_PREFIX: the toolkit looks at keys that begin with rq: only; use a database of the app's own")
        return found

    def command(self, group: Group, place: Place) -> list[str]:
        """Return the runner's command line; secrets never stand in it."""
        if group.command:
            return list(group.command)
        return [place.python, f"{place.runners}/{self.runner}", *log_format(group), "--node", place.node,
                "--queue", self.queues(group)[0], group.app, *rq_options.render(group.options)]

    def ask(self, command: Sequence[str], runners: str) -> list[str]:
        """There is no list of tasks: rq imports whatever a job names."""
        return []

    def inspect(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Report]:
        """Read the nodes' own hashes; nothing is waited for."""
        with resp.connect(url, timeout=max(timeout, 1.0)) as client:
            return keys.nodes(client, nodes)

    def everybody(self, url: str, options: Mapping[str, Any], timeout: float) -> tuple[dict[str, Report], bool]:
        """Read the hashes of all workers that are registered; one that was killed stands there for one more minute or two."""
        with resp.connect(url, timeout=max(timeout, 1.0)) as client:
            return keys.everybody(client), True

    def waiting(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, int]:
        """The lengths of the queues."""
        with resp.connect(url) as client:
            sizes = dict(zip(queues, client.pipeline([("LLEN", keys.QUEUE + queue) for queue in queues], raise_errors=False)))
        for queue, size in sizes.items():
            keys.refuse(queue, size)
        return sizes


ENGINE = Rq()
