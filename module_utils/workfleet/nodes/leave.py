"""Nodes that are to go though their group goes on: told to take no new tasks, and to stop when they have none left.

The stop signal starts a clock in the process manager, which kills when that has run out; supervisor's cannot be set anew
while its program runs. So a node that heeds its mark is told by that, as in a drain, and has the signal when it says that
it is idle, or at its time where ``drain_timeout_action`` is ``kill``. A node that heeds none has the signal at once, and so
has one that by a mark would keep what it has not begun (``Engine.gives_back``).

Playbooks do not stay for that: a child of the call that told the nodes does (:mod:`background`), one for all nodes of an
app. It may be lost at any time, for all that it needs stands in each node's *note*; then the next call starts another one.
When a node has gone its line of the ledger stands there, until what is left of the node is removed.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import WorkfleetError
from ..host import background, effects
from ..managers.base import read_json
from ..model import Name
from .ledger import Watched, said

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..managers.base import Manager
    from ..managers.records import Record

POLL_SECONDS = 0.1
#: A node has heeded its mark by then, or is cut off from its broker: it has the signal then.
HEED_SECONDS = 15.0
#: A manager kills what has had the signal for its ``drain_seconds`` and a margin (``Group.stop_seconds``); by then we do.
OVERDUE_SECONDS = 30.0


@dataclass
class Note:
    """What stands in a node's note. ``node`` is its name on the broker, ``since`` when it was told (Unix time), ``seconds``
    its ``drain_seconds``, ``kills`` whether that ends it. ``by_mark``: whether it can be told so. ``marked``: whether the mark
    is of this, and goes with it. ``known`` is what was seen before a kill, ``line`` what became of the node's tasks, when it
    has gone.
    """

    node: str
    since: float
    seconds: float
    kills: bool
    by_mark: bool
    marked: bool = False
    known: dict[str, Any] | None = None
    line: dict[str, Any] | None = None

    @property
    def is_late(self) -> bool:
        """Whether the node has had its time."""
        return time.time() - self.since > self.seconds


@effects.one_look()
def notes(manager: Manager) -> dict[Name, Note]:
    """Return the notes of this host, by node."""
    found = {}
    for file in effects.names(os.path.join(manager.root, "env")):
        name = Name.parse(file[: -len(".leaving")]) if file.endswith(".leaving") else None
        data = read_json(manager.note_path(name)) if name is not None else {}
        if name is not None and name.app == manager.app and data:
            found[name] = Note(**data)
    return found


def pending(manager: Manager) -> dict[Name, Note]:
    """Return the notes of nodes of which it is not written down yet what became of them."""
    return {name: note for name, note in notes(manager).items() if note.line is None}


def tell(manager: Manager, told: Mapping[Name, Note]) -> None:
    """Tell nodes to go; from its note on a node counts as one that stops."""
    for name, note in told.items():
        write(manager, name, note)
    attend(manager)


def attend(manager: Manager) -> None:
    """Have a process of its own attend to the nodes that are to go, where there are any and none does."""
    if pending(manager):
        with alone(manager) as is_free:
            pass  # only asked: the child is alone by itself
        if is_free:
            background.start(lambda _: Attendant(manager).work())


def lines(manager: Manager) -> dict[Name, dict[str, Any]]:
    """Return the ledger's lines of all nodes that were told to go and of which something is left.

    Of one that still drains it says what ran at first; its other figures are None, for they are not final.
    """
    found = {}
    written = notes(manager)
    lives = manager.lives(name for name, note in written.items() if note.line is None)
    for name, note in written.items():
        _, record = lives.get(name, (None, None))
        holds = (record.holds if record else None) or {}
        found[name] = note.line or {
            "node": note.node, "running_before": holds.get("before"), "finished": None, "returned": None, "lost": None,
            "duplicates": None, "seconds": round(time.time() - note.since, 2), "state": "draining"}
    return found


def write(manager: Manager, name: Name, note: Note) -> None:
    """Write a node's note."""
    effects.write(manager.note_path(name), json.dumps(asdict(note)) + "\n")


