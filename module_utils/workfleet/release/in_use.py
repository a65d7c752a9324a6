"""Which builds of releases something on this host still needs, though they are not current."""

from __future__ import annotations

import glob
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from ..host import effects, kernel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..host.layout import Layout

#: Units that systemd starts at boot.
AT_BOOT = "/etc/systemd/system/multi-user.target.wants"


def needed(app: str, layout: Layout, user: str) -> set[str]:
    """Return the builds that a process runs from, that will be started again by themselves, or that an undo goes back to."""
    return running(app, layout.releases, user) | named(layout.releases, texts(app, layout))


def running(app: str, releases: str, user: str) -> set[str]:
    """Return the builds that a live process of the app's user, of ours or of the app's units runs from.

    Its directory, program or command line tells. Others could keep a release here by a word alone.
    """
    uids = {uid for uid in (effects.uid(user), os.geteuid()) if uid is not None}
    return named(releases, places({*kernel.pids(uids), *kernel.members(f"workfleet.{app}.")}))


def places(pids: Iterable[int]) -> Iterable[str]:
    """Yield what tells of each of these processes where it runs from."""
    for pid in pids:
        for link in ("cwd", "exe"):
            with suppress(OSError):
                yield os.readlink(f"/proc/{pid}/{link}")
        with suppress(OSError):
            yield (effects.read(f"/proc/{pid}/cmdline") or "").replace("\0", " ")


def texts(app: str, layout: Layout) -> Iterable[str]:
    """Yield what is started without a plan: what an undo writes again, and what is enabled, down though it may be just now.

    A node that is not enabled was told to go or to stop: where it is started again, it is with the release that is current then.
    """
    yield effects.read(layout.rollout) or ""
    yield from enabled(app, layout)


def enabled(app: str, layout: Layout) -> Iterable[str]:
    """Yield the units and programs that start by themselves: of all nodes that are to be here, and of none that was told to go."""
    for path in glob.glob(f"{AT_BOOT}/workfleet.{app}.*.service"):
        yield effects.read(path) or ""
    for path in glob.glob(os.path.join(glob.escape(layout.root), "supervisor", "programs", "*.conf")):
        text = effects.read(path) or ""
        if "\nautostart=true\n" in text:
            yield text


def named(releases: str, texts: Iterable[str]) -> set[str]:
    """Return the builds whose paths stand in these texts."""
    build = r"([0-9a-f]{12}(?:\.[1-9][0-9]*)?)"
    pattern = re.compile(re.escape(os.path.realpath(releases) + "/") + build + "|" + re.escape(releases + "/") + build)
    return {first or second for text in texts for first, second in pattern.findall(text)}
