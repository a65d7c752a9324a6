"""Debian's packages: installed in one way, which waits for whoever else installs some, as a new machine does with its first updates."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import time

from ..errors import WorkfleetError
from . import effects
from .steps import Step

#: How long somebody else may go on with packages, and one call of apt.
LOCK_SECONDS = 120.0
APT_SECONDS = 600.0
#: What apt and dpkg lock; apt itself waits for none but the first.
LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
#: Ubuntu's needrestart would restart what runs, workers too.
_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_LOCKED = re.compile(r"Could not get lock|Unable to (?:acquire|lock)")
#: ``struct flock`` of 64-bit Linux: kind, whence, start, length, process.
_FLOCK = "hhqqi"


def step(name: str, why: str) -> Step:
    """Return the step that installs a package, which says who has to be waited for now."""
    return Step("write", f"package {name}", f"{why}{_waited()}")


def waiting(step: Step) -> str:
    """Return a sentence where a step has to wait, or nothing."""
    unit = step.unit or ""
    return f"{unit}: {step.reason}" if unit.startswith("package ") and " is waited for" in step.reason else ""


def _waited() -> str:
    held = holder()
    return f"; {held}, which is waited for, {LOCK_SECONDS:g} s at most" if held else ""


def holder() -> str:
    """Say who keeps others from packages now, or nothing. Who is not root cannot look, and installs none."""
    for path in LOCKS:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
            if kind != fcntl.F_UNLCK:
                name = (effects.read(f"/proc/{pid}/comm") or "").strip()
                return f"process {pid} ({name or 'unknown'}) holds {path}"
    return ""


def wait(deadline: float) -> None:
    """Wait until nobody else works with packages, or say who does."""
    while held := holder():
        if time.monotonic() > deadline:
            raise busy(held)
        time.sleep(0.5)


def busy(held: str) -> WorkfleetError:
    """Return what is to be said where the waiting is over."""
    return WorkfleetError(f"{held}: something else installs packages on this host, and did not end within {LOCK_SECONDS:g} s. Run this "
                          "again when it has ended (a new machine installs its updates first): that goes on from here", busy=True)


def install(name: str) -> None:
    """Install a package; the package lists are fetched where it is not found in those that are there, as a new host has none."""
    deadline = time.monotonic() + LOCK_SECONDS
    command = ["install", "-q", "-y", "--no-install-recommends", name]
    if _apt(command, deadline).rc != 0:
        for again in (["update", "-q"], command):
            done = _apt(again, deadline)
            if done.rc != 0:
                said = (done.err.strip() or done.out.strip())[-2000:]
                raise WorkfleetError(f"apt-get {' '.join(again)} failed with status {done.rc}: {said}", rc=done.rc)


def _apt(arguments: list[str], deadline: float) -> effects.Completed:
    """Run apt; who takes a lock between our look and apt's is waited for as well."""
    while True:
        wait(deadline)
        done = effects.run(["apt-get", *arguments], check=False, env=_ENVIRONMENT, timeout=APT_SECONDS, cwd="/")
        if done.rc == 0 or not _LOCKED.search(done.err):
            return done
        if time.monotonic() > deadline:
            raise busy(holder() or "another process holds a lock of apt")
        time.sleep(0.5)
