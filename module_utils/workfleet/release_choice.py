"""Which release a host is to use: the declared one, one that is asked for by its id, or the one that is held.

A host remembers which releases were current, one after the other, and which one was declared (``state/releases.json``). Where
it uses another one, since somebody went back or a rollout failed, it has a *hold* (``state/hold.json``): for as long as the
declaration gives the release ``instead_of``, ``use`` takes its place. So ``site.yml`` does not roll the release out again that
was just taken back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from . import host
from .errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from .layout import Layout

#: Words that stand for a release of the host's own: the link ``current``, the one that is gone back to, and that of its nodes.
CURRENT, PREVIOUS, RUNNING = WORDS = ("current", "previous", "running")
#: What a run does about a hold: obey it; disregard it and drop it at its end; stay with the chosen release from its end on;
#: hold the chosen release from now on, and give up what was current.
OBEY, DROP, STAY, BACK = HOLDS = ("obey", "drop", "stay", "back")
#: How far a run goes: the release is there; its commands were run, and nodes are about to be started from it; it is current.
BUILT, READY, LINKED = STAGES = ("built", "ready", "current")
_LONGEST_HISTORY = 20


@dataclass(frozen=True)
class Hold:
    """``use`` takes the place of ``instead_of``."""

    instead_of: str
    use: str

    @property
    def text(self) -> str:
        """The file's content."""
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True)
class History:
    """``releases`` were current, the newest last.

    ``rolling_out`` is on its way and not current yet. The declaration gave ``declared`` when it was last looked at: who goes back
    by a release's name does not look at it.
    """

    releases: tuple[str, ...] = ()
    rolling_out: str | None = None
    declared: str | None = None

    @property
    def text(self) -> str:
        """The file's content."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def after(self, release: str, given_up: str | None) -> History:
        """Return the history once ``release`` is current; one that was ``given_up`` is nothing to go back to."""
        kept = [name for name in self.releases if name not in (release, given_up)]
        return History((*kept, release)[-_LONGEST_HISTORY:], declared=self.declared)


def identity(source: Mapping[str, Any], requirements: Sequence[str]) -> str:
    """Return the id of a release: the same for the same source and requirements, on every host of a fleet, and only then."""
    return hashlib.sha256(json.dumps([source["kind"], source["fingerprint"], list(requirements)]).encode()).hexdigest()[:12]


def read_hold(layout: Layout) -> Hold | None:
    """Return the hold of this host, if there is one."""
    text = host.read(layout.hold)
    if text is None:
        return None
    try:
        values = json.loads(text)
        return Hold(str(values["instead_of"]), str(values["use"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WorkfleetError(
            f"{layout.hold}, which tells what release is held, cannot be read: {error}. Remove it, and the declared release is used"
        ) from error


def read_history(layout: Layout, current: str | None, hold: Hold | None) -> History:
    """Return what this host remembers. What is current is the last of it, whoever changed the link."""
    found = History()
    with contextlib.suppress(ValueError, AttributeError, TypeError):  # a broken memory costs the word `previous`, and no more
        values = json.loads(host.read(layout.history) or "{}")
        found = History(tuple(map(str, values.get("releases", ()))), values.get("rolling_out"), values.get("declared"))
    if current and current not in found.releases[-1:]:
        found = replace(found, releases=(*(name for name in found.releases if name != current), current))
    rolling_out = None if found.rolling_out == current else found.rolling_out
    return replace(found, rolling_out=rolling_out, declared=found.declared or (hold.instead_of if hold else current))


def new_hold(history: History, use: str) -> Hold | None:
    """Return the hold that keeps ``use``; none where the declaration gives that very release."""
    return Hold(history.declared, use) if history.declared and history.declared != use else None


def before(history: History, current: str | None, here: Sequence[str]) -> str:
    """Return the release to go back to: what is current, while another one is on its way; else the one before it."""
    past = [name for name in history.releases if name in here]
    if history.rolling_out and current in past:
        return str(current)
    earlier = [name for name in past if name != current]
    if not earlier:
        others = ", ".join(name for name in here if name != current) or "none"
        raise WorkfleetError(
            f"there is no release to go back to: no other than {current or 'none'} has been current on this host. "
            f"Others that are there: {others}. Choose one by -e release=ID"
        )
    return earlier[-1]


def running(history: History, current: str | None, nodes: Collection[str]) -> str | None:
    """Return the release that the host's nodes run: of several the one that was current last, and where there is none what is."""
    return next((name for name in reversed(history.releases) if name in nodes), current)


def named(word: str, history: History, current: str | None, here: Sequence[str], nodes: Collection[str]) -> str:
    """Return the release that is asked for by its id, or by a word. ``here`` are those that can be used, ``nodes`` those of nodes."""
    if word == PREVIOUS:
        return before(history, current, here)
    chosen = running(history, current, nodes) if word == RUNNING else current if word == CURRENT else word
    if chosen is None:
        raise WorkfleetError("no release is current on this host, so there is none to stay with")
    if chosen not in here:
        raise WorkfleetError(f"release {chosen} is not on this host; there are {', '.join(here) or 'none'}. deploy.yml -e version=… with "
                             "the version that it is of builds it on every host; --limit leaves a host out")
    return chosen
