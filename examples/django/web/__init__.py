"""The Django project. The Celery app is imported with it, so that ``shared_task`` finds it."""

from __future__ import annotations

from web.celery import app as celery_app

__all__ = ["celery_app"]
