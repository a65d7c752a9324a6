"""The Celery app, ``celery -A app.celery_app worker``, configured by its environment.

Celery itself reads ``CELERY_BROKER_URL`` and ``CELERY_RESULT_BACKEND``. The other names mean nothing to Celery: it is
this file that maps them, as many apps do.
"""

from __future__ import annotations

import os
import socket

from celery import Celery

celery_app = Celery("reports", include=["app.tasks"])

celery_app.conf.update(
    broker_url=os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
    result_backend=os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
    broker_connection_retry_on_startup=True,
    task_time_limit=float(os.environ.get("CELERY_TASK_TIME_LIMIT", "300")),
    task_soft_time_limit=float(os.environ.get("CELERY_TASK_SOFT_TIME_LIMIT", "240")),
    result_expires=float(os.environ.get("CELERY_RESULT_EXPIRES", "3600")),
    result_extended=True,  # a result tells which task it was of
    task_default_queue="default",
    task_routes={f"app.tasks.{task}": "reports" for task in ("count_primes", "build_report", "merge")},
)


@celery_app.task
def health_check() -> dict[str, str]:
    """Say that a worker is there, and where."""
    return {"status": "ok", "host": socket.gethostname()}
