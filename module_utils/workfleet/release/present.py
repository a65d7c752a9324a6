"""The release that a host uses, and those that it could go back to: read, switched, discarded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from ..host import builds, effects
from ..host.layout import Layout
from ..host.release_choice import History

if TYPE_CHECKING:
    pass


def current(layout: Layout) -> str | None:
    """Return the build that ``current`` names, if any."""
    try:
        return os.path.basename(os.readlink(layout.current))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WorkfleetError(f"{layout.current} is in the way: it is no link. Move it away") from error


def discard(layout: Layout, name: str) -> None:
    """Remove a build; one of which only a part is gone must not count as complete."""
    effects.remove(layout.marker(name))
    effects.remove(layout.release(name))


def switch(layout: Layout, name: str, remembered: History) -> None:
    """Let ``current`` name a build, in one step, and remember its release.

    Killed between the two, it is found in ``current`` all the same.
    """
    effects.link(os.path.join("releases", name), layout.current)
    # The time of the marker is when the build was last chosen; what is kept goes by it.
    text = effects.read(layout.marker(name))
    if text is not None:
        effects.write(layout.marker(name), text)
    effects.write(layout.history, remembered.text, mode=0o600)


def earlier(layout: Layout, history: History, release: str) -> list[str]:
    """Return the release that ``rollback.yml`` would go back to from this one, if there is one."""
    return [name for name in history.releases if name != release and builds.of(layout, name)][-1:]
