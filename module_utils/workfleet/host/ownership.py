"""Whose directory an ``app_root`` is: a file of root's in it names the app, and no run of another app changes anything there.

Nor does a run whose root stands where others than root could put another one in its place, or whose run directory another app's units
have.
"""

from __future__ import annotations

import os
import pwd

from ..errors import WorkfleetError
from . import effects

#: More than any name has.
LONGEST = 200
#: Where units are, which only root writes.
UNITS = "/etc/systemd/system"


def path(root: str) -> str:
    """Return where the file stands: in a directory that only root can write to."""
    return os.path.join(root, "state", "app")


def text(app: str) -> str:
    """Return what stands in it."""
    return f"{app}\n"


def require(root: str, app: str) -> None:
    """Refuse a root that is another app's, or can become anybody's. One that names none yet, or that we may not look into, is nobody's."""
    try:
        loose = effects.loose(root)
        if loose:
            raise _exchangeable(root, app, loose)
        link, told, status = effects.points_to(path(root)), effects.read(path(root), limit=LONGEST), effects.status(path(root))
    except effects.Unreadable as error:
        if isinstance(error.__cause__, PermissionError):
            return
        raise WorkfleetError(f"{error}; remove it, and run site.yml again") from error
    if told is None or status is None:
        return
    if link is not None or status.st_uid not in (0, os.geteuid()):
        raise WorkfleetError(f"{path(root)}: is no file of root's, and does not tell whose {root} is; remove it, and run site.yml again")
    owner = told.strip()
    if owner != app:
        raise WorkfleetError(f"app_root = {root}: belongs to the app {owner} on this host, and nothing of it was changed for {app}; choose "
                             f"another directory, or remove {path(root)} if {owner} has gone for good")


def require_run(directory: str, app: str) -> None:
    """Refuse a run directory that is another app's, lies in it or around it: its own user writes there, but its units are root's."""
    known = {app}
    for name in effects.names(UNITS):
        kind, _, rest = name.partition(".")
        owner = rest.partition(".")[0]
        if kind != "workfleet" or owner in known or not name.endswith(".service"):
            continue
        lines = (effects.read(os.path.join(UNITS, name)) or "").splitlines()
        theirs = next((f"/run/{line.partition('=')[2]}" for line in lines if line.startswith("RuntimeDirectory=")), None)
        if theirs is None:
            continue
        known.add(owner)  # all of its units have the same
        if f"{directory}/".startswith(f"{theirs}/") or f"{theirs}/".startswith(f"{directory}/"):
            raise WorkfleetError(f"worker_run_directory = {directory}: the app {owner} on this host has {theirs} (unit {name}), and "
                                 f"nothing was changed for {app}; leave it to the default, which is /run/workfleet/{app}")


def _exchangeable(root: str, app: str, loose: str) -> WorkfleetError:
    """Return what is to be said of a place on the way to a root that others have, or can write."""
    status = effects.status(loose)
    wrong, todo = [], []
    if status is not None and status.st_uid not in (0, os.geteuid()):
        wrong.append(f"belongs to {_account(status.st_uid)}")
        todo.append(f"`chown root {loose}`")
    if status is not None and status.st_mode & 0o022:
        wrong.append(f"can be written by others than its owner (mode {status.st_mode & 0o7777:o})")
        todo.append(f"`chmod go-w {loose}`")
    return WorkfleetError(f"app_root = {root}: {loose} {' and '.join(wrong)}, so that others than root can put another directory in the "
                          f"place of the app's. {' and '.join(todo)}, or choose a directory that only root's are above, such as "
                          f"/opt/{app}. Nothing was changed")


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
