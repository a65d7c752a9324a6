"""What the control node asks for of an app on one host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..host import limits
from ..host.layout import Layout
from ..host.release_choice import LINKED, OBEY, Hold, Words

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Declared:
    """What the control node asks for, as it comes out of the payload.

    ``environment`` is the app's whole environment, ``secret_names`` those of its names whose values are never shown.
    ``broker_env`` are the names that the broker's URL has in it, ``broker_options`` how the app's transport lays things out,
    ``stores`` the broker's and the result store's URL.
    ``source`` is None (no release) or has ``kind``, ``fingerprint``, ``label``, ``size`` and ``install`` of
    :class:`source.Source`. ``runners`` are the texts of the toolkit's programs. ``commands_done`` are digests of
    release commands that another host has run for this release.

    ``release`` asks for one that is there, by its id or a word of :mod:`release_choice`; then no source is needed.
    ``until`` is how far to go and ``hold`` what to do about a hold, both in the words of :mod:`release_choice`. A task
    before has gone as far as ``foretold``; in check mode it has only said so. ``others`` says that other hosts are at work
    too; a second call then knows ``holds``, those that other hosts obey. ``words`` are the inventory's, and ``own`` says that
    ``source`` is what they give, and no extra variable of this run. Where ``source`` is that of the release that is held, and not
    of the declared one, the latter's id is ``declares``. ``why`` stands in a new hold. ``run`` and ``ended_run`` are those of
    :class:`request.Request`.
    """

    host: str
    name: str
    user: str
    group: str
    root: str
    python: str
    source: Mapping[str, Any] | None = None
    requirements: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    broker_env: tuple[str, ...] = ()
    broker_options: Mapping[str, Any] = field(default_factory=dict)
    stores: tuple[str, str] = field(default=("", ""), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict)
    secret_names: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    commands_done: tuple[str, ...] = ()
    run_commands: bool = True
    kept: int = 5
    pip_environment: Mapping[str, str] = field(default_factory=dict)
    step_seconds: float = limits.STEP_SECONDS
    runners: Mapping[str, str] = field(default_factory=dict)
    release: str = ""
    until: str = LINKED
    hold: str = OBEY
    foretold: str = ""
    others: bool = False
    holds: tuple[Hold, ...] = ()
    words: Words = field(default_factory=Words)
    own: bool = True
    why: str = ""
    declares: str = ""
    run: str = ""
    ended_run: str = ""

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Declared:
        """Return the declaration in a decoded payload."""
        lists = {key: tuple(payload[key])
                 for key in ("requirements", "shared", "secret_names", "commands_done", "broker_env", "stores")}
        words = Words(**payload.get("words", {}))
        holds = tuple(Hold.heard(each, words) for each in payload.get("holds", ()))
        commands = tuple(tuple(argv) for argv in payload["commands"])
        return cls(**{**payload, **lists, "commands": commands, "holds": holds, "words": words})

    @property
    def made_of(self) -> tuple[tuple[str, ...], ...]:
        """What a release is made of beside its source."""
        return self.requirements, self.shared

    @property
    def layout(self) -> Layout:
        """Where everything of the app is."""
        return Layout(self.root)

    @property
    def secrets(self) -> list[str]:
        """Every value that must not be shown."""
        for_pip = [value for value in self.pip_environment.values() if not value.startswith("/")]
        return [*(self.environment[name] for name in self.secret_names), *for_pip]
