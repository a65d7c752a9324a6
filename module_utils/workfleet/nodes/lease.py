"""The host's lock for writers of one app: a file that is locked while a call works, with a *lease* in it from call to call.

A run that has to come back to a host, since others are to follow, keeps its lease until it says that it is over. One that was
killed says nothing: its lease runs out, or is taken over by a run that knows that the process behind it is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from typing import Any, Protocol

from ..errors import WorkfleetError
from ..host import effects, ownership

#: A lease outlives one call by this much, so that a run whose control node died frees the host by itself.
LEASE_SECONDS = 30
#: That of a run that comes back to the host after it was on others.
RUN_LEASE_SECONDS = 600


class Run(Protocol):
    """Who asks for a host: as in :class:`request.Request`, which is not imported, since a release takes the lock without it."""

    @property
    def app(self) -> str: ...
    @property
    def root(self) -> str: ...
    @property
    def run(self) -> str: ...
    @property
    def ended_run(self) -> str: ...
    @property
    def holder(self) -> str: ...
    @property
    def keeps_host(self) -> bool: ...


class Lock:
    """Held while a call works. ``is_kept``: the lease stays when the call ends, for the next one of the same run."""

    def __init__(self, request: Run) -> None:
        self.request = request
        self.path = path(request.root)
        self.is_kept = False

    def __enter__(self) -> Lock:
        ownership.require(self.request.root, self.request.app)
        try:
            self.file = effects.lock_file(self.path)
        except WorkfleetError as error:
            raise WorkfleetError(f"{error}; run site.yml, which makes the app's directories") from error
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.refuse()
        if is_foreign(self.lease(), self.request.run, self.request.ended_run):
            self.refuse()
        seconds = RUN_LEASE_SECONDS if self.request.keeps_host else LEASE_SECONDS
        self.note({"run": self.request.run, "holder": self.request.holder, "until": time.time() + seconds})
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not (self.is_kept or self.request.keeps_host):
            self.note({})
        self.file.close()

    def lease(self) -> dict[str, Any]:
        """Return who holds the host between calls."""
        self.file.seek(0)
        return parse(self.file.read())

    def holder(self) -> str | None:
        """Return who else holds the host, for people, without waiting and without taking it."""
        lease = foreign(self.request.root, self.request.run, self.request.ended_run)
        return named(lease) if lease else None

    def note(self, lease: dict[str, Any]) -> None:
        """Write who holds the host."""
        self.file.seek(0)
        self.file.truncate()
        self.file.write(json.dumps(lease))
        self.file.flush()

    def give_back(self) -> None:
        """End the lease of this run, if it has one."""
        with suppress(FileNotFoundError), effects.lock_file(self.path, make=False) as self.file:
            if self.lease().get("run") == self.request.run:
                self.note({})

    def refuse(self) -> None:
        """Say who is at work here."""
        lease = self.lease()
        self.file.close()
        raise refusal(lease, self.request.app)


def require_free(root: str, app: str, run: str, ended_run: str) -> None:
    """Refuse where another run than ``run`` holds the host; it is not taken."""
    lease = foreign(root, run, ended_run)
    if lease:
        raise refusal(lease, app)


def foreign(root: str, run: str, ended_run: str) -> dict[str, Any]:
    """Return the lease that keeps a run out of the host; an empty one where none does, or it cannot be read."""
    try:
        lease = parse(effects.read(path(root)) or "")
    except OSError:
        return {}
    return lease if is_foreign(lease, run, ended_run) else {}


def path(root: str) -> str:
    """Return where the lock of an app stands."""
    return os.path.join(root, "state", "nodes.lock")


def is_foreign(lease: dict[str, Any], run: str, ended_run: str) -> bool:
    """Whether a lease is another run's, has not run out, and nobody saw that run's process end."""
    return lease.get("run") not in (None, run, ended_run or None) and lease.get("until", 0) > time.time()


def refusal(lease: dict[str, Any], app: str) -> WorkfleetError:
    """Return what tells a run that another one is at work here."""
    left = max(0, round(lease.get("until", 0) - time.time()))
    return WorkfleetError(f"{named(lease)} is changing the nodes of {app} on this host; wait for it, or end it "
                          f"(its lease runs out {left} s from now, without another sign of life)",
                          locked=True, holder=named(lease), run=lease.get("run"))


def named(lease: dict[str, Any]) -> str:
    """Return who has a lease, for people."""
    return str(lease.get("holder", "another run"))


def parse(text: str) -> dict[str, Any]:
    """Return a lease; what somebody broke is none."""
    try:
        return dict(json.loads(text or "{}"))
    except ValueError:
        return {}
