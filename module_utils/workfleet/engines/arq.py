"""Engine ``arq``: workers of arq 0.26 to 0.28 over Redis, each run by ``runners/workfleet_arq.py``.

Facts about arq in this file were observed on arq 0.28; see docs/decisions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .. import resp
from ..errors import WorkfleetError
from . import arq_options, arq_probe
from .base import Engine, Place, Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..spec import App, Group
    from .probe import Proof, Request

RUNNER = "workfleet_arq.py"
DEFAULT_QUEUE = "arq:queue"
DEFAULT_JOB_TIMEOUT = 300
#: The runner writes a node's figures here; the node's name follows.
HEALTH_CHECK_KEY = "arq:health-check:"
IN_PROGRESS = "arq:in-progress:"
LONGEST_HEALTH_CHECK = 60
_DOTTED = re.compile(r"[^\W\d]\w*([.:][^\W\d]\w*)+\Z")
_FIGURE = re.compile(r"(\w+)=(\d+)")
_KEYS_A_LOOK = "1000"


class Arq(Engine):
    """arq workers; each node is one process with an event loop."""

    name = "arq"
    runner_env = ("WORKFLEET_BROKER_URL",)
    speaks = True

    def notifies(self, group: Group) -> bool:
        """The runner does; a command of the user's own is not run by it."""
        return not group.command

    def answers_while_busy(self, group: Group) -> bool:
        """The runner's figures come from the event loop, beside the jobs; a command of the user's own tells none."""
        return not group.command

    def queues(self, group: Group) -> tuple[str, ...]:
        """An arq worker has one queue; arq's own default has this name."""
        return group.queues or (DEFAULT_QUEUE,)

    def problems(self, group: Group) -> list[str]:
        """Check the entry by what arq can do."""
        found = []
        if not group.app and not group.command:
            found.append("app: is required for engine arq: the dotted path of the settings class, such as app.worker.WorkerSettings")
        elif group.app and not _DOTTED.match(group.app):
            found.append(f"app = {group.app!r}: must be the dotted path of the settings class, such as app.worker.WorkerSettings")
        if len(group.queues) > 1:
            found.append(f"queues: an arq worker consumes one queue, given are {len(group.queues)}; declare a worker group for each")
        if group.queues and not group.queues[0]:
            found.append("queues: a queue without a name is none")
        if group.settings:
            found.append("settings: arq has no settings beside its worker's options; use options")
        if group.command and (group.options or group.concurrency):
            found.append("command: replaces the runner that sets options and concurrency; say them in it")
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
        return [place.python, f"{place.runners}/{RUNNER}", "--node", place.node, *queue,
                "--drain-seconds", str(group.drain_seconds), group.app, *arq_options.render(options)]

    def trial(self, command: Sequence[str]) -> list[str]:
        """Have the runner import the settings class and make the worker."""
        return [*command, "--check"] if command[1:] and command[1].endswith(f"/{RUNNER}") else []

    def inspect(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Report]:
        """Read the nodes' health-check keys, which each writes after every change; nothing is waited for."""
        with resp.connect(url, timeout=max(timeout, 1.0)) as client:
            told = client.call("MGET", *(HEALTH_CHECK_KEY + node for node in nodes)) if nodes else []
        return {node: report(resp.text(value)) for node, value in zip(nodes, told) if value is not None}

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

    def probe(self, request: Request) -> list[Proof]:
        """Send ``workfleet.probe``, which the runner registers."""
        return arq_probe.probe(request)


def refuse(queue: str, reply: resp.Reply) -> None:
    """Raise where a queue's key cannot be read as arq's."""
    if isinstance(reply, resp.RespError):
        if reply.code != "WRONGTYPE":
            raise reply
        raise WorkfleetError(f"queue {queue}: the key of that name in Redis is no queue of arq's (a sorted set): "
                             "does another engine use the name in this database?", queue=queue)


def running(client: resp.Client) -> list[bytes]:
    """Return the ids of all jobs that run in this database, those of killed workers too until arq gives them up."""
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, keys = client.call("SCAN", cursor, "MATCH", f"{IN_PROGRESS}*", "COUNT", _KEYS_A_LOOK)
        found.update(key[len(IN_PROGRESS):] for key in keys)
        if cursor == b"0":
            return sorted(found)


def report(said: str) -> Report:
    """Return what a node tells in its health-check key: arq's words, then pid, max_jobs and, to the end, its queue."""
    words, _, queue = said.partition(" queue=")
    figures = {name: int(value) for name, value in _FIGURE.findall(words)}
    done = [figures[name] for name in ("j_complete", "j_failed") if name in figures]
    return Report(
        pid=figures.get("pid"), concurrency=figures.get("max_jobs"), running=figures.get("j_ongoing"),
        reserved=0,  # arq takes a job only to run it
        processed=sum(done) if done else None, failed=figures.get("j_failed"), queues=[queue] if queue else None,
    )


ENGINE = Arq()
