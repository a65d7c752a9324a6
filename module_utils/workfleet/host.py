"""Effects on a managed host: run a program, and, by the names that :mod:`files` gives them, all on files. No policy."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from .errors import WorkfleetError
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
from .files import names as names
from .files import one_look as one_look
from .files import own as own
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
    user: str | None = None,
    stdin: str | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run ``argv`` (never through a shell) with ``LC_ALL=C`` and return what it said.

    ``env`` is added to the caller's environment. ``user`` drops root's rights to that account first; it is
    ignored when we are that account already. ``pass_fds`` stay open in the program: a lock is so held until the
    program ends, even if we are killed before. Raises :class:`WorkfleetError` when the program is missing or not
    to be executed, runs longer than ``timeout`` seconds, or exits non-zero while ``check`` holds.
    """
    environment = {**os.environ, "LC_ALL": "C", **(env or {})}
    identity: dict[str, object] = {}
    if user is not None and os.geteuid() == 0 and pwd.getpwnam(user).pw_uid != 0:
        entry = pwd.getpwnam(user)
        environment.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
        identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}
    try:
        done = subprocess.run(  # noqa: S603 - argv is a list, no shell is involved
            list(argv), env=environment, cwd=cwd, timeout=timeout, capture_output=True, check=False,
            input=None if stdin is None else stdin.encode(), **({} if stdin is not None else {"stdin": subprocess.DEVNULL}),
            pass_fds=pass_fds, **identity,  # type: ignore[call-overload]
        )
    except FileNotFoundError as error:
        raise WorkfleetError(f"{argv[0]} is not on this host: {error}") from error
    except PermissionError as error:
        raise WorkfleetError(f"{argv[0]} may not be executed by {user or 'us'}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise WorkfleetError(f"{' '.join(argv[:4])} did not end within {timeout:g} s") from error
    result = Completed(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    if check and result.rc != 0:
        said = (result.err.strip() or result.out.strip())[-2000:]
        raise WorkfleetError(f"{' '.join(argv[:4])} failed with status {result.rc}: {said}", rc=result.rc)
    return result


def journal(pid: int | None, text: str) -> None:
    """Write a warning to systemd's journal, of root's as one about the unit of process ``pid``; without a journal to nobody."""
    about = f"OBJECT_PID={pid}\n" if pid else ""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        line = " ".join(text.splitlines())  # names of tasks are anybody's, and a line end begins another field
        client.sendto(f"MESSAGE={line}\nPRIORITY=4\nSYSLOG_IDENTIFIER=workfleet\n{about}".encode(errors="replace"), JOURNAL)
