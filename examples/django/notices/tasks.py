"""The tasks: one that the scheduler sends, and one for each notice."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from notices.models import Notice


@shared_task
def send_due() -> int:
    """Send a task for each notice that was not sent; return how many there were."""
    waiting = Notice.objects.filter(sent_at=None).values_list("pk", flat=True)
    for key in waiting:
        send.delay(key)
    return len(waiting)


@shared_task
def send(key: int) -> bool:
    """Send a notice; once, however often it is asked for. Return whether it was this time."""
    return Notice.objects.filter(pk=key, sent_at=None).update(sent_at=timezone.now()) == 1
