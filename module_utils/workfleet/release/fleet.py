"""What holds for a fleet is known by each of its hosts: what a host tells of its releases, and what follows when all were asked.

A run that is limited to some hosts asks the others of the fleet too. Nothing here is what one host alone says for all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import WorkfleetError
from ..host import builds, ownership, release_choice
from ..host.layout import Layout
from .commands import commands_done
from .present import current

if TYPE_CHECKING:
    from collections.abc import Iterable

RUN, SKIP = WORDS = ("run", "skip")


@dataclass(frozen=True)
class Known:
    """What one host knows; all of it is nothing on a host without the app.

    ``previous`` is the release that it would go back to. ``commands`` are the digests of the release commands that were run, by release.
    ``releases`` are those that are there, each with its ``source`` for people and the source's ``version``, where it has one.
    """

    current: str | None = None
    previous: str | None = None
    hold: Mapping[str, str] | None = None
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    releases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


Fleet = Mapping[str, Known]


def look(app: str, root: str, words: release_choice.Words) -> Known:
    """Return what this host knows. Of a hold only one that is in force by the inventory's ``words`` is told."""
    layout = Layout(root)
    if not os.path.isdir(layout.state):
        return Known()
    ownership.require(root, app)
    used = current(layout)
    release = used and builds.release_of(used)
    hold = release_choice.read_hold(layout)
    history = release_choice.read_history(layout, release, hold)
    try:
        previous = release_choice.before(history, release, builds.here(layout))
    except WorkfleetError:  # there is none
        previous = None
    told = ((name, builds.description(layout, name)) for name in builds.present(layout))
    releases = {builds.release_of(name): {key: found.get(key) for key in ("source", "version")} for name, found in told if found}
    obeyed = hold if hold and hold.applies(history.gives(words), words) else None
    return Known(release, previous, obeyed.told if obeyed else None, commands_done(layout), releases)


# The judgement


def names(hosts: Iterable[str]) -> str:
    """Return a few hosts by name, and the number of the others."""
    found = list(hosts)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def by_release(fleet: Fleet, key: str = "current") -> dict[str, list[str]]:
    """Return which hosts have which release, current or as ``key`` says; those without one are left out."""
    found: dict[str, list[str]] = {}
    for host, known in fleet.items():
        if getattr(known, key):
            found.setdefault(getattr(known, key), []).append(host)
    return found


def told(releases: Mapping[str, Sequence[str]]) -> str:
    """Return releases and their hosts in words."""
    return "; ".join(f"{name} on {names(hosts)}" for name, hosts in releases.items())


def commands_run(fleet: Fleet, wanted: str, commands: Sequence[str], silent: Sequence[str], word: str) -> list[str]:
    """Return the digests of the release commands that count as run for a release: any host may have run them.

    Refuses where a host that cannot be asked may have, unless ``word`` says what to do.
    """
    done = list(dict.fromkeys(digest for known in fleet.values() for digest in known.commands.get(wanted, ())))
    lacking = [number for number, digest in enumerate(commands, 1) if digest not in done]
    if not lacking or not silent or word == RUN:
        return done
    if word == SKIP:
        return list(dict.fromkeys([*done, *commands]))
    which = f"release command {', '.join(map(str, lacking))} of {len(commands)}"
    raise WorkfleetError(
        f"whether app_release_commands were run for release {wanted} is not known: no host that was asked has run {which}, and "
        f"{names(silent)}, outside of --limit, cannot be asked. Nothing was changed. Have these hosts reachable, or say what is "
        f"so: -e release_commands={RUN} where they were not run, -e release_commands={SKIP} where they were"
    )


def agreed(fleet: Fleet) -> str | None:
    """Return the release that is current on all hosts that have one; refuses where there are several."""
    found = by_release(fleet)
    if len(found) > 1:
        raise WorkfleetError(
            f"which release a new host is to have is not known, for the hosts of the fleet do not agree on it: {told(found)}. Nothing was "
            "changed. Bring them together first (site.yml, deploy.yml or rollback.yml without --limit), or choose by "
            "deploy.yml -e version=… --limit"
        )
    return next(iter(found), None)


def going_back(fleet: Fleet) -> tuple[str, str, list[str]]:
    """Return the release to go back to, the host that chose it, and what is to be said.

    The first host that knows of one chooses: a new one knows of none. It is the last that makes it current, so that a run that was
    cut short is followed by one that chooses the same.
    """
    found = by_release(fleet, "previous")
    if not found:
        there = sorted({name for known in fleet.values() for name in known.releases})
        raise WorkfleetError(
            "there is no release to go back to: no host knows of another that was current. Releases that are there: "
            f"{', '.join(there) or 'none'}. Choose one by -e release=ID"
        )
    chosen = next(iter(found))
    notes = []
    if len(found) > 1:
        notes.append(f"hosts do not agree on the release to go back to: {told(found)}. It is {chosen}; -e release=ID chooses another one")
    return chosen, found[chosen][0], notes


def require_there(hosts: Fleet, wanted: str) -> None:
    """Refuse to go back where a host lacks the release: nothing is built on the way back."""
    lacking = [host for host, known in hosts.items() if wanted not in known.releases]
    if not lacking:
        return
    told = next((known.releases[wanted] for known in hosts.values() if wanted in known.releases), {})
    source, version = told.get("source"), told.get("version") or "V"
    raise WorkfleetError(
        f"release {wanted}{f' ({source})' if source else ''} is not on {names(lacking)}, and nothing is built on the way back. No host was "
        f"changed. deploy.yml -e version={version} builds it on every host and goes there; --limit 'all:!{':!'.join(lacking)}' leaves out "
        "who lacks it"
    )


def differing(outside: Fleet, wanted: str) -> list[str]:
    """Return what is to be said of hosts outside of the run that have another release than it brings."""
    others = {name: hosts for name, hosts in by_release(outside).items() if name != wanted}
    if not others:
        return []
    return [f"the fleet will not have one release: this run is for {wanted}, and outside of --limit there is {told(others)}"]
