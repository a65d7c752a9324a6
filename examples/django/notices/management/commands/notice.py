"""``python manage.py notice TEXT``: write a notice down, and wait until it was sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from notices.models import Notice

if TYPE_CHECKING:
    import argparse


class Command(BaseCommand):
    """The command."""

    help = "Write a notice down, and wait until the scheduler has had it sent."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Read the command line."""
        parser.add_argument("text")
        parser.add_argument("--timeout", type=float, default=90, help="seconds to wait (default 90)")

    def handle(self, *_args: Any, text: str, timeout: float, **_options: Any) -> None:
        """Do it."""
        notice = Notice.objects.create(text=text)
        end = time.monotonic() + timeout
        while notice.sent_at is None:
            if time.monotonic() > end:
                raise CommandError(f"notice {notice.pk} was not sent within {timeout:g} s")
            time.sleep(0.2)
            notice.refresh_from_db()
        self.stdout.write(f"notice {notice.pk} was sent at {notice.sent_at:%H:%M:%S}")
