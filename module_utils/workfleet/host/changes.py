"""A change to a host as one value: what to say of it, and how to carry it out. Nothing here decides whether to."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from . import effects
from .steps import Step, text_diff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Change:
    """A step, the function that takes it, and its entry in Ansible's diff, if it has one."""

    step: Step
    carry_out: Callable[[], object]
    diff: dict[str, str] | None = None


@dataclass(frozen=True)
class Rights:
    """Who owns a path and what its mode is; names of accounts, which need not exist yet."""

    mode: int
    owner: str
    group: str

    def missed_by(self, path: str) -> str | None:
        """Return as a clause what is wrong with ``path``, or ``None`` where nothing is. Owners matter to root only."""
        status = effects.status(path)
        if status is None:
            return "missing"
        mode = stat.S_IMODE(status.st_mode)
        if mode != self.mode:
            return f"its mode is {mode:04o}, not {self.mode:04o}"
        if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (effects.uid(self.owner), effects.gid(self.group)):
            return f"it does not belong to {self.owner}:{self.group}"
        return None


def directory(path: str, rights: Rights, *, gone: bool = False) -> Iterator[Change]:
    """Yield the change that makes ``path`` a directory with these rights, where it is none yet; ``gone``: what is there goes before."""
    present = None if gone else effects.status(path)
    if present is None:
        reason: str | None = "missing"
    elif not stat.S_ISDIR(present.st_mode):
        raise WorkfleetError(
            f"{path} is in the way: a directory belongs there. Move it away, or choose another app_root"
        )
    else:
        reason = rights.missed_by(path)
    if reason:
        yield Change(
            Step("write", f"directory {path}", reason),
            lambda: effects.directory(path, mode=rights.mode, owner=rights.owner, group=rights.group),
        )


def file(
    path: str, text: str, rights: Rights, *, shown: Callable[[str | None], dict[str, str]] | None = None, gone: bool = False
) -> Iterator[Change]:
    """Yield the change that gives the file ``path`` this text and these rights.

    ``shown`` makes the diff from the text that is there now; without it both texts are shown whole. ``gone``: what is there
    goes before.
    """
    present = None if gone else effects.read(path)
    if present is None:
        reason: str | None = "missing"
    elif present != text:
        reason = "its content differs"
    else:
        reason = rights.missed_by(path)
    if reason:
        diff = shown(present) if shown else text_diff(path, present, text)
        yield Change(
            Step("write", f"file {path}", reason),
            lambda: effects.write(path, text, mode=rights.mode, owner=rights.owner, group=rights.group),
            diff,
        )
