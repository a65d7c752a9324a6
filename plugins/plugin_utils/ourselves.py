"""Whose process this is: its account by name, or by number where the machine knows no name, as in a container that starts as one."""

from __future__ import annotations

import grp
import os
import pwd


def user() -> str:
    """Return our account's name, or its number."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def group() -> str:
    """Return our group's name, or its number."""
    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        return str(os.getegid())


def lack() -> str:
    """Say what we lack to run an app on this machine ourselves, or nothing."""
    if not user().isdigit():
        return ""
    number, home = os.geteuid(), os.environ.get("HOME", "/tmp")  # noqa: S108 - shown to a person
    return (f"ansible_connection = 'local': this runs as user number {number}, which has no account on this machine, so no app can be run "
            f"as it. Give it one before: a line in /etc/passwd (ci:x:{number}:{os.getegid()}::{home}:/bin/sh), or start the container as a "
            "user that has one")
