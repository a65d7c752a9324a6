"""What a worker tells of itself: that it consumes, and that it stops. Used by the runners of the engines.

Readiness goes to systemd (``READY=1`` to ``NOTIFY_SOCKET``, where there is one) and, as ``"ready": <unix time>``, to the
run record named by ``WORKFLEET_RECORD``, which is what proves it under supervisor too.

A node may be told to take no new tasks and stay up: by a file, its mark, which the record names and which outlives the
process, so that a node that crashed or was rebooted does not begin to consume behind anybody's back. The runner looks
for it often (``LOOK_SECONDS``) and tells what it holds while it is there.

Standard library only; nothing that goes wrong here may harm the worker.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

Teller = TypeVar("Teller", bound=Callable[..., None])

#: How often a runner looks for its mark, and tells what it still holds: a drain ends so soon after its last task.
LOOK_SECONDS = 0.2
QUIET = "told to take no new tasks"
#: So many tasks are told one by one; a record is not read that is larger than theirs.
MOST_TOLD = 10_000
# Children are forked with the engine's handlers in place, and a child's word would be taken for its parent's.
_MAIN = os.getpid()
_stopped: list[float] = []  # told to stop while it starts, a worker still becomes ready for a moment
_mark: list[str] = []  # its path, once it is known
_quiet: dict[str, Any] = {}  # what was told last of a node that takes no new tasks
_turn = threading.Lock()
_words: collections.deque[Callable[[], None]] = collections.deque()


def _in_turn(teller: Teller) -> Teller:
    """Let the main process tell one thing at a time: a signal handler, or another thread, leaves its word to who is telling.

    Otherwise a stop that comes while readiness is written is overwritten by it.
    """
    @functools.wraps(teller)
    def tell(*facts: Any, **more: Any) -> None:
        if os.getpid() != _MAIN:
            return
        _words.append(functools.partial(teller, *facts, **more))
        while _words and _turn.acquire(blocking=False):
            try:
                while _words:
                    _words.popleft()()
            finally:
                _turn.release()

    return tell  # type: ignore[return-value]


@_in_turn
def ready(what: str, doing: str = "consuming") -> None:
    """The worker takes tasks from its queues from now on; may be said again, never after :func:`stopping`."""
    if not _stopped:
        _record(ready=time.time(), stopping=None, zone=os.environ.get("TZ"))  # Django sets one itself
        _notify(f"READY=1\nSTATUS={QUIET if _quiet else f'{doing} {what}'}\n")


def status(text: str) -> None:
    """What ``systemctl status`` shows of a process that is not ready."""
    _notify(f"STATUS={text}\n")


@_in_turn
def stopping() -> None:
    """A signal came: no more tasks are taken, those that run are waited for."""
    if not _stopped:
        _stopped.append(time.time())
        _notify("STOPPING=1\nSTATUS=draining\n")
        _record(stopping=_stopped[0])


def is_held() -> bool:
    """Whether we are told to take no new tasks."""
    if not _mark and (path := (_read() or {}).get("mark")):
        _mark.append(str(path))
    return bool(_mark) and os.path.exists(_mark[0])


@_in_turn
def quiesced(tasks: list[dict[str, Any]], returned: int = 0) -> None:
    """We take no new tasks; said for the first time when none can come any more, then whenever something may have changed.

    ``tasks`` is all that we still hold: ``{"id", "task", "since", "acked"}``, ``since`` the Unix time of its begin, None
    for one that has not begun; ``acked``: whether the broker has forgotten it, so that it is lost if we die. ``returned``
    counts what was put back into the queue. In the record ``before`` and ``held`` are what was begun and held at first, and
    ``more`` is how many we hold besides those that it names, of which the first are those that have begun.
    """
    first = _quiet or {"since": time.time(), "before": sum(task["since"] is not None for task in tasks), "held": len(tasks)}
    idle = None if tasks else _quiet.get("idle") or time.time()
    named = sorted(tasks, key=lambda task: task["since"] is None)[:MOST_TOLD]
    now = {**first, "tasks": named, "more": len(tasks) - len(named), "returned": returned, "idle": idle}
    if now != _quiet:
        if not _quiet:
            _notify(f"STATUS={QUIET}\n")
        _quiet.update(now)
        _record(quiesced=now["since"], holds={name: value for name, value in now.items() if name != "since"})


@_in_turn
def resumed(what: str) -> None:
    """We take tasks again."""
    if _quiet:
        _quiet.clear()
        _record(quiesced=None, holds=None)
        _notify(f"STATUS=consuming {what}\n")


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


def _read() -> dict[str, Any] | None:
    """Return our run record; none where another process wrote it, or nobody."""
    try:
        with open(os.environ.get("WORKFLEET_RECORD", ""), encoding="utf-8") as file:
            record: dict[str, Any] = json.load(file)
        return record if record.get("pid") == os.getpid() else None
    except (OSError, ValueError, AttributeError):
        return None


def _record(**facts: Any) -> None:
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
