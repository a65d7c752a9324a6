"""What the app keeps."""

from __future__ import annotations

from django.db import models


class Notice(models.Model):
    """A text that is sent once."""

    text = models.CharField(max_length=200)
    sent_at = models.DateTimeField(null=True, db_index=True)
