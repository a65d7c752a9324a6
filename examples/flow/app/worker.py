"""The settings of the worker, ``arq app.worker.WorkerSettings``, with the broker from ``REDIS_URL``."""

from __future__ import annotations

import os

from arq.connections import RedisSettings

from app import tasks

REDIS = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))


class WorkerSettings:
    """What arq reads: these attributes, and nothing else."""

    functions = [tasks.run_flow, tasks.fail, tasks.flaky, tasks.where, tasks.record]  # noqa: RUF012 - as arq's own documentation has it
    redis_settings = REDIS
    max_jobs = 10
    job_timeout = 3600
    max_tries = 3
