"""Engine ``celery``: ``celery worker`` 5.x over Redis.

Facts about Celery in this file were observed on celery 5.7 and kombu 5.7; see docs/decisions.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ... import forms, redis_url
from ...errors import WorkfleetError
from ..base import Engine, Place, Reference
from ..verbs.report import Held, Report
from . import control as celery_control
from . import options as celery_options
from . import settings as celery_settings
from . import wire as celery_wire

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping, Sequence

    from ...model import App, Group

DEFAULT_QUEUE = "celery"
#: Pools that are handed all that is prefetched at once and cannot give it back; Celery prefetches this many times their places.
KEEPING_POOLS, DEFAULT_PREFETCH = ("gevent", "eventlet"), 4
TELLER = "workfleet_celery_tasks.py"
TIME_LIMITS = re.compile(r" (--(?:soft-)?time-limit)[ =](\d+(?:\.\d+)?)(?= |\Z)")


class Celery(Engine):
    """Celery workers; each node is one ``celery worker``."""

    name = "celery"
    places = None
    reference = Reference("Options of `celery worker`", "Celery 5.3 to 5.7, names with `_`", {"options": celery_options.OPTIONS})
    app_pattern = forms.MODULE
    app_words = "a module or what is in it, such as app.celery_app or app.main:app"
    broker_env = ("CELERY_BROKER_URL",)
    result_env = ("CELERY_RESULT_BACKEND",)
    schemes = ("redis", "rediss", "redis+socket")
    other_broker_env = ("CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
    speaks = True
    holds_scheduled = True
    acknowledges_first = True
    knows_strangers = True
    overlaps = True
    tells_held = True
    quiesces_commands = True
    tells_events = True
    controls = celery_control.CONTROLS
    runner_controls = ("time_limit",)

    def overlap(self, group: Group) -> bool:
        """Two workers of one name, such as a command says by ``-n``, are one to the broker: what stops the old one stops both."""
        return not re.search(r"(^|\s)(-n|--hostname\b)", " ".join(group.command))

    def notifies(self, group: Group) -> bool:
        """Our plug-in is loaded by ``-I``; a command of the user's own does not load it."""
        return not group.command

    def has_children(self, group: Group) -> bool:
        """The prefork pool, Celery's default, and ``processes`` run tasks in children."""
        return group.options.get("pool", "prefork") in ("prefork", "processes")

    def answers_while_busy(self, group: Group) -> bool:
        """A solo pool runs tasks in the very process that would answer."""
        words = " ".join(group.command)
        return group.options.get("pool") != "solo" and not re.search(r"(-P ?|--pool[ =])solo\b", words)

    def gives_back(self, group: Group) -> bool:
        """What a pool of greenlets was handed it gives back only at the worker's end, and solo hears no mark while it is busy."""
        return group.options.get("pool") not in (*KEEPING_POOLS, "solo", "custom")

    def queues(self, group: Group) -> tuple[str, ...]:
        """Without ``queues`` a worker consumes the app's default queue, named ``celery`` unless the app says otherwise.

        What a command of the user's own consumes stands in it or in the app, and is known here only where ``queues`` says it.
        """
        return group.queues or (() if group.command else (DEFAULT_QUEUE,))

    def problems(self, group: Group) -> list[str]:
        """Check the options and settings by Celery's own rules."""
        found = [] if group.app else ["app: is required for engine celery: the value of celery's -A, such as app.celery_app"]
        if group.command and (group.options or group.settings or group.concurrency):
            found.append("command: replaces the engine's command line; say options, settings and concurrency in it")
        return found + celery_options.check(group.options) + celery_settings.check(group.settings)

    def warnings(self, group: Group, app: App) -> list[str]:
        """Warn of drains without a bound, and of environment names that Celery's command line reads."""
        found = celery_options.check_environment({**app.env, **app.secrets, **group.env, **group.secrets})
        what, limit = time_limit(group)
        if limit is None and not group.drain_declared:
            found.append("neither drain_seconds nor options.time_limit is set: "
                         f"a task longer than {group.drain_seconds} s is killed by a stop")
        if limit is not None and limit > group.drain_seconds:
            found.append(f"drain_seconds = {group.drain_seconds} is below {what} = {limit:g}: "
                         "a stop may kill a task within its own limit")
        prefetch = group.options.get("prefetch_multiplier", DEFAULT_PREFETCH)
        keeps = group.options.get("pool") in KEEPING_POOLS and not group.options.get("disable_prefetch")
        if keeps and prefetch > 1 and limit is not None and float(limit) * prefetch > group.drain_seconds:
            found.append(f"a stop waits until the pool {group.options['pool']} has run what it prefetched, up to {prefetch} of {limit} s "
                         f"one after the other, and drain_seconds = {group.drain_seconds}: set options.prefetch_multiplier: 1 or "
                         "disable_prefetch: true")
        return found

    def command(self, group: Group, place: Place) -> list[str]:
        """Return ``python -m celery … worker …``; secrets never stand in it."""
        if group.command:
            return list(group.command)
        options = dict(group.options)
        include = ",".join(["workfleet_celery", *options.pop("include", [])])
        words = [place.python, "-m", "celery", "-A", group.app, "worker", "-n", place.node, "-I", include]
        if group.queues:
            words += ["-Q", ",".join(group.queues)]
        if group.concurrency is not None:
            words += ["-c", str(group.concurrency)]
        words += celery_options.render(options)
        settings = celery_settings.render(group.settings)
        return [*words, "--", *settings] if settings else words

    def with_log_format(self, group: Group, text: str) -> Group:
        """Celery has two settings for it, one for what tasks write; what the group sets itself stays."""
        if group.command:
            raise WorkfleetError("it is started by a command of its own; say worker_log_format in the app")
        return replace(group, settings={**dict.fromkeys(("worker_log_format", "worker_task_log_format"), text), **group.settings})

    def option_problems(self, options: Mapping[str, Any]) -> list[str]:
        """Check what tells how kombu lays things out."""
        try:
            celery_wire.Wire.parse(options)
        except WorkfleetError as error:
            return [str(error).partition(", given is ")[0]]
        return []

    def url_problems(self, app: App) -> Iterator[str]:
        """Refuse also what celery's result store does not start with, and by what its broker would be another's."""
        yield from super().url_problems(app)
        if redis_url.scheme(app.broker_url) == "rediss" and "ssl_cert_reqs=" not in app.broker_url:
            yield ("app_broker_url: by a rediss:// URL that does not say how certificates are checked, celery accepts any server; add "
                   "?ssl_cert_reqs=required")
        if redis_url.scheme(app.result_url) == "rediss" and "ssl_cert_reqs=" not in app.result_url:
            yield ("app_result_url: celery's result store starts with a rediss:// URL only if it says how certificates are checked; add "
                   "?ssl_cert_reqs=required")

    def trial(self, command: Sequence[str], runners: str, drain_seconds: int) -> list[str]:
        """Import the app as the worker would; what limits its code gives its tasks is seen only there."""
        argv = self.ask(command, runners)
        return [*argv[:2], f"--drain-seconds={drain_seconds}", *argv[2:]] if argv else []

    def ask(self, command: Sequence[str], runners: str) -> list[str]:
        """Import the app, and what the worker includes, with the worker's settings and limits."""
        if list(command[1:4]) != ["-m", "celery", "-A"]:
            return []
        include = ["--include", command[command.index("-I") + 1]] if "-I" in command else []
        limits = ["=".join(limit) for limit in TIME_LIMITS.findall(" ".join(command))]
        settings = list(command[command.index("--"):]) if "--" in command else []
        return [command[0], f"{runners}/{TELLER}", *include, *limits, command[4], *settings]

    def environment(self, group: Group, place: Place) -> dict[str, str]:
        """Let the worker find our plug-in; give one that a command starts its node's name, as ``celery worker`` reads it from there."""
        return {"CELERY_WORKER_HOSTNAME": place.node} if group.command else {"PYTHONPATH": place.runners}

    def inspect(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Report]:
        """Ask over pidbox; ends as soon as all have answered."""
        return celery_wire.reports(url, nodes, options, timeout)

    def strangers(
        self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float, result_url: str = ""
    ) -> dict[str, Report]:
        """Ask all that listen who they are."""
        return celery_wire.strangers(url, nodes, options, timeout)

    def everybody(self, url: str, options: Mapping[str, Any], timeout: float) -> tuple[dict[str, Report], bool]:
        """Ask over pidbox; a busy node of the solo pool does not answer."""
        return celery_wire.everybody(url, options, timeout)

    def held(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Held]:
        """Ask over pidbox: running, reserved and scheduled tasks."""
        return celery_control.held(url, nodes, options, timeout)

    def ran(self, url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float) -> dict[str, Counter[str]]:
        """Ask over pidbox: what was begun, by name, and what is held."""
        return celery_control.ran(url, nodes, options, timeout)

    def quiesce(self, url: str, queues: Mapping[str, Sequence[str]], options: Mapping[str, Any], timeout: float) -> None:
        """Cancel the consumer of each queue."""
        celery_control.each_queue(url, "cancel_consumer", queues, options, timeout)

    def resume(self, url: str, queues: Mapping[str, Sequence[str]], options: Mapping[str, Any], timeout: float) -> None:
        """Add the consumers again."""
        celery_control.each_queue(url, "add_consumer", queues, options, timeout)

    def control(
        self, url: str, nodes: Sequence[str], name: str, arguments: Mapping[str, Any], options: Mapping[str, Any], timeout: float
    ) -> dict[str, str | None]:
        """Send it over pidbox."""
        return celery_control.control(url, nodes, name, arguments, options, timeout)

    def waiting(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, int]:
        """Sum over the lists of all priorities."""
        return celery_wire.waiting(url, queues, options)



def time_limit(group: Group) -> tuple[str, float | None]:
    """Return what of an entry ends a task that takes too long, and after how many seconds; a limit of 0 is none."""
    said = dict(TIME_LIMITS.findall(" ".join(group.command)))
    limits = {"--time-limit": said.get("--time-limit"), "options.time_limit": group.options.get("time_limit"),
              "settings.task_time_limit": group.settings.get("task_time_limit")}
    return next(((what, float(limit)) for what, limit in limits.items() if limit), ("", None))


ENGINE = Celery()
