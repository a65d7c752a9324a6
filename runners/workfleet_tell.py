"""What a worker tells of itself: that it consumes, and that it stops. Used by the runners of the engines.

Readiness goes to systemd (``READY=1`` to ``NOTIFY_SOCKET``, where there is one) and, as ``"ready": <unix time>``, to the
run record named by ``WORKFLEET_RECORD``, which is what proves it under supervisor too.

Standard library only; nothing that goes wrong here may harm the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

# Children are forked with the engine's handlers in place, and a child's word would be taken for its parent's.
_MAIN = os.getpid()
_stopped: list[float] = []  # told to stop while it starts, a worker still becomes ready for a moment


def ready(what: str, doing: str = "consuming") -> None:
    """The worker takes tasks from its queues from now on; may be said again, never after :func:`stopping`."""
    if os.getpid() == _MAIN and not _stopped:
        _record(ready=time.time(), stopping=None)
        _notify(f"READY=1\nSTATUS={doing} {what}\n")


def status(text: str) -> None:
    """What ``systemctl status`` shows of a process that is not ready."""
    _notify(f"STATUS={text}\n")


def stopping() -> None:
    """A signal came: no more tasks are taken, those that run are waited for."""
    if os.getpid() == _MAIN and not _stopped:
        _stopped.append(time.time())
        _notify("STOPPING=1\nSTATUS=draining\n")
        _record(stopping=_stopped[0])


def _complain(what: str, error: Exception) -> None:
    """One line to the real standard error: ``sys.stderr`` may be an engine's logging, which no signal handler may enter."""
    with contextlib.suppress(OSError):
        os.write(2, f"workfleet: {what}: {error}\n".encode(errors="replace"))


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
