"""The Celery app of the stand-in, set up as Gnosari sets up its own. It has no ``task_default_queue``."""

from __future__ import annotations

import os
from typing import ClassVar

from celery import Celery


class CeleryConfig:
    """Gnosari's habits: late acknowledgement, one task prefetched, a new pool process after 1000 tasks."""

    broker_url = os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0")
    result_backend = os.environ.get("CELERY_RESULT_BACKEND", "redis://localhost:6379/0")
    task_routes: ClassVar = {"gnosari.queue.consumers.*": {"queue": "gnosari_queue"}}
    task_acks_late = True
    task_reject_on_worker_lost = True
    task_track_started = True
    worker_prefetch_multiplier = 1
    worker_max_tasks_per_child = 1000


celery_app = Celery("gnosari", include=["gnosari.queue.consumers"])
celery_app.config_from_object(CeleryConfig)
