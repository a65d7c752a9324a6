"""Every option of arq's worker (0.26 to 0.28) and of its command as data.

The table is compared with the installed arq by a test, so that a new option is noticed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .. import options as engine_options
from ..options import Option

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODE = "it is code; set it in the settings class, where the runner finds it"
_BROKER = "the broker is app_broker_url; without it, the redis_settings of the settings class"
_BURST = "a node that ends when its queue is empty is started again at once, without end"

#: The arguments of ``arq.worker.Worker``.
WORKER: dict[str, Option] = {
    "functions": Option(refused=_CODE),
    "queue_name": Option(refused="use the group's key queues, a list of one"),
    "cron_jobs": Option(refused=_CODE),
    "redis_settings": Option(refused=_BROKER),
    "redis_pool": Option(refused=_BROKER),
    "burst": Option(kind="flag", refused=_BURST),
    "on_startup": Option(refused=_CODE),
    "on_shutdown": Option(refused=_CODE),
    "on_job_start": Option(refused=_CODE),
    "on_job_end": Option(refused=_CODE),
    "after_job_end": Option(refused=_CODE),
    "handle_signals": Option(kind="flag", refused="a node without signal handlers loses its jobs at a stop"),
    "job_completion_wait": Option(kind="int", refused="use the group's key drain_seconds, from which it follows"),
    "max_jobs": Option(kind="int", minimum=1),
    "job_timeout": Option(kind="float", minimum=0.001),
    "keep_result": Option(kind="float"),
    "keep_result_forever": Option(kind="flag"),
    "poll_delay": Option(kind="float", minimum=0.001),
    "queue_read_limit": Option(kind="int", minimum=1),
    "max_tries": Option(kind="int", minimum=1),
    "health_check_interval": Option(kind="float", minimum=0.5),
    "health_check_key": Option(refused="each node has its own, made of its name; a shared one is deleted by the first node that stops"),
    "ctx": Option(refused=_CODE),
    "retry_jobs": Option(kind="flag"),
    "allow_abort_jobs": Option(kind="flag"),
    "max_burst_jobs": Option(kind="int", refused=_BURST),
    "job_serializer": Option(refused=_CODE),
    "job_deserializer": Option(refused=_CODE),
    "expires_extra_ms": Option(kind="int", minimum=1),
    "timezone": Option(),
    "log_results": Option(kind="flag"),
}
#: The options of the command ``arq``.
COMMAND: dict[str, Option] = {
    "verbose": Option("--verbose", kind="flag"),
    "custom_log_dict": Option("--custom-log-dict"),
    "check": Option("--check", kind="flag", refused="it tells only that a key exists; see status.yml"),
    "watch": Option("--watch", refused="it cancels running jobs at each change of a file; see deploy.yml"),
}
OPTIONS: dict[str, Option] = {**WORKER, **COMMAND}


def check(options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a group's ``options``, one sentence each."""
    return engine_options.check(OPTIONS, options)


def render(options: Mapping[str, Any]) -> list[str]:
    """Return the runner's ``NAME=JSON`` words for checked ``options``, in the table's order."""
    return [f"{name}={json.dumps(options[name])}" for name in OPTIONS if name in options]
