"""Where everything of an app is on a host."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: A build's name is its release's id, and a number behind it where it is not the first.
_ID_LENGTH = 12


@dataclass(frozen=True)
class Layout:
    """Paths under ``app_root``. They are part of what users may rely on."""

    root: str

    def _under(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    @property
    def releases(self) -> str:
        """Releases, each under its id."""
        return self._under("releases")

    @property
    def current(self) -> str:
        """The link to the release that new nodes are started from."""
        return self._under("current")

    @property
    def bin(self) -> str:
        """Commands for people."""
        return self._under("bin")

    @property
    def run(self) -> str:
        """Runs a command as the app."""
        return self._under("bin", "run")

    @property
    def health(self) -> str:
        """Judges whether the app's nodes on this host consume."""
        return self._under("bin", "workfleet-health")

    @property
    def env(self) -> str:
        """Environment files; each readable by the app's user only."""
        return self._under("env")

    @property
    def app_env(self) -> str:
        """The environment of the app itself; nodes have their own files."""
        return self._under("env", "app.env")

    @property
    def workfleet(self) -> str:
        """The toolkit's own programs."""
        return self._under("workfleet")

    @property
    def state(self) -> str:
        """What the toolkit remembers."""
        return self._under("state")

    @property
    def lock(self) -> str:
        """Held while a release is built or chosen."""
        return self._under("state", "release.lock")

    @property
    def commands(self) -> str:
        """Which release commands were run, by release."""
        return self._under("state", "release-commands.json")

    @property
    def history(self) -> str:
        """Which releases were current, in this order, and which one is being rolled out."""
        return self._under("state", "releases.json")

    @property
    def hold(self) -> str:
        """Which release is used in place of the declared one, since somebody went back."""
        return self._under("state", "hold.json")

    @property
    def rollout(self) -> str:
        """What ran before the last rollout, until that is over on all hosts; see ``snapshot``."""
        return self._under("state", "rollout.json")

    @property
    def log(self) -> str:
        """Log files."""
        return self._under("log")

    @property
    def cache(self) -> str:
        """What pip keeps between builds."""
        return self._under("cache")

    @property
    def shared(self) -> str:
        """What outlives releases; the app's user has it."""
        return self._under("shared")

    def release(self, release: str) -> str:
        """One release."""
        return self._under("releases", release)

    def src(self, release: str) -> str:
        """The app's code, and the working directory of its nodes."""
        return self._under("releases", release, "src")

    def venv(self, release: str) -> str:
        """The release's virtualenv."""
        return self._under("releases", release, "venv")

    def venv_bin(self, release: str) -> str:
        """The programs of the virtualenv."""
        return self._under("releases", release, "venv", "bin")

    def python(self, release: str) -> str:
        """The virtualenv's Python."""
        return self._under("releases", release, "venv", "bin", "python")

    def marker(self, release: str) -> str:
        """Written last: a release without it is not complete."""
        return self._under("releases", release, "release.json")


def release_of(build: str) -> str:
    """Return the id of the release that a build is of."""
    return build[:_ID_LENGTH]
