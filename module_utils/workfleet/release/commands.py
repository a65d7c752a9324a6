"""Release commands: which were run for a release, and running those that were not."""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from ..host import builds, effects, foreign, limits
from ..host.changes import Change
from ..host.layout import Layout
from ..host.steps import Step
from . import build
from .declared import Declared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def command_changes(
    declared: Declared, name: str, previous: str | None, python: build.Interpreter
) -> Iterator[Change]:
    """Yield the release commands that were not run yet for this release, and what other hosts tell of them."""
    release = builds.release_of(name)
    done = commands_done(declared.layout).get(release, [])
    heard = [item for item in declared.commands_done if item not in done]
    if heard:
        yield Change(
            Step("write", f"file {declared.layout.commands}", "another host ran the release commands"),
            partial(remember, declared.layout, release, heard),
        )
    if not declared.run_commands:
        return
    for number, argv in enumerate(declared.commands, 1):
        if digest(argv) not in done and digest(argv) not in heard:
            what = f"release command {number} of {len(declared.commands)}"
            yield Change(
                Step("live", what, f"not run yet for release {release}"),
                partial(run_command, declared, name, previous, python, argv, what),
            )


def all_commands(declared: Declared, release: str) -> bool:
    """Whether all release commands will have been run once the planned changes are carried out.

    Where another host is to run them and has not told yet, nothing of the release may come into use here.
    """
    return {digest(argv) for argv in declared.commands} <= set(commands_after(declared, release))


def commands_after(declared: Declared, release: str) -> list[str]:
    """Return the digests of all commands that will have been run for a release once its changes are carried out."""
    ours = [digest(argv) for argv in declared.commands] if declared.run_commands else []
    done = commands_done(declared.layout).get(release, [])
    return list(dict.fromkeys([*done, *declared.commands_done, *ours]))


def digest(argv: Iterable[str]) -> str:
    """Return a name for a command that does not tell it."""
    return hashlib.sha256(json.dumps(list(argv)).encode()).hexdigest()[:16]


def commands_done(layout: Layout) -> dict[str, list[str]]:
    """Return the digests of the commands that were run, by release."""
    try:
        return dict(json.loads(effects.read(layout.commands) or "{}"))
    except (ValueError, OSError) as error:
        raise WorkfleetError(
            f"{layout.commands}, which tells what release commands were run, cannot be read: {error}. Remove it only "
            "if they may run again"
        ) from error


def remember(layout: Layout, release: str, digests: Iterable[str]) -> None:
    """Note that commands were run for a release."""
    done = commands_done(layout)
    done[release] = [*done.get(release, []), *digests]
    effects.write(layout.commands, json.dumps(done, indent=1) + "\n", mode=0o600)


def run_command(
    declared: Declared, name: str, previous: str | None, python: build.Interpreter, argv: tuple[str, ...], what: str
) -> None:
    """Run one release command as a node of the new release would be run."""
    layout = declared.layout
    # By app_python, which the app's user can read: our own interpreter may be in root's home.
    launcher = [python.path, "-I", os.path.join(layout.workfleet, "launch.py"), "--user", declared.user]
    place = ["--env-file", layout.app_env, "--chdir", layout.src(name), "--path", layout.venv_bin(name)]
    done = foreign.run(declared.user, [*launcher, *place, "--", *argv], check=False, locks=build.held,
                       timeout=limits.of_step(declared.step_seconds))
    if done.rc != 0:
        said = build.masked(build.tail(done.out + done.err), declared.secrets)
        untouched = f"The current release {previous} is untouched" if previous else "No release is current"
        raise WorkfleetError(
            f"{what} ({argv[0]}) of {declared.name} failed with status {done.rc}:\n{said}\n{untouched}; the next run "
            "begins with this command.",
            rc=done.rc,
        )
    remember(layout, builds.release_of(name), [digest(argv)])
