"""What of an app outlives its releases: files and directories in ``app_root/shared``, to which each release has links in their place.

They belong to the app's user, so only that user's rights are used there; what a release itself holds at such a path is the first content.
"""

from __future__ import annotations

import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from .. import shown
from ..errors import WorkfleetError
from ..host import effects
from ..host.changes import Change
from ..host.steps import Step

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Callable, Iterable, Iterator, Sequence

MOST = 100
#: Comes with a release and never outlives it.
_CODE = (".py", ".pyx", ".so")
# In the release, before it is sealed, as the app's user. A path without a / at its end may be a file that the app has yet to make.
_LINK = '''
import os, shutil, sys

for path in sys.argv[2:]:
    here, kept = path.rstrip("/"), os.path.join(sys.argv[1], path.rstrip("/"))
    for folder in os.path.dirname(kept), kept if path.endswith("/") and not os.path.lexists(here) else "", os.path.dirname(here):
        if folder:
            os.makedirs(folder, 0o750 if folder.startswith("/") else 0o755, exist_ok=True)
    if os.path.lexists(here) and not os.path.lexists(kept):
        shutil.move(here, kept)
    elif os.path.isdir(here) and not os.path.islink(here):
        shutil.rmtree(here)
    elif os.path.lexists(here):
        os.unlink(here)
    os.symlink(kept, here)
'''


def wrong(path: str, paths: Sequence[str]) -> str:
    """Say why a path cannot be shared, or nothing. ``paths`` are all, of which none may lie in another."""
    top = path[:-1] if path.endswith("/") else path
    if {"", ".", ".."} & set(top.split("/")):
        return "must lie below the top of the release, without '.', '..' or '//': db.sqlite3, or with a / at the end a directory, media/"
    around = [other for other in paths if f"{top}/".startswith(f"{other.rstrip('/')}/")]
    if len(around) > 1:
        return f"lies in another of them, or is there twice: {' and '.join(map(shown.line, around))}"
    return ""


def require_shareable(packed: str, paths: Sequence[str]) -> None:
    """Refuse paths at which a packed source holds what cannot be shared."""
    import tarfile  # the control node's alone

    from . import archives

    with tarfile.open(packed) as tar:
        for member in tar if paths else ():
            for path in paths:
                why = unshareable(member, path)
                if why:
                    raise WorkfleetError(f"app_shared_paths = {path}: {archives.shown(member.name)} {why}")


def unshareable(member: tarfile.TarInfo, path: str) -> str:
    """Say what is wrong with a member of the source, where a path is to be shared; nothing where nothing is."""
    top = path.rstrip("/")
    is_it = member.name == top
    if (is_it or member.name.startswith(f"{top}/")) and member.name.endswith(_CODE):
        return "is code, which is another one with each release: share a directory that holds data only"
    if member.issym() and (is_it or top.startswith(f"{member.name}/")):
        return "is a link in the source: share what it leads to"
    if not member.isdir() and (top.startswith(f"{member.name}/") or (is_it and path.endswith("/"))):
        return "is a file in the source, and would have to be a directory"
    return ""


def link(run: Callable[..., object], python: str, folder: str, paths: Sequence[str]) -> None:
    """Put links in the place of the paths of a release, in which ``run`` runs a command as the app's user; keep what was there first."""
    if paths:
        run([python, "-I", "-", folder, *paths], stdin=_LINK)


def below(folder: str, paths: Sequence[str]) -> list[str]:
    """Return the directories that paths need below ``folder``."""
    found = []
    for path in paths:
        parts = path.split("/")[:-1]
        found += [os.path.join(folder, *parts[: count + 1]) for count in range(len(parts))]
    return list(dict.fromkeys(found))


def changes(folders: Iterable[str], user: str, group: str) -> Iterator[Change]:
    """Yield the directories that are not there; of one that is the mode and the owner are its own affair: a web server may read it."""
    for path in folders:
        present = effects.status(path)
        if present is None:
            make = partial(effects.directory, path, mode=0o750, owner=user, group=group)
            yield Change(Step("write", f"directory {path}", "missing"), make)
        elif not (stat.S_ISDIR(present.st_mode) or stat.S_ISLNK(present.st_mode)):
            raise WorkfleetError(f"app_shared_paths: {path} is a file, and a directory is wanted there: move it away, or leave "
                                 "out the / at the end")
