"""Every option of ``celery worker`` 5.3 to 5.7 as data, and what Celery's command line reads from the environment.

The table is compared with the installed Celery by a test, so that a new option is noticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import options as engine_options
from ..options import Option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_POOLS = ("prefork", "eventlet", "gevent", "solo", "processes", "threads", "custom")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")
_DETACHED = "Celery reads it only with --detach, and a node runs in the foreground of its process manager"
_BEAT = ("several nodes that embed beat send each periodic task several times; "
         "declare the one scheduler of the app with worker_scheduler")

OPTIONS: dict[str, Option] = {
    "hostname": Option("--hostname", refused="it is made of app, group, slot and host, unique on the broker"),
    "detach": Option("--detach", "flag", refused="the process manager supervises only what stays its own child"),
    "statedb": Option("--statedb"),
    "loglevel": Option("--loglevel", "choice", choices=LEVELS),
    "optimization": Option("--optimization", "choice", choices=("default", "fair")),
    "prefetch_multiplier": Option("--prefetch-multiplier", "int", minimum=1),
    "disable_prefetch": Option("--disable-prefetch", "flag", since="5.6"),
    "concurrency": Option("--concurrency", "int", refused="use the group's key concurrency"),
    "pool": Option("--pool", "choice", choices=_POOLS),
    "task_events": Option("--task-events", "flag"),
    "time_limit": Option("--time-limit", "float", minimum=0.001),
    "soft_time_limit": Option("--soft-time-limit", "float", minimum=0.001),
    "max_tasks_per_child": Option("--max-tasks-per-child", "int", minimum=1),
    "pool_start_method": Option("--pool-start-method", "choice", choices=("fork", "spawn"), since="5.7"),
    "max_memory_per_child": Option("--max-memory-per-child", "int", minimum=1),
    "purge": Option("--purge", "flag", refused="each start of a node would delete all waiting tasks; see purge.yml"),
    "queues": Option("--queues", "list", refused="use the group's key queues"),
    "exclude_queues": Option("--exclude-queues", "list"),
    "include": Option("--include", "list"),
    "without_gossip": Option("--without-gossip", "flag"),
    "without_mingle": Option("--without-mingle", "flag"),
    "without_heartbeat": Option("--without-heartbeat", "flag"),
    "heartbeat_interval": Option("--heartbeat-interval", "int", minimum=1),
    "autoscale": Option("--autoscale", "pair"),
    "beat": Option("--beat", "flag", refused=_BEAT),
    "schedule_filename": Option("--schedule-filename", refused=_BEAT),
    "scheduler": Option("--scheduler", refused=_BEAT),
    "logfile": Option("--logfile"),
    "pidfile": Option("--pidfile", refused="a stale one keeps a node from starting; the run record tells a node's pid"),
    "uid": Option("--uid", refused="nodes run as app_user"),
    "gid": Option("--gid", refused="nodes run as app_user with its app_group"),
    "umask": Option("--umask", refused=_DETACHED),
    "executable": Option("--executable", refused=_DETACHED),
}


def check(options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a group's ``options``, one sentence each."""
    return engine_options.check(OPTIONS, options, KINDS) or _across(options)


def _across(options: Mapping[str, Any]) -> list[str]:
    """What is wrong between options that are each right."""
    problems = []
    soft, hard = options.get("soft_time_limit"), options.get("time_limit")
    if soft is not None and hard is not None and soft > hard:
        problems.append(f"options.soft_time_limit = {soft}: must not be above time_limit = {hard}, or it never comes")
    pool = options.get("pool", "prefork")
    if "autoscale" in options and pool in ("solo", "threads"):
        problems.append(f"options.autoscale: pool {pool} cannot grow or shrink; leave one of the two out")
    if "statedb" in options and "%" not in options["statedb"]:
        problems.append(f"options.statedb = {options['statedb']!r}: must hold %n, for nodes cannot share a file")
    return problems


def _wanted_pair(_: Option, value: Any) -> str:
    pair = autoscale_pair(value)
    return "" if pair and pair[0] >= 1 else "[MAX, MIN], two whole numbers, MAX at least 1, or the text \"MAX,MIN\""


def _wanted_choice(option: Option, value: Any) -> str:
    return "" if _choice(option, value) else f"one of {', '.join(option.choices)}"


