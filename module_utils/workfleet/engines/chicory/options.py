"""Every option of Chicory's worker and every setting of its configuration (0.1.0) as data.

Both tables are compared with the installed Chicory by a test, so that a new name is noticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import options as engine_options
from ..options import Option

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_WORKERS = ("Chicory does not start a child again that died, and its parent lives on without them; "
            "use the group's key nodes, which gives each worker a unit of its own")
_BROKER = "the broker is app_broker_url, of which the node's environment is made"
_STORE = "the result store is app_result_url, of which the node's environment is made"
_NOT_HERE = "a setting is not secret; put {} into the group's secrets, or the app's"
_RABBITMQ = "the toolkit runs and inspects Chicory over Redis only"
_UNREAD = "Chicory declares it and never reads it"

#: The options of ``chicory worker`` and the fields of ``WorkerConfig``.
OPTIONS: dict[str, Option] = {
    "workers": Option(refused=_WORKERS),
    "concurrency": Option(refused="use the group's key concurrency"),
    "queue": Option(refused="use the group's key queues, a list of one"),
    "dlq": Option("--dlq", kind="flag"),
    "use_dead_letter_queue": Option(refused="use dlq, the name that Chicory's command has for it"),
    "heartbeat_interval": Option("--heartbeat-interval", kind="float", minimum=0.001),
    "heartbeat_ttl": Option("--heartbeat-ttl", kind="int", minimum=1),
    "cleanup_interval": Option("--cleanup-interval", kind="float", minimum=30),
    "stale_workers_timeout": Option("--stale-workers-timeout", kind="float", minimum=10),
    "shutdown_timeout": Option("--shutdown-timeout", kind="float"),
    "log_level": Option("--log-level", kind="choice", choices=_LEVELS),
}
HEARTBEAT_INTERVAL, HEARTBEAT_TTL = 10.0, 30


def _redis(prefix: str, where: str) -> dict[str, Option]:
    refused = {name: Option(refused=where) for name in ("host", "port", "db", "username", "password", "url")}
    return {f"{prefix}{name}": option for name, option in {**refused, "key_prefix": Option(refused=_UNREAD)}.items()}


def _database(prefix: str, **own: Option) -> dict[str, Option]:
    table = {
        "host": Option(), "port": Option(kind="int", minimum=1), "database": Option(), "username": Option(),
        **own, "echo": Option(kind="flag"), "pool_size": Option(kind="int", minimum=1), "max_overflow": Option(kind="int"),
        "pool_recycle": Option(kind="int"), "pool_timeout": Option(kind="int", minimum=1),
    }
    secret = {name: Option(refused=_NOT_HERE.format(f"CHICORY_{prefix}{name}".upper())) for name in ("password", "url")}
    return {f"{prefix}{name}": option for name, option in {**table, **secret}.items()}


#: Chicory's settings: each is the name ``CHICORY_…`` in the environment, in small letters and without the prefix.
SETTINGS: dict[str, Option] = {
    "validation_mode": Option(kind="choice", choices=("none", "inputs", "outputs", "strict")),
    "delivery_mode": Option(kind="choice", choices=("at_least_once", "at_most_once")),
    "result_poll_interval": Option(refused=_UNREAD),
    "result_default_timeout": Option(refused=_UNREAD),
    **_redis("broker_redis_", _BROKER),
    "broker_redis_consumer_group": Option(),
    "broker_redis_block_ms": Option(kind="int", minimum=1),
    "broker_redis_claim_min_idle_ms": Option(kind="int", minimum=1000),
    "broker_redis_max_stream_length": Option(kind="int", minimum=1),
    "broker_redis_dlq_max_length": Option(kind="int", minimum=1),
    **_redis("backend_redis_", _STORE),
    "backend_redis_result_ttl": Option(kind="int", minimum=1),  # Chicory's 0, "no expiration", is refused by Redis
    **_database("backend_postgres_"),
    **_database("backend_mysql_"),
    **_database("backend_mssql_", driver=Option(), trust_server_certificate=Option(kind="flag")),
    "backend_sqlite_file_path": Option(),
    **{name: option for name, option in _database("backend_sqlite_").items()
       if name[len("backend_sqlite_"):] not in ("host", "port", "database", "username", "password")},
}


def check(options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a group's ``options``, one sentence each."""
    usable = {name: value for name, value in options.items() if (name, value) != ("workers", 1)}
    problems = engine_options.check(OPTIONS, usable)
    interval, ttl = options.get("heartbeat_interval", HEARTBEAT_INTERVAL), options.get("heartbeat_ttl", HEARTBEAT_TTL)
    if not problems and ttl <= interval:
        problems.append(f"options.heartbeat_ttl = {ttl}: must be above heartbeat_interval = {interval:g}, or a healthy node has none")
    return problems


def check_settings(settings: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a group's ``settings``; no value of a refused one is shown."""
    problems = []
    for name, value in settings.items():
        if name.startswith("worker_"):
            problems.append(f"settings.{name}: refused: use options.{name[len('worker_'):]}, or the group's own key")
        elif name.startswith("broker_rabbitmq_"):
            problems.append(f"settings.{name}: refused: {_RABBITMQ}")
        elif name not in SETTINGS:
            usable = (name for name, option in SETTINGS.items() if not option.refused)
            problems.append(engine_options.unknown("settings", name, usable))
        else:
            problems += [text.replace("options.", "settings.", 1) for text in engine_options.check(SETTINGS, {name: value})]
    return problems


def render(options: Mapping[str, Any]) -> list[str]:
    """Return the runner's arguments for checked ``options``, in the table's order."""
    words = []
    for name, option in OPTIONS.items():
        if name in options and option.flag:
            value = options[name]
            flag = option.flag if value is not False else option.flag.replace("--", "--no-", 1)
            words.append(flag if option.kind == "flag" else f"{flag}={value}")
    return words


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the names in the environment for checked ``settings``."""
    return {f"CHICORY_{name.upper()}": str(value).lower() if isinstance(value, bool) else str(value) for name, value in settings.items()}


#: What ``WorkerConfig`` reads from the environment, and a node does not.
_UNREAD_HERE = {"CHICORY_WORKER_QUEUE": "the group's key queues", "CHICORY_WORKER_SHUTDOWN_TIMEOUT": "drain_seconds"}


def check_environment(environment: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Warn of names that nobody reads, and of those that win over ``settings``; no value is shown."""
    found = []
    for name in environment:
        setting = name[len("CHICORY_"):].lower() if name.startswith("CHICORY_") else ""
        if name in _UNREAD_HERE:
            found.append(f"environment {name}: a node does not read it; use {_UNREAD_HERE[name]}")
        elif setting in settings:
            found.append(f"environment {name}: wins over settings.{setting}; leave one of the two out")
        elif setting in SETTINGS and SETTINGS[setting].refused == _UNREAD:
            found.append(f"environment {name}: {_UNREAD}")
    return found
