"""What a release stands on: account, directories, the toolkit's own programs."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

from ..host import accounts, changes, ownership, system
from ..host.changes import Change, Rights
from . import shared
from .declared import Declared

if TYPE_CHECKING:
    from collections.abc import Iterator


def foundation(declared: Declared) -> Iterator[Change]:
    """Yield the changes that do not depend on any release."""
    if os.geteuid() == 0:
        system.here()
    layout = declared.layout
    ownership.require(layout.root, declared.name)
    yield from accounts.changes(declared.user, declared.group, layout.root)
    owner, group = ("root", "root") if os.geteuid() == 0 else (declared.user, declared.group)
    app = (declared.user, declared.group)
    for path, rights in (
        (layout.root, Rights(0o755, owner, group)),
        (layout.releases, Rights(0o750, owner, declared.group)),
        (layout.bin, Rights(0o755, owner, group)),
        (layout.env, Rights(0o750, owner, declared.group)),
        (layout.workfleet, Rights(0o755, owner, group)),
        (layout.state, Rights(0o700, owner, group)),
        (layout.log, Rights(0o750, *app)),
        (layout.cache, Rights(0o700, *app)),
    ):
        yield from changes.directory(path, rights)
    yield from shared.changes([layout.shared] if declared.shared else [], *app)
    yield from changes.file(ownership.path(layout.root), ownership.text(declared.name), Rights(0o644, owner, group))
    for name, text in declared.runners.items():
        mode = 0o755 if text.startswith("#!") else 0o644
        yield from changes.file(
            os.path.join(layout.workfleet, name), text, Rights(mode, owner, group), shown=summary(name)
        )
    yield from changes.file(layout.run, run_script(declared), Rights(0o755, owner, group))
    yield from changes.file(layout.health, health_script(declared), Rights(0o755, owner, group))


def summary(name: str) -> Any:
    """Return the diff of a program of the toolkit: which one, not its text."""
    return lambda present: {
        "before_header": name,
        "after_header": name,
        "before": "" if present is None else "another version\n",
        "after": "the version of this toolkit\n",
    }


def run_script(declared: Declared) -> str:
    """Return the text of ``bin/run``, which runs a command as a node of the app would run it."""
    root, user = shlex.quote(declared.root), shlex.quote(declared.user)
    return f"""#!/bin/sh
# Runs a command with the environment, virtualenv, working directory and user of the app {declared.name}.
root={root}
if [ "$#" -eq 0 ]; then
    echo "usage: $0 COMMAND [ARGUMENT ...]" >&2
    exit 64
fi
if [ -d "$root/current/src" ]; then
    set -- --chdir "$root/current/src" --path "$root/current/venv/bin" -- "$@"
else
    set -- --chdir "$root" -- "$@"
fi
exec python3 -IS "$root/workfleet/launch.py" --user {user} --env-file "$root/env/app.env" "$@"
"""


def health_script(declared: Declared) -> str:
    """Return the text of ``bin/workfleet-health``, which judges this host's nodes; what it cannot read from their files stands in it."""
    root, names = shlex.quote(declared.root), shlex.quote(",".join(declared.broker_env))
    options = shlex.quote(json.dumps(dict(declared.broker_options), sort_keys=True))
    return f"""#!/bin/sh
# Judges whether the nodes of the app {declared.name} on this host consume: exit code 0 all, 1 some, 2 none, 3 cannot tell.
root={root}
exec python3 -IS "$root/workfleet/workfleet_health.py" --app {declared.name} --root "$root" \\
    --broker-env {names} --broker-options {options} "$@"
"""
