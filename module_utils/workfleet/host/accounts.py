"""The account that an app runs as."""

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from . import effects
from .changes import Change
from .steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterator


def changes(user: str, group: str, home: str) -> Iterator[Change]:
    """Yield what is missing of ``user`` and ``group``; without root's rights we must be that user already."""
    if os.geteuid() != 0:
        check_ourselves(user, group)
        return
    if effects.gid(group) is None:
        yield Change(Step("write", f"group {group}", "missing"), lambda: run("groupadd", "--system", group))
    if effects.uid(user) is None:
        yield Change(
            Step("write", f"user {user}", "missing"),
            lambda: run(
                "useradd",
                "--system",
                "--gid",
                group,
                "--home-dir",
                home,
                "--no-create-home",
                "--shell",
                "/usr/sbin/nologin",
                user,
            ),
        )
    elif not is_member(user, group):
        yield Change(
            Step("write", f"user {user}", f"not in the group {group}"), lambda: run("usermod", "-aG", group, user)
        )


def run(*argv: str) -> None:
    """Run one of the account tools, wherever the caller's PATH points."""
    effects.run(argv, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def is_member(user: str, group: str) -> bool:
    """Tell whether an existing user is in a group."""
    entry = pwd.getpwnam(user)
    return effects.gid(group) in os.getgrouplist(user, entry.pw_gid)


def check_ourselves(user: str, group: str) -> None:
    """Refuse accounts that we could neither make nor become."""
    us = pwd.getpwuid(os.geteuid()).pw_name
    if user != us:
        raise WorkfleetError(
            f"app_user is {user}, but this runs as {us} without root's rights: become root (become: true), or set "
            f"app_user to {us}"
        )
    ours = sorted({os.getegid(), *os.getgroups()})
    if effects.gid(group) not in ours:
        raise WorkfleetError(
            f"app_group is {group}, but {us} is not in it and this runs without root's rights: set app_group to one "
            f"of {', '.join(group_name(number) for number in ours)}"
        )


def group_name(number: int) -> str:
    """Return a group's name, or its number where it has none."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
