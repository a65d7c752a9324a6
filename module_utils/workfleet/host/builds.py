"""The builds of a release on a host: what the Python of this host has made of it.

A release has one id on all hosts of a fleet, made of its source and requirements. What a host builds of it, and with which Python, is the
host's own business below that name. The first build is ``releases/<id>``. Where ``app_python`` is another one since, the next is made
beside it, as ``releases/<id>.2``: what runs from the first keeps its files, and goes with it once nothing needs it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from . import effects
from .layout import release_of as release_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from .layout import Layout

#: A release's id, and behind it the number of the build where it is not the first.
BUILD = re.compile(r"[0-9a-f]{12}(?:\.[1-9][0-9]{0,5})?\Z")


class Maker(NamedTuple):
    """What a host makes a virtualenv with: ``app_python`` as it was declared, and the version that it has there."""

    declared: str
    version: str


def listed(path: str) -> list[str]:
    """Return the names in a directory, sorted; none where it is not there."""
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []


def present(layout: Layout) -> list[str]:
    """Return all builds that are there, whole or not."""
    return [name for name in listed(layout.releases) if BUILD.match(name)]


def description(layout: Layout, build: str) -> dict[str, Any] | None:
    """Return what the ``release.json`` of a build tells, where the build is complete: it was made to its end and still has its parts."""
    with suppress(ValueError, TypeError, KeyError):
        found = dict(json.loads(effects.read(layout.marker(build)) or "{}"))
        if found["id"] == release_of(build) and os.path.exists(layout.python(build)) and os.path.isdir(layout.src(build)):
            return found
    return None


def complete(layout: Layout, build: str) -> bool:
    """Tell whether a build was made to its end and still has its parts."""
    return description(layout, build) is not None


def usable(layout: Layout, build: str) -> bool:
    """Tell whether a complete build can be started: its Python is of the version that it was made with, as far as its name tells.

    After an upgrade of the system the virtualenv's link leads to a Python that finds none of the libraries in it.
    """
    found = description(layout, build)
    named = re.search(r"(\d+\.\d+)\Z", os.path.realpath(layout.python(build)))
    return found is not None and (named is None or str(found.get("python", named[1])).endswith(f"-{named[1]}"))


def of(layout: Layout, release: str) -> list[str]:
    """Return the complete builds of a release, the one that was last chosen at the end."""
    found = [name for name in present(layout) if release_of(name) == release and complete(layout, name)]
    return sorted(found, key=lambda name: os.path.getmtime(layout.marker(name)))


def here(layout: Layout) -> list[str]:
    """Return the ids of the releases that can be used without building anything."""
    return sorted({release_of(name) for name in present(layout) if usable(layout, name)})


def made_by(layout: Layout, build: str, maker: Maker) -> bool:
    """Tell whether a build is complete and what this Python would make."""
    found = description(layout, build) or {}
    return (found.get("app_python"), found.get("python")) == (maker.declared, maker.version)


def fitting(layout: Layout, release: str, maker: Maker) -> str | None:
    """Return the build that this Python made of a release, if there is one."""
    return next((name for name in reversed(of(layout, release)) if made_by(layout, name, maker)), None)


def wanted(layout: Layout, release: str, maker: Maker) -> str:
    """Return the build of a release by this Python, or the name of the one that is to be made: a name that no complete one has."""
    names = itertools.chain([release], (f"{release}.{number}" for number in itertools.count(2)))
    return fitting(layout, release, maker) or next(name for name in names if not complete(layout, name))


def best(layout: Layout, release: str, maker: Maker, running: Collection[str] = ()) -> str:
    """Return the build to use of a release that is there: one that runs, one of this Python, or else the one that was last chosen."""
    found = of(layout, release)
    ranks = ([name for name in found if name in running], [name for name in found if made_by(layout, name, maker)],
             [name for name in found if usable(layout, name)], found)
    return next(names[-1] for names in ranks if names)
