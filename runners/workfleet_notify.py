"""What a runner tells of its node: readiness and the stop, to systemd's socket and to the run record.

``READY=1`` goes to ``NOTIFY_SOCKET`` where there is one, and the run record named by ``WORKFLEET_RECORD`` gets
``"ready": <unix time>``, which is what proves readiness under supervisor too. Standard library only; nothing that goes
wrong here may harm the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time


def ready(doing: str) -> None:
    """The node takes tasks; ``doing`` is for people."""
    record(ready=time.time(), stopping=None)
    notify(f"READY=1\nSTATUS={doing}\n")


def stopping() -> None:
    """The node was told to stop: no more tasks are taken, those that run are waited for."""
    notify("STOPPING=1\nSTATUS=draining\n")
    record(stopping=time.time())


def notify(words: str) -> None:
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
        complain("cannot tell systemd", error)


def record(**facts: float | None) -> None:
    """Put facts into our run record, ``None`` takes one out. A record of another process is left alone."""
    path = os.environ.get("WORKFLEET_RECORD")
    if not path:
        return
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
        if known.get("pid") != os.getpid():
            return
        known.update(facts)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({name: value for name, value in known.items() if value is not None}, file)
        os.replace(temporary, path)
    except (OSError, ValueError, AttributeError) as error:
        complain(f"cannot mark {path}", error)


def complain(what: str, error: Exception) -> None:
    """One line to the real standard error."""
    with contextlib.suppress(OSError):
        os.write(2, f"workfleet: {what}: {error}\n".encode(errors="replace"))
