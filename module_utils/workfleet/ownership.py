"""Whose directory an ``app_root`` is: a file of root's in it names the app, and no run of another app changes anything there."""

from __future__ import annotations

import os
import stat

from .errors import WorkfleetError

#: More than any name has.
LONGEST = 200


def path(root: str) -> str:
    """Return where the file stands: in a directory that only root can write to."""
    return os.path.join(root, "state", "app")


def text(app: str) -> str:
    """Return what stands in it."""
    return f"{app}\n"


def require(root: str, app: str) -> None:
    """Refuse a root that is another app's. One that names none yet, or that we may not look into, is nobody's."""
    try:
        handle = os.open(path(root), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except OSError as error:
        raise WorkfleetError(f"{path(root)}: cannot be read: {error.strerror}; remove it, and run site.yml again") from error
    try:
        status = os.fstat(handle)
        told = os.read(handle, LONGEST) if stat.S_ISREG(status.st_mode) else b""
    finally:
        os.close(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
        raise WorkfleetError(f"{path(root)}: is no file of root's, and does not tell whose {root} is; remove it, and run site.yml again")
    owner = told.decode(errors="replace").strip()
    if owner != app:
        raise WorkfleetError(f"app_root = {root}: belongs to the app {owner} on this host, and nothing of it was changed for {app}; choose "
                             f"another directory, or remove {path(root)} if {owner} has gone for good")
