"""Engine ``flower``: the app's dashboard, ``celery flower`` under ``runners/workfleet_flower.py``, ready when it answers by HTTP.

Facts about Flower in this file were observed on flower 2.2; docs/dashboard.md is for people.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from .. import options as engine_options
from ..base import Engine, Place, Reference
from ..options import Option
from . import options as celery_options
from .engine import ENGINE as CELERY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...model import App, Group

RUNNER = "workfleet_flower.py"
#: Flower itself saves its state at a stop only; a kill would lose it.
SAVE_MILLISECONDS = 60_000
_PUBLIC = "a command line can be read by every user of the host; use secrets:"
#: Every option of Flower and of the Tornado in it; a test compares it with the installed one.
OPTIONS: dict[str, Option] = {
    "address": Option(refused="use the key address"),
    "port": Option(refused="use the key port"),
    "unix_socket": Option(refused="Flower makes it writable for every user of the host; use address and port"),
    "debug": Option(kind="flag"),
    "inspect_timeout": Option(kind="float"),
    "auth": Option(),
    "basic_auth": Option(refused="use the key basic_auth, which stands in no command line"),
    "oauth2_key": Option(refused=f"{_PUBLIC} FLOWER_OAUTH2_KEY"),
    "oauth2_secret": Option(refused=f"{_PUBLIC} FLOWER_OAUTH2_SECRET"),
    "oauth2_redirect_uri": Option(),
    "max_workers": Option(kind="int", minimum=1),
    "max_tasks": Option(kind="int", minimum=1),
    "db": Option(refused="use the key persistent; the state is below app_root, where it survives a deploy"),
    "persistent": Option(refused="use the key persistent"),
    "state_save_interval": Option(kind="int"),
    "broker_api": Option(refused=f"{_PUBLIC} FLOWER_BROKER_API"),
    "ca_certs": Option(),
    "certfile": Option(),
    "keyfile": Option(),
    "xheaders": Option(kind="flag"),
    "auto_refresh": Option(kind="flag"),
    "purge_offline_workers": Option(kind="int"),
    "cookie_secret": Option(refused=f"{_PUBLIC} FLOWER_COOKIE_SECRET"),
    "conf": Option(),
    "enable_events": Option(kind="flag"),
    "format_task": Option(refused="it is a function; write it into the file that options.conf names"),
    "natural_time": Option(kind="flag"),
    "tasks_columns": Option(),
    "auth_provider": Option(),
    "url_prefix": Option(refused="use the key url_prefix"),
    "task_runtime_metric_buckets": Option(),
    "read_only": Option(kind="flag", since="2.1"),
    "logging": Option(kind="choice", choices=("debug", "info", "warning", "error", "none")),
    "log_file_prefix": Option(),
    "log_file_max_size": Option(kind="int", minimum=1),
    "log_file_num_backups": Option(kind="int"),
    "log_rotate_mode": Option(kind="choice", choices=("size", "time")),
    "log_rotate_when": Option(kind="choice", choices=("S", "M", "H", "D", "W0", "W1", "W2", "W3", "W4", "W5", "W6")),
    "log_rotate_interval": Option(kind="int", minimum=1),
    "log_to_stderr": Option(kind="flag"),
}


class Flower(Engine):
    """One ``celery flower``."""

    name = "flower"
    reference = Reference("Options of Flower", "Flower 2.0 to 2.2", {"options": OPTIONS})
    broker_env = CELERY.broker_env
    result_env = CELERY.result_env
    schemes = CELERY.schemes
    other_broker_env = CELERY.other_broker_env
    awaited = "up, but /healthcheck does not answer yet"

    #: The name under which it reads who may come in.
    auth_env = "FLOWER_BASIC_AUTH"

    def notifies(self, group: Group) -> bool:
        """The runner does."""
        return True

    def problems(self, group: Group) -> list[str]:
        """Check the options, and who may come in."""
        found = [] if group.app else ["app: is required: the value of celery's -A, such as app.celery_app"]
        options, address = group.options, group.more["address"]
        found += engine_options.check(OPTIONS, options)
        if bool(options.get("auth")) != bool(options.get("auth_provider")):
            found.append("options.auth, options.auth_provider: neither works without the other")
        if not is_loopback(address) and not has_authentication(group):
            found.append(f"address = {address!r}: is beyond this host, and without authentication everybody who reaches it can read "
                         "all tasks with their arguments; set basic_auth (or options.auth_provider and options.auth), or keep "
                         "127.0.0.1 and come by ssh -L")
        return found

    def warnings(self, group: Group, app: App) -> list[str]:
        """Warn of what authentication does not cover, of an API that is opened, and of names that Celery's command line reads."""
        environment = {**app.env, **app.secrets, **group.env, **group.secrets}
        found = celery_options.check_environment(environment, "flower", {})
        if not is_loopback(group.more["address"]):
            found.append("Flower asks for no password at /metrics and /healthcheck, whatever basic_auth says: "
                         "anybody who reaches it reads queue names, task names and figures there")
            if not group.options.get("certfile"):
                found.append("passwords go over the network as plain text: set options.certfile and options.keyfile, "
                             "or put a proxy with TLS before it")
        if "FLOWER_UNAUTHENTICATED_API" in environment and not has_authentication(group):
            found.append("environment FLOWER_UNAUTHENTICATED_API: every user of the host can stop workers and send tasks")
        return found

    def with_log_format(self, group: Group, text: str) -> Group:
        """Flower has a format of its own, and no tasks to tell of."""
        return group

    def command(self, group: Group, place: Place) -> list[str]:
        """Return the runner's argv; what follows ``--`` is that of ``celery``. Flower takes an option's value behind ``=`` only."""
        more, options = group.more, dict(group.options)
        given: dict[str, Any] = {"address": more["address"], "port": more["port"]}
        if more["url_prefix"].strip("/"):
            given["url_prefix"] = more["url_prefix"].strip("/")
        if more["directory"]:
            given.update(persistent=True, db=f"{more['directory']}/flower", state_save_interval=SAVE_MILLISECONDS)
        given.update(options)
        return [place.python, f"{place.runners}/{RUNNER}", "--", "-A", group.app, "flower",
                *(f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in given.items())]

    def trial(self, command: Sequence[str], runners: str, drain_seconds: int) -> list[str]:
        """Have the runner import Flower and the app."""
        return [*command[:2], "--check", *command[2:]]


def is_loopback(address: str) -> bool:
    """Whether only this host reaches an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def has_authentication(group: Group) -> bool:
    """Whether Flower asks who comes."""
    named = group.secrets.get("FLOWER_BASIC_AUTH") or group.env.get("FLOWER_BASIC_AUTH")
    return bool(named or (group.options.get("auth") and group.options.get("auth_provider")))


ENGINE = Flower()
