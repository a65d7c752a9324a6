"""A Celery message as kombu stores it on Redis: JSON with headers, properties and a body. Whoever may write to the broker wrote it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from ... import decode
from ...decode import BadEntry, Fields

#: Headers or properties by which an app may say when a message was sent, as seconds since 1970 or in ISO 8601.
STAMPS = ("sent_at", "timestamp")


class Message:
    """One message; raises :class:`BadEntry` on what is none."""

    def __init__(self, data: Any, largest: int = decode.LARGEST) -> None:
        """``data``: the list's element, or what was decoded of it."""
        self.fields = decode.fields(decode.document(data, largest, odd_numbers=True) if isinstance(data, (bytes, str)) else data)
        self.headers: Fields = self.fields.fields("headers", Fields({}))
        self.properties: Fields = self.fields.fields("properties", Fields({}))

    @property
    def is_task(self) -> bool:
        """Whether it is a task of the second protocol; pidbox and result messages are none."""
        return "task" in self.headers.told

    @property
    def task(self) -> str | None:
        """The task's name, as the second protocol has it."""
        told: str | None = self.headers.text("task", None)
        return told

    @property
    def id(self) -> str | None:
        """The task's id."""
        told: str | None = self.headers.text("id", None)
        return told

    @property
    def name(self) -> str:
        """The task's name: in its header, or in the body, as the first protocol has it."""
        return self.task if self.task is not None else str(decode.fields(self.body()).text("task"))

    def body(self, largest: int = decode.LARGEST, marks: int = decode.MOST_MARKS) -> Any:
        """Return what the body holds, with whatever an app gives its tasks. Nothing but JSON is ever decoded: unpickling would run code."""
        kind, body = self.fields.text("content-type", "application/json"), self.fields.text("body")
        if kind != "application/json":
            raise BadEntry(f"its content is {kind}, only JSON is read")
        text = decode.base64(body) if self.properties.told.get("body_encoding") == "base64" else body
        return decode.document(text, largest, marks, odd_numbers=True, odd_texts=True)

    @property
    def delivery(self) -> Fields:
        """How it was sent: exchange and routing key."""
        told: Fields = self.properties.fields("delivery_info")
        return told

    @property
    def sent_at(self) -> float | None:
        """When it was sent, where the app says so."""
        for name in STAMPS:
            for where in (self.headers, self.properties):
                with contextlib.suppress(BadEntry):
                    told: float | None = where.moment(name, None)
                    if told is not None:
                        return told
        return None

    def again(self) -> bytes:
        """Return it as a list's element, with what was changed."""
        return json.dumps(self.fields.told).encode()


def sent_at(data: bytes) -> float | None:
    """When a message was sent; ``None`` where it does not say so, or is none."""
    try:
        return Message(data).sent_at
    except BadEntry:
        return None
