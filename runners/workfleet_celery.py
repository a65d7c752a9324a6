"""Loaded into a Celery worker by ``-I workfleet_celery``: says when it consumes, and when it stops.

Celery has no word to systemd of its own. ``READY=1`` goes to ``NOTIFY_SOCKET`` where there is one, and the run record
named by ``WORKFLEET_RECORD`` gets ``"ready": <unix time>``, which is what proves readiness under supervisor too.

Standard library and Celery (5.2 or newer) only; nothing that goes wrong here may harm the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

from celery.signals import worker_ready, worker_shutting_down

# Pool children are forked with these handlers in place, and a child's word would be taken for its parent's.
_MAIN = os.getpid()
_stopped: list[float] = []  # told to stop while it starts, a worker still becomes ready for a moment


def _complain(what: str, error: Exception) -> None:
    """One line to the real standard error: ``sys.stderr`` is Celery's logging, which no signal handler may enter."""
    with contextlib.suppress(OSError):
        os.write(2, f"workfleet_celery: {what}: {error}\n".encode(errors="replace"))


def _notify(words: str) -> None:
    """Tell systemd; a name that begins with ``@`` is in the abstract namespace."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(words.encode(), address)
    except OSError as error:
        _complain("cannot tell systemd", error)


def _record(**facts: float | None) -> None:
    """Put facts into our run record, ``None`` takes one out. A record of another process is left alone."""
    path = os.environ.get("WORKFLEET_RECORD")
    if not path:
        return
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        if record.get("pid") != os.getpid():
            return
        record.update(facts)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({name: value for name, value in record.items() if value is not None}, file)
        os.replace(temporary, path)
    except (OSError, ValueError, AttributeError) as error:
        _complain(f"cannot mark {path}", error)


@worker_ready.connect
def ready(sender: object = None, **_: object) -> None:
    """The consumer has declared its queues and begins to take tasks; after a HUP, in the same process, again."""
    if os.getpid() != _MAIN or _stopped:
        return
    _record(ready=time.time(), stopping=None)
    try:
        queues = ", ".join(sender.app.amqp.queues.consume_from)  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        queues = "its queues"
    _notify(f"READY=1\nSTATUS=consuming {queues}\n")


@worker_shutting_down.connect
def stopping(**_: object) -> None:
    """A signal came: no more tasks are taken, those that run are waited for."""
    if os.getpid() == _MAIN and not _stopped:
        _stopped.append(time.time())
        _notify("STOPPING=1\nSTATUS=draining\n")
        _record(stopping=_stopped[0])
