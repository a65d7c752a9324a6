"""Effects on a managed host: run a program, and, by the names that :mod:`files` gives them, all on files. No policy."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from .. import shown
from ..errors import WorkfleetError
from .files import LARGEST_ENVIRONMENT as LARGEST_ENVIRONMENT
from .files import LARGEST_RECORD as LARGEST_RECORD
from .files import Unreadable as Unreadable
from .files import directory as directory
from .files import end as end
from .files import exists as exists
from .files import gid as gid
from .files import is_directory as is_directory
from .files import link as link
from .files import lock_file as lock_file
from .files import loose as loose
from .files import names as names
from .files import one_look as one_look
from .files import points_to as points_to
from .files import read as read
from .files import remove as remove
from .files import status as status
from .files import tree as tree
from .files import uid as uid
from .files import write as write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


#: Where systemd's journal listens.
JOURNAL = "/run/systemd/journal/socket"


class Completed(NamedTuple):
    """A finished command: exit status and decoded output."""

    rc: int
    out: str
    err: str


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: str = "",
) -> Completed:
    """Run a program of the system's or of ours (never through a shell) with ``LC_ALL=C`` and our rights; return what it said.

    What is the app's, or anybody else's, is run by :mod:`foreign`. ``env`` is added to the caller's environment. Raises
    :class:`WorkfleetError` when the program is missing or not to be executed, runs longer than ``timeout`` seconds, or exits
    non-zero while ``check`` holds.
    """
    try:
        done = subprocess.run(  # noqa: S603 - argv is a list, no shell is involved
            list(argv), env={**os.environ, "LC_ALL": "C", **(env or {})}, cwd=cwd, timeout=timeout, capture_output=True, check=False,
            input=stdin.encode(), start_new_session=True,
        )
    except FileNotFoundError as error:
        raise WorkfleetError(f"{argv[0]} is not on this host: {error}") from error
    except PermissionError as error:
        raise WorkfleetError(f"{argv[0]} may not be executed by us: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise WorkfleetError(f"{' '.join(argv[:4])} did not end within {timeout:g} s") from error
    result = Completed(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    if check and result.rc != 0:
        said = shown.end(result.err.strip() or result.out, 2000)
        raise WorkfleetError(f"{' '.join(argv[:4])} failed with status {result.rc}: {said}", rc=result.rc)
    return result


def journal(pid: int | None, text: str) -> None:
    """Write a warning to systemd's journal, of root's as one about the unit of process ``pid``; without a journal to nobody."""
    about = f"OBJECT_PID={pid}\n" if pid else ""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        line = shown.line(text)  # names of tasks are anybody's, and a line end begins another field
        client.sendto(f"MESSAGE={line}\nPRIORITY=4\nSYSLOG_IDENTIFIER=workfleet\n{about}".encode(errors="replace"), JOURNAL)
