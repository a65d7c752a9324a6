"""Django's settings, by the environment where hosts differ."""

from __future__ import annotations

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
#: Kept over releases (``app_shared_paths``): a release itself belongs to root and is written once.
VAR = BASE_DIR / "var"

SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost").split(",")
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "notices",
]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": VAR / "db.sqlite3",
    # Several workers write: a transaction that will write waits for its turn at its beginning, and fails only after 20 s.
    "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL;"},
}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
STATIC_ROOT = VAR / "static"
USE_TZ = True

_REDIS = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
CELERY_BROKER_URL = _REDIS
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND", _REDIS)
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {"notices.tasks.send": {"queue": "mail"}}
#: DatabaseScheduler writes these into its tables when it starts; others are added as rows of ``PeriodicTask``.
CELERY_BEAT_SCHEDULE = {
    "send what is due": {"task": "notices.tasks.send_due", "schedule": float(os.environ.get("NOTICES_EVERY_SECONDS", "60"))},
}
