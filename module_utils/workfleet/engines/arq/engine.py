"""Engine ``arq``: workers of arq 0.26 to 0.28 over Redis, each run by ``runners/workfleet_arq.py``.

Facts about arq in this file were observed on arq 0.28; see docs/decisions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ... import resp
from ..base import Reference
from ..one_queue import OneQueue, log_format
from . import options as arq_options
from . import queues as arq_queues
from .queues import HEALTH_CHECK_KEY, IN_PROGRESS, refuse, report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...model import App, Group
    from ..base import Place
    from ..verbs.report import Report

DEFAULT_JOB_TIMEOUT = 300
LONGEST_HEALTH_CHECK = 60
_KEYS_A_LOOK = "1000"


class Arq(OneQueue):
    """arq workers; each node is one process with an event loop."""

    name = "arq"
    runner_env = ("WORKFLEET_BROKER_URL",)
    runner = "workfleet_arq.py"
    places = 10
    reference = Reference("Options of arq's worker", "arq 0.26 to 0.28", {"options": arq_options.OPTIONS})
    default_queue = "arq:queue"
    worker = "an arq worker"
    app_pattern = re.compile(r"[^\W\d]\w*([.:][^\W\d]\w*)+\Z")
    app_words = "the dotted path of the settings class, such as app.worker.WorkerSettings"

    def problems(self, group: Group) -> list[str]:
        """Check the entry by what arq can do."""
        found = super().problems(group)
        if group.settings:
            found.append("settings: arq has no settings beside its worker's options; use options")
        if group.concurrency is not None and "max_jobs" in group.options:
            found.append("concurrency and options.max_jobs are the same; leave one of the two out")
        return found + arq_options.check(group.options)

    def warnings(self, group: Group, app: App) -> list[str]:
        """Warn of drains that cut jobs short, and of figures that are too old."""
        found = []
        declared = group.options.get("job_timeout")
        limit = DEFAULT_JOB_TIMEOUT if declared is None else declared
        if limit > group.drain_seconds:
            which = f"options.job_timeout = {declared}" if declared is not None else f"arq's own job_timeout of {limit} s"
            found.append(f"drain_seconds = {group.drain_seconds} is below {which}: a stop may cancel a job within its own limit, "
                         "which costs one of its tries")
        interval = group.options.get("health_check_interval", 0)
        if interval > LONGEST_HEALTH_CHECK:
            found.append(f"options.health_check_interval = {interval}: a node that hangs passes for a healthy one for that long")
        if group.command:
            found.append("command: without the toolkit's runner a stop cancels running jobs unless the command sets job_completion_wait, "
                         "and a node tells no figures")
        return found

    def command(self, group: Group, place: Place) -> list[str]:
        """Return the runner's command line; secrets never stand in it."""
        if group.command:
            return list(group.command)
        options = dict(group.options)
        if group.concurrency is not None:
            options["max_jobs"] = group.concurrency
        queue = ["--queue", group.queues[0]] if group.queues else []
        return [place.python, f"{place.runners}/{self.runner}", *log_format(group), "--node", place.node, *queue,
                "--drain-seconds", str(group.drain_seconds), group.app, *arq_options.render(options)]

    def inspect(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Report]:
        """Read the nodes' health-check keys, which each writes after every change; nothing is waited for."""
        with resp.connect(url, timeout=max(timeout, 1.0)) as client:
            told = client.call("MGET", *(HEALTH_CHECK_KEY + node for node in nodes)) if nodes else []
        return {node: report(resp.text(value)) for node, value in zip(nodes, told) if value is not None}

    def everybody(self, url: str, options: Mapping[str, Any], timeout: float) -> tuple[dict[str, Report], bool]:
        """Read the keys of all that the runner has started; arq's own, of a worker that somebody else starts, tell no name."""
        with resp.connect(url, timeout=max(timeout, 1.0)) as client:
            found = arq_queues.nodes(client)
        return found or {}, found is not None

    def waiting(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, int]:
        """The jobs of a queue without those that run, which arq leaves in it; jobs whose time has not come count."""
        with resp.connect(url) as client:
            sizes = dict(zip(queues, client.pipeline([("ZCARD", queue) for queue in queues], raise_errors=False)))
            for queue, size in sizes.items():
                refuse(queue, size)
            jobs = running(client) if any(sizes.values()) else []
            for queue in queues:
                places = client.pipeline([("ZSCORE", queue, job) for job in jobs])
                sizes[queue] -= sum(place is not None for place in places)
        return sizes



def running(client: resp.Client) -> list[bytes]:
    """Return the ids of all jobs that run in this database, those of killed workers too until arq gives them up."""
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, keys = client.call("SCAN", cursor, "MATCH", f"{IN_PROGRESS}*", "COUNT", _KEYS_A_LOOK)
        found.update(key[len(IN_PROGRESS):] for key in keys)
        if cursor == b"0":
            return sorted(found)


ENGINE = Arq()
