"""Which release a host is to use: the declared one, one that is asked for by its id, or the one that is held.

A host remembers which releases were current, one after the other, and which one was declared (``state/releases.json``). Where
it uses another one, since somebody went back or a node of it failed, it has a *hold* (``state/hold.json``): for as long as the
inventory gives the release ``instead_of``, ``use`` takes its place. So ``site.yml`` does not roll the release out again that
was just taken back. What an extra variable of a run gives (``-e version=``) is not declared, and nothing is held in its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from . import effects

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from .layout import Layout

#: Words that stand for a release of the host's own: the link ``current``, the one that is gone back to, and that of its nodes.
CURRENT, PREVIOUS, RUNNING = WORDS = ("current", "previous", "running")
#: What a run does about a hold: obey it; disregard it and drop it at its end; stay with the chosen release from its end on;
#: hold the chosen release from now on, and give up what was current: whatever is declared beside the release, or, since a node of
#: it failed, for as long as all is declared as it is; give up what was current, and hold nothing.
OBEY, DROP, STAY, BACK, FAILED, FREE = HOLDS = ("obey", "drop", "stay", "back", "failed", "free")
GIVE_UP = (BACK, FAILED, FREE)
#: How far a run goes: the release is there; its commands were run, and nodes are about to be started from it; it is current.
BUILT, READY, LINKED = STAGES = ("built", "ready", "current")
#: What a hold is held against, in the words that are told: it ends where that is declared otherwise.
RELEASE, CONFIGURATION = "release", "configuration"
_LONGEST_HISTORY = 20


@dataclass(frozen=True)
class Words:
    """What the inventory says, as digests that mean something only to one another; empty where nobody told.

    ``source`` is of what the declared release is made of, ``whole`` of all that is declared of the app, on all hosts.
    """

    source: str = ""
    whole: str = ""


@dataclass(frozen=True)
class Hold:
    """``use`` takes the place of ``instead_of``; ``why`` is what failed, or who asked for it.

    ``source`` are the words that ``instead_of`` was declared by. It is empty where they had not been looked at when it was held; then
    the words alone tell. ``against`` is :attr:`Words.whole` of when a node failed, and empty where somebody went back: then it
    ends with another release only.
    """

    instead_of: str
    use: str
    why: str = ""
    source: str = ""
    against: str = ""

    @property
    def text(self) -> str:
        """The file's content."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @property
    def told(self) -> dict[str, str]:
        """What others are told of it: no digests, for secrets are in them."""
        kind = CONFIGURATION if self.against else RELEASE
        return {"instead_of": self.instead_of, "use": self.use, "why": self.why, "against": kind}

    @classmethod
    def heard(cls, told: Mapping[str, str], words: Words) -> Hold:
        """Return a hold that another host of this run obeys: there it is in force, by the same words."""
        against = words.whole if told["against"] == CONFIGURATION else ""
        return cls(told["instead_of"], told["use"], told["why"], words.source, against)

    def applies(self, release: str | None, words: Words) -> bool:
        """Whether it is in force where the inventory gives ``release``, by ``words``."""
        gives = release == self.instead_of if self.instead_of else self.source == words.source
        return gives and self.use != release and (not self.against or not words.whole or self.against == words.whole)

    def sentence(self, declared: str) -> str:
        """Say that it is in force, and how it ends."""
        what = "Another configuration, source or version" if self.against else "Another source or version"
        return (f"release {self.use} is held: it is used in place of the declared {declared}, which was taken back"
                f"{': ' if self.why else ''}{self.why}. {what} in the inventory ends this, and so does deploy.yml, or site.yml -e "
                "release_hold=false")


@dataclass(frozen=True)
class History:
    """``releases`` were current, the newest last.

    ``rolling_out`` is on its way and not current yet. The inventory gave ``declared`` when it was last looked at, by the words
    ``source``: who goes back by a release's name does not look at it.
    """

    releases: tuple[str, ...] = ()
    rolling_out: str | None = None
    declared: str | None = None
    source: str = ""

    @property
    def text(self) -> str:
        """The file's content."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def after(self, release: str, given_up: str | None) -> History:
        """Return the history once ``release`` is current; one that was ``given_up`` is nothing to go back to."""
        kept = [name for name in self.releases if name not in (release, given_up)]
        return replace(self, releases=(*kept, release)[-_LONGEST_HISTORY:], rolling_out=None)

    def gives(self, words: Words) -> str | None:
        """Return the release that the inventory gives; None where it has been changed since it was looked at."""
        return None if self.source and words.source and self.source != words.source else self.declared


def identity(source: Mapping[str, Any], made_of: Sequence[Sequence[str]]) -> str:
    """Return the id of a release: the same for the same source, requirements and shared paths, on every host of a fleet, and only then."""
    parts = [source["kind"], source["fingerprint"], *map(list, made_of)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def read_hold(layout: Layout) -> Hold | None:
    """Return the hold of this host, if there is one."""
    text = effects.read(layout.hold)
    if text is None:
        return None
    try:
        values = json.loads(text)
        known = {name: str(values.get(name, "")) for name in ("why", "source", "against")}
        return Hold(str(values["instead_of"]), str(values["use"]), **known)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkfleetError(
            f"{layout.hold}, which tells what release is held, cannot be read: {error}. Remove it, and the declared release is used"
        ) from error


def read_history(layout: Layout, current: str | None, hold: Hold | None) -> History:
    """Return what this host remembers. What is current is the last of it, whoever changed the link."""
    found = History()
    with contextlib.suppress(ValueError, AttributeError, TypeError):  # a broken memory costs the word `previous`, and no more
        values = json.loads(effects.read(layout.history) or "{}")
        found = History(tuple(map(str, values.get("releases", ()))), values.get("rolling_out"), values.get("declared"),
                        str(values.get("source", "")))
    if current and current not in found.releases[-1:]:
        found = replace(found, releases=(*(name for name in found.releases if name != current), current))
    rolling_out = None if found.rolling_out == current else found.rolling_out
    return replace(found, rolling_out=rolling_out, declared=found.declared or ((hold and hold.instead_of) or current))


def new_hold(history: History, use: str, words: Words, why: str, *, failed: bool) -> Hold | None:
    """Return the hold that keeps ``use``; none where the inventory gives that very release."""
    declared = history.gives(words)
    if declared == use or history.declared is None:
        return None
    return Hold(declared or "", use, why, words.source, words.whole if failed else "")


def standing(layout: Layout, current: str | None, words: Words) -> tuple[Hold | None, str | None, str]:
    """Return the hold that is in force, the release that the inventory gives (None where it is not known), and what is wrong with that.

    No source is looked at: what the inventory gives is known by its words.
    """
    present = read_hold(layout)
    history = read_history(layout, current, present)
    declared = history.gives(words)
    if current is None or history.declared is None or declared == current:
        return None, declared, ""
    if present is not None and present.use == current and present.applies(declared, words):
        return present, declared, present.sentence(declared or "release")
    ended = "" if present is None else ". What was held is no longer, for the inventory has been changed since"
    gives = declared or "another source than when it was last looked at"
    return None, declared, f"release {current} is current, and the inventory gives {gives}{ended}: run site.yml, which makes that current"


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
