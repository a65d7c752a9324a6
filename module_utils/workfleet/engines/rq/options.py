"""Every option of ``rq worker`` (2.12 and 3.0) as data; a test compares the table with the installed rq."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .. import options as engine_options
from ..options import Option

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENDS = "a node that ends is started again at once; each job has a process of its own anyway"
_BROKER = "the broker is app_broker_url"
_OURS = "the toolkit's runner has a worker class of its own, which loses no job at a stop and heeds the drain mark"
_FORMAT = "use worker_log.format"

OPTIONS: dict[str, Option] = {
    "results_ttl": Option("--results-ttl", "int", minimum=-1),
    "job_monitoring_interval": Option("--job-monitoring-interval", "int", minimum=1),
    "maintenance_interval": Option("--maintenance-interval", "int", minimum=1),
    "with_scheduler": Option("--with-scheduler", "flag"),
    "logging_level": Option("--logging_level", "choice", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
    "date_format": Option("--date-format"),
    "disable_job_desc_logging": Option("--disable-job-desc-logging", "flag"),
    "exception_handler": Option("--exception-handler", "list"),
    "disable_default_exception_handler": Option("--disable-default-exception-handler", "flag"),
    "job_class": Option("--job-class"),
    "queue_class": Option("--queue-class"),
    "burst": Option("--burst", "flag", refused=_ENDS),
    "max_jobs": Option("--max-jobs", "int", refused=_ENDS),
    "max_idle_time": Option("--max-idle-time", "int", refused=_ENDS),
    "worker_ttl": Option("--worker-ttl", "int", refused="the runner's nodes give a sign of life each second"),
    "name": Option("--name", refused="it is the node's name"),
    "dequeue_strategy": Option("--dequeue-strategy", refused="a node consumes one queue"),
    "worker_class": Option("--worker-class", refused=_OURS),
    "serializer": Option("--serializer", refused="canaries, figures and dead letters are read as pickles, rq's own choice"),
    "connection_class": Option("--connection-class", refused=_BROKER),
    "url": Option("--url", refused=_BROKER),
    "config": Option("--config", refused=_BROKER),
    "path": Option("--path", "list", refused="modules are found in the release and its virtualenv; use env.PYTHONPATH"),
    "pid": Option("--pid", refused="the process manager knows the process"),
    "log_format": Option("--log-format", refused=_FORMAT),
    "verbose": Option("--verbose", "flag", refused="use logging_level"),
    "quiet": Option("--quiet", "flag", refused="use logging_level"),
}


def check(options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a group's ``options``, one sentence each."""
    return engine_options.check(OPTIONS, options)


def render(options: Mapping[str, Any]) -> list[str]:
    """Return the runner's ``NAME=JSON`` words for checked ``options``, in the table's order."""
    return [f"{name}={json.dumps(options[name])}" for name in OPTIONS if name in options]
