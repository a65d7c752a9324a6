"""Work that goes on between a module's calls: one call starts it, later ones take what it has told since.

A module cannot stream, and what is published between two calls would be heard by nobody. So a child of the first call
stays on the host, hears all of it, and keeps it in a directory of its own. It ends by itself when its work is done,
or when nobody has come for what it tells for ``LEASE_SECONDS``: the playbook was interrupted, then.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LEASE_SECONDS = 30.0
#: What is kept for the next call. Beyond it things are left out and counted: memory and disks of hosts are not ours.
MOST_BYTES = 8 * 1024 * 1024
PREFIX = "workfleet-background-"
_PAUSE = 0.05


class Background:
    """The working side: what :func:`start` hands to the work."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.dropped = 0

    @property
    def wanted(self) -> bool:
        """Whether somebody has come for what is told, lately."""
        try:
            return time.monotonic() - os.stat(_lease(self.directory)).st_mtime < LEASE_SECONDS
        except OSError:
            return False

    def tell(self, *items: Mapping[str, Any]) -> None:
        """Keep items for the next call; where there is no room, count them."""
        with _told(self.directory) as file:
            for item in items:
                line = json.dumps(item) + "\n"
                if file.tell() + len(line) > MOST_BYTES and not item.get("last"):
                    self.dropped += 1
                    continue
                file.write(line)
            if self.dropped and file.tell() < MOST_BYTES // 2:
                file.write(json.dumps({"dropped": self.dropped}) + "\n")
                self.dropped = 0

    def work(self, job: Callable[[Background], None]) -> None:
        """Do the work; the last item tells that it is over, and why where that was not planned."""
        why = None
        try:
            job(self)
        except WorkfleetError as error:
            why = str(error)
        except Exception:  # nobody else would ever see it: this process has no parent and no terminal
            why = traceback.format_exc(limit=-3)
        self.tell({"last": True, "error": why})
        while self.wanted and os.stat(_file(self.directory)).st_size:
            time.sleep(_PAUSE)
        shutil.rmtree(self.directory, ignore_errors=True)


def start(job: Callable[[Background], None]) -> str:
    """Have a process of its own do the job; return the directory by which it is known."""
    directory = tempfile.mkdtemp(prefix=PREFIX)  # 0700
    for path in (_lease(directory), _file(directory)):
        with open(path, "w", encoding="utf-8"):
            pass
    _renew(directory)
    # Held as long as the child lives, however it ends; taken before it is there, so that nobody finds it free meanwhile.
    alive = os.open(os.path.join(directory, "alive"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(alive, fcntl.LOCK_EX)
    child = os.fork()
    if child:
        os.close(alive)
        os.waitpid(child, 0)
        return directory
    try:
        os.setsid()
        if os.fork() == 0:
            _leave(alive)
            Background(directory).work(job)
    finally:
        os._exit(0)  # neither Ansible's handlers nor its output are ours


def _leave(*keep: int) -> None:
    """Let go of all that the module has open: Ansible waits for the end of its output."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:  # that of the listing itself
                continue
    os.chdir("/")


def take(directory: str, seconds: float = 1.0) -> list[dict[str, Any]]:
    """Return what was told since the last call; waits up to ``seconds`` for the first of it.

    The last item of all has ``last``; raises where the process is gone without it.
    """
    is_ours = not os.path.lexists(directory) or os.lstat(directory).st_uid == os.geteuid()
    if not os.path.basename(directory).startswith(PREFIX) or os.path.islink(directory) or not is_ours:
        raise WorkfleetError(f"{directory}: is no directory of work in the background")
    until = time.monotonic() + seconds
    try:
        _renew(directory)
        while True:
            is_over = _is_over(directory)  # asked first: what it told before its end is there then
            with _told(directory) as file:
                file.seek(0)
                found = [dict(json.loads(line)) for line in file.read().splitlines()]
                file.truncate(0)
            if found or is_over or time.monotonic() > until:
                break
            time.sleep(_PAUSE)
    except FileNotFoundError:
        found, is_over = [], True
    if is_over and not (found and found[-1].get("last")):
        shutil.rmtree(directory, ignore_errors=True)
        raise WorkfleetError("the process that this playbook started on the host is gone before its time: it was killed, or nobody came "
                             f"for what it told for {LEASE_SECONDS:g} s; run it again")
    return found


def _is_over(directory: str) -> bool:
    handle = os.open(os.path.join(directory, "alive"), os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


@contextmanager
def _told(directory: str) -> Iterator[Any]:
    """The file of what was told, for this process alone, at its end."""
    with open(_file(directory), "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0, os.SEEK_END)
        yield file
        file.flush()


def _file(directory: str) -> str:
    return os.path.join(directory, "told")


def _renew(directory: str) -> None:
    """Say that somebody has come. All processes of a host share this clock, and nobody sets it."""
    now = time.monotonic()
    os.utime(_lease(directory), (now, now))


def _lease(directory: str) -> str:
    return os.path.join(directory, "lease")
