"""How long what is not ours may take, with the variable that says so, and how large what a process is started with may be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from . import envfile, files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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


#: What the kernel takes as one word of a command or one variable, and what is taken of all words: a unit's lines have an end.
MOST_WORD_BYTES, MOST_COMMAND_BYTES = 128 * 1024 - 1, 256 * 1024


def too_large(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what of a node's command and environment no process can be started with, or is more than is read of its file."""
    sizes = [len(os.fsencode(word)) for word in command]
    if max(sizes, default=0) > MOST_WORD_BYTES:
        yield (f"its command has a word of {max(sizes)} bytes, and the kernel takes {MOST_WORD_BYTES}: fewer or shorter queues and options "
               "(the names of all queues are one word)")
    elif sum(sizes) > MOST_COMMAND_BYTES:
        yield f"its command has {sum(sizes)} bytes, and {MOST_COMMAND_BYTES} are taken: put long lists into a file of the app"
    for name, value in environment.items():
        if len(os.fsencode(f"{name}={value}")) > MOST_WORD_BYTES:
            yield (f"{name} has {len(os.fsencode(value))} bytes, and the kernel takes {MOST_WORD_BYTES} with its name: put it into a file "
                   "of the app")
    whole = len(os.fsencode(envfile.render(environment)))
    if whole > files.LARGEST_ENVIRONMENT:
        yield f"its environment has {whole} bytes, and {files.LARGEST_ENVIRONMENT} are taken: put large values into files of the app"
