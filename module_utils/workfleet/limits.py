"""How long what is not ours may take, with the variable that says so: who runs into a limit is told what to raise."""

from __future__ import annotations

from typing import NamedTuple

#: Of a step on the way to a release, where nothing is declared.
STEP_SECONDS = 3600.0
#: An import of the app before a node is started may take so long, whatever a node has.
LEAST_IMPORT_SECONDS = 120.0


class Limit(NamedTuple):
    """``does`` says what takes the time, ``variable`` what gives it more."""

    seconds: float
    does: str
    variable: str

    @property
    def is_over(self) -> str:
        """What is said of a program that took longer."""
        return f"did not end within {self.seconds:g} s. It {self.does}: give that more time by {self.variable}"


def of_step(seconds: float) -> Limit:
    """Return the limit of one step on the way to a release: a fetch by git, a virtualenv, a run of pip, a release command."""
    return Limit(seconds, "makes the release", "app_step_seconds")


def of_import(ready_timeout_seconds: float) -> Limit:
    """Return the limit of an import of the app: a node that is started has so long for it too."""
    return Limit(max(ready_timeout_seconds, LEAST_IMPORT_SECONDS), "imports the app", "worker_rollout.ready_timeout_seconds")
