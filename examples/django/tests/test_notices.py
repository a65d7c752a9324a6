"""The project's own commands and tasks, on a database of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

django = pytest.importorskip("django")


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project, with its files in a directory of the test's."""
    folder = tmp_path_factory.mktemp("var")
    os.environ.update(DJANGO_SETTINGS_MODULE="web.settings", DJANGO_SECRET_KEY="of the tests")
    from web import settings

    settings.DATABASES["default"]["NAME"] = folder / "db.sqlite3"
    settings.STATIC_ROOT = folder / "static"
    settings.CELERY_TASK_ALWAYS_EAGER = True
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    yield folder


def test_migrations_are_those_of_the_models_and_static_files_are_collected(project: Path) -> None:
    from django.core.management import call_command

    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    assert (project / "static" / "notices" / "site.css").exists()


def test_a_notice_is_sent_once() -> None:
    from notices import tasks
    from notices.models import Notice

    notice = Notice.objects.create(text="hello")
    assert tasks.send_due() == 1
    notice.refresh_from_db()
    assert notice.sent_at is not None
    assert tasks.send_due() == 0
    assert tasks.send(notice.pk) is False


def test_the_schedule_is_kept_in_the_database() -> None:
    from django_celery_beat.models import PeriodicTask
    from django_celery_beat.schedulers import DatabaseScheduler
    from web.celery import app

    assert set(DatabaseScheduler(app).schedule) >= {"send what is due"}
    assert PeriodicTask.objects.get(name="send what is due").task == "notices.tasks.send_due"
