"""Engine ``beat``: the app's one scheduler, ``celery beat`` under ``runners/workfleet_beat.py``, which holds a lock in the broker.

Facts about Celery in this file were observed on celery 5.7; docs/scheduler.md tells how the lock works.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .. import options as engine_options
from ..base import Engine, Place, Reference
from ..options import Option
from . import options as celery_options
from . import settings as celery_settings
from .engine import ENGINE as CELERY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...model import App, Group

RUNNER = "workfleet_beat.py"
_DETACHED = "the process manager supervises only what stays its own child"
#: Every option of ``celery beat``; a test compares it with the installed Celery.
OPTIONS: dict[str, Option] = {
    "detach": Option("--detach", "flag", refused=_DETACHED),
    "schedule": Option("--schedule", refused="use schedule_directory, which survives a deploy"),
    "scheduler": Option("--scheduler"),
    "max_interval": Option("--max-interval", "int", minimum=1),
    "remote_control": Option("--enable-remote-control", "flag", since="5.7"),
    "hostname": Option("--hostname", since="5.7"),
    "loglevel": Option("--loglevel", "choice", choices=celery_options.LEVELS),
    "logfile": Option("--logfile"),
    "pidfile": Option("--pidfile", refused="a stale one keeps the scheduler from starting; a lock sees to it that there is one only"),
    "uid": Option("--uid", refused="the scheduler runs as app_user"),
    "gid": Option("--gid", refused="the scheduler runs as app_user with its app_group"),
    "umask": Option("--umask", refused=_DETACHED),
    "executable": Option("--executable", refused=_DETACHED),
}


class Beat(Engine):
    """One ``celery beat``, ready when it holds the lock and has ticked."""

    name = "beat"
    reference = Reference("Options of `celery beat`", "Celery 5.3 to 5.7, names with `_`", {"options": OPTIONS})
    broker_env = CELERY.broker_env
    result_env = CELERY.result_env
    schemes = CELERY.schemes
    other_broker_env = CELERY.other_broker_env
    awaited = "up, but it does not hold the scheduler's lock, or has not ticked yet"

    what = "a celery beat"

    def is_started_by(self, group: Group) -> bool:
        """A command starts one alone or inside of a worker."""
        words = " ".join(group.command).split()
        programs = [word.rpartition("/")[2] for word in words]
        if "celery" in programs:
            words = words[programs.index("celery") + 1:]
        elif group.engine != CELERY.name:
            return False
        inside = "worker" in words and {"-B", "--beat"} & set(words[words.index("worker"):])
        return bool(inside) or any(word == "beat" and not before.startswith("-") for before, word in zip(["", *words], words))

    def notifies(self, group: Group) -> bool:
        """The runner does."""
        return True

    def problems(self, group: Group) -> list[str]:
        """Check the options and settings by Celery's own rules."""
        found = [] if group.app else ["app: is required: the value of celery's -A, such as app.celery_app"]
        return found + engine_options.check(OPTIONS, group.options, celery_options.KINDS) + celery_settings.check(group.settings)

    def warnings(self, group: Group, app: App) -> list[str]:
        """Warn of environment names that Celery's command line reads."""
        return celery_options.check_environment({**app.env, **app.secrets, **group.env, **group.secrets}, "beat", OPTIONS)

    def with_log_format(self, group: Group, text: str) -> Group:
        """Beat writes in the workers' format."""
        return replace(group, settings={"worker_log_format": text, **group.settings})

    def command(self, group: Group, place: Place) -> list[str]:
        """Return the runner's argv; what follows ``--`` is that of ``celery``. An empty pidfile is none, for older Celery makes one."""
        directory = group.more["schedule_directory"]
        words = [place.python, f"{place.runners}/{RUNNER}", "--node", place.node, "--lock", group.more["lock"], "--directory", directory,
                 "--", "-A", group.app, "beat", f"--schedule={directory}/schedule", "--pidfile="]
        words += [word for name, option in OPTIONS.items() if name in group.options
                  for word in celery_options.words(option, group.options[name])]
        settings = celery_settings.render(group.settings)
        return [*words, "--", *settings] if settings else words

    def trial(self, command: Sequence[str], runners: str, drain_seconds: int) -> list[str]:
        """Have the runner import the app and the scheduler's class."""
        return [*command[:2], "--check", *command[2:]]


ENGINE = Beat()