@contextmanager
def alone(manager: Manager) -> Iterator[bool]:
    """Yield whether no other process attends to the nodes of this app; as long as this lasts, none does."""
    with effects.lock_file(os.path.join(manager.root, "state", "leaving.lock")) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


class Attendant:
    """Sees all nodes of an app off."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.watched: dict[Name, Watched] = {}
        self.stopped: dict[Name, float] = {}

    def work(self) -> None:
        """Attend until all have gone. It looks again when others may: whoever wrote a note meanwhile has left it to us."""
        while pending(self.manager):
            with alone(self.manager) as is_free:
                if not is_free:
                    return
                while self.go_round():
                    time.sleep(POLL_SECONDS)

    def go_round(self) -> bool:
        """Look at every node that is to go, and send those off whose time it is; return whether there was any."""
        left, due = pending(self.manager), []
        for name, note in left.items():
            if name not in self.watched:
                with suppress(WorkfleetError):
                    self.mark(name, note)
                    self.watched[name] = Watched(**(note.known or {"since": note.since}))
        with suppress(WorkfleetError):  # the manager is busy, or away for a moment; nobody else would try again
            for name, (pid, record) in self.manager.lives(name for name in left if name in self.watched).items():
                with suppress(WorkfleetError):
                    if self.look(name, left[name], pid, record):
                        due.append(name)
        with suppress(WorkfleetError):
            self.stop(due)
        return bool(left)

    def look(self, name: Name, note: Note, pid: int | None, record: Record | None) -> bool:
        """See what a node does; return whether it is time to send it off."""
        watched = self.watched[name]
        # One that has ended and had nothing left has gone as it should.
        if watched.pid not in (None, pid) and (watched.tasks or pid is not None):
            watched.ended()
        if pid is None and name in self.stopped:
            self.end(name, note)
            return False
        if name in self.stopped and time.monotonic() - self.stopped[name] > note.seconds + OVERDUE_SECONDS:
            self.stopped[name] = time.monotonic()
            self.manager.kill(self.manager.present_of([name]))  # its manager was to do that, and does not
        if pid is None or record is None:
            return name not in self.stopped  # it may be in the pause before another start, or tells nothing
        watched.pid = pid
        # The signal may be another's than ours, who send it to a node that has nothing left, or tells nothing.
        watched.is_stopping = record.stopping is not None
        if record.holds is not None:
            watched.told(record.holds["tasks"], record.holds)
            watched.idle = record.holds.get("idle")
        if name in self.stopped:
            return False
        is_deaf = record.holds is None and time.time() - note.since > HEED_SECONDS
        if not note.by_mark or is_deaf or (record.holds is not None and not watched.tasks):
            return True
        if note.kills and note.is_late:
            self.kill(name, note)
        return False

    def mark(self, name: Name, note: Note) -> None:
        """Have a node take no new tasks, unless a drain has done that."""
        if note.by_mark and not self.manager.has_mark(name):
            note.marked = True
            write(self.manager, name, note)
            self.manager.mark(name, note.since)

    def stop(self, names: Sequence[Name]) -> None:
        """Send the signal to all of these in one call: each costs the CPU that new nodes start with."""
        if names:
            self.manager.stop(names)
            self.stopped.update(dict.fromkeys(names, time.monotonic()))

    def kill(self, name: Name, note: Note) -> None:
        """End a node that has had its time; what that cuts short is written down before."""
        watched = self.watched[name]
        watched.is_killed = True
        note.known = asdict(watched)
        write(self.manager, name, note)
        running = said(watched.begun()) or "not known"
        effects.journal(watched.pid, f"{name} is killed, for it drained longer than its {note.seconds:g} s; running: {running}")
        self.stop([name])
        self.manager.kill(self.manager.present_of([name]))

    def end(self, name: Name, note: Note) -> None:
        """Write down what became of a node's tasks."""
        watched = self.watched.pop(name)
        self.stopped.pop(name, None)
        watched.state = "gone"
        note.line, note.known = watched.line(note.node), None
        if note.marked:
            effects.remove(self.manager.mark_path(name))
        write(self.manager, name, note)