KINDS: dict[str, engine_options.Kind] = {"choice": _wanted_choice, "pair": _wanted_pair}


def _choice(option: Option, value: Any) -> str | None:
    """The choice as Celery spells it; like Celery, log levels are taken in any case."""
    found = [choice for choice in option.choices if isinstance(value, str) and choice.lower() == value.lower()]
    return found[0] if found and (option.choices is LEVELS or found[0] == value) else None


def autoscale_pair(value: Any) -> tuple[int, int] | None:
    """``(max, min)`` of ``[10, 2]``, ``"10,2"``, ``10`` or ``"10"``; like Celery, the order does not matter."""
    given = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    if not isinstance(given, (list, tuple)) or not 1 <= len(given) <= 2:
        return None
    if any(isinstance(item, bool) or not str(item).strip().isdigit() for item in given):
        return None
    numbers = sorted((int(item) for item in given), reverse=True)
    return numbers[0], numbers[1] if len(numbers) == 2 else 0


def render(options: Mapping[str, Any]) -> list[str]:
    """Return the arguments of ``celery worker`` for checked ``options``, in the table's order."""
    return [word for name, option in OPTIONS.items() if name in options for word in words(option, options[name])]


def words(option: Option, value: Any) -> Sequence[str]:
    """Return the arguments for one option of any of Celery's commands."""
    if option.kind == "flag":
        return [option.flag] if value else []
    if option.kind == "pair":
        value = ",".join(str(number) for number in autoscale_pair(value) or ())
    elif option.kind == "list":
        value = ",".join(value)
    elif option.kind == "choice":
        value = _choice(option, value)
    return [f"{option.flag}={value}"]


# The environment. `celery` starts click with auto_envvar_prefix="CELERY" (undocumented, since 5.0): every option of
# every command is also a name in the environment, and the app-wide options are read under bare names as well.

_BARE = {"APP": "-A", "BROKER_URL": "the broker", "RESULT_BACKEND": "the result store", "LOADER": "the loader",
         "CONFIG_MODULE": "the configuration module", "SKIP_CHECKS": "the checks at start"}
_PREFIXED = {"CELERY_APP": "-A", "CELERY_BROKER": "the broker", "CELERY_LOADER": "the loader",
             "CELERY_CONFIG": "the configuration module", "CELERY_WORKDIR": "the working directory",
             "CELERY_SKIP_CHECKS": "the checks at start"}
_INSTEAD = {"concurrency": "the group's key concurrency", "queues": "the group's key queues"}
_CONFIG_MODULE = "an app that names no configuration of its own takes all of it from that module; name it in the app"
_UNREAD = "Celery does not read it; unless the app does, declare"
_OF_WORKERS = {"CELERY_WORKER_SEND_TASK_EVENTS": f"{_UNREAD} options.task_events",
               "CELERY_WORKER_LOG_FORMAT": f"{_UNREAD} settings.worker_log_format",
               "CELERY_WORKER_DISABLE_RATE_LIMITS": f"{_UNREAD} settings.worker_disable_rate_limits",
               "REMAP_SIGTERM": "it makes a stop that waits for tasks one that does not; use drain_seconds"}


def check_environment(environment: Mapping[str, Any], command: str = "worker", options: Mapping[str, Option] = OPTIONS) -> list[str]:
    """Warn of names that change a node behind the declaration's back; no value is shown, an empty one is unset.

    ``command`` is the word of ``celery`` that the node runs, ``options`` are those of its options that can be declared.
    """
    changed = {**_BARE, **_PREFIXED}
    known = {name: f"Celery's command line reads this name too and would change {what}; rename it" for name, what in changed.items()}
    known["CELERY_CONFIG_MODULE"] = _CONFIG_MODULE
    known.update(_OF_WORKERS if command == "worker" else {})
    known.update({f"CELERY_{command}_{key}".upper(): _taken(key, option) for key, option in options.items()})
    return [f"environment {name}: {known[name]}" for name, value in environment.items() if value not in ("", None) and name in known]


def _taken(key: str, option: Option) -> str:
    taken = f"Celery's command line takes it as {option.flag}"
    if option.refused and key not in _INSTEAD:
        return f"{taken}, which is refused: {option.refused}"
    return f"{taken}; declare {_INSTEAD.get(key, f'options.{key}')}, which wins over it"
