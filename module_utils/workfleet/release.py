"""An app on a host: what is declared of it, what is there, and the changes between the two.

Everything is observed and planned here; ``build`` makes a release. A release is *complete* when its ``release.json``,
written last, stands in it. Only a complete one ever becomes ``current``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from . import accounts, build, changes, envfile, foreign, host, in_use, lock, ownership, packages, release_choice, shared, system
from .changes import Change, Rights
from .errors import WorkfleetError
from .layout import Layout
from .release_choice import BACK, BUILT, DROP, LINKED, OBEY, READY, STAGES, History, Hold
from .steps import Step, secret_diff

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

RELEASE_ID = re.compile(r"[0-9a-f]{12}\Z")
MARGIN_BYTES = 100_000_000
#: Who finds less than this after a build that failed has found why.
FULL_BYTES = 5_000_000


@dataclass(frozen=True)
class Declared:
    """What the control node asks for, as it comes out of the payload.

    ``environment`` is the app's whole environment, ``secret_names`` those of its names whose values are never shown.
    ``broker_env`` are the names that the broker's URL has in it, ``broker_options`` how the app's transport lays things out.
    ``source`` is None (no release) or has ``kind``, ``fingerprint``, ``label``, ``size`` and ``install`` of
    :class:`source.Source`. ``runners`` are the texts of the toolkit's programs. ``commands_done`` are digests of
    release commands that another host has run for this release.

    ``release`` asks for one that is there, by its id or a word of :mod:`release_choice`; then no source is needed.
    ``until`` is how far to go and ``hold`` what to do about a hold, both in the words of :mod:`release_choice`. A task
    before has gone as far as ``foretold``; in check mode it has only said so. ``others`` says that other hosts are at work
    too; a second call then knows ``holds``, those that other hosts obey. ``run`` and ``ended_run`` are those of
    :class:`reconcile.Request`.
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
    environment: Mapping[str, str] = field(default_factory=dict)
    secret_names: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    commands_done: tuple[str, ...] = ()
    run_commands: bool = True
    kept: int = 5
    pip_environment: Mapping[str, str] = field(default_factory=dict)
    runners: Mapping[str, str] = field(default_factory=dict)
    release: str = ""
    until: str = LINKED
    hold: str = OBEY
    foretold: str = ""
    others: bool = False
    holds: tuple[Hold, ...] = ()
    run: str = ""
    ended_run: str = ""

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Declared:
        """Return the declaration in a decoded payload."""
        lists = {key: tuple(payload[key]) for key in ("requirements", "shared", "secret_names", "commands_done", "broker_env")}
        holds = tuple(Hold(**each) for each in payload.get("holds", ()))
        return cls(**{**payload, **lists, "commands": tuple(tuple(argv) for argv in payload["commands"]), "holds": holds})

    @property
    def layout(self) -> Layout:
        """Where everything of the app is."""
        return Layout(self.root)

    @property
    def secrets(self) -> list[str]:
        """Every value that must not be shown."""
        for_pip = [value for value in self.pip_environment.values() if not value.startswith("/")]
        return [*(self.environment[name] for name in self.secret_names), *for_pip]


@dataclass(frozen=True)
class Plan:
    """The changes of one host, in the order in which they are carried out.

    ``commands_done`` are the digests of the release commands that will have been run for the release then. ``notes`` are
    sentences for people. ``hold`` is the one that is obeyed. ``waits`` says that it goes no further before a second call tells
    what other hosts hold and have run.
    """

    changes: list[Change]
    release: str | None
    previous: str | None
    archive_needed: bool
    commands_done: list[str]
    notes: list[str] = field(default_factory=list)
    hold: Hold | None = None
    waits: bool = False

    @property
    def diff(self) -> list[dict[str, str]]:
        """Ansible's diff of all changes that have one."""
        return [change.diff for change in self.changes if change.diff]


def plan(declared: Declared, archive: str | None = None, *, check: bool = False) -> Plan:
    """Return all changes that this host needs. ``archive`` is the packed source, where it has been sent.

    In check mode what a task before has ``foretold`` is not foretold again.
    """
    skip = STAGES.index(declared.foretold) + 1 if check and declared.foretold else 0
    first = [] if skip else list(foundation(declared))
    return merged(first, plan_release(declared, archive, skip=skip))


def apply(declared: Declared, archive: str | None) -> Plan:
    """Make this host as declared, one run at a time, and return what was done.

    Refuses where another run is replacing nodes: which release is current, and which it would go back to, are that one's.
    """
    first = list(foundation(declared))
    for change in first:
        change.carry_out()
    with build.alone(declared.layout.lock):
        # Not before: the other run may have been building, and replace nodes by now. What is only built is in nobody's way.
        if declared.until != BUILT:
            lock.require_free(declared.root, declared.name, declared.run, declared.ended_run)
        rest = plan_release(declared, archive)
        for change in rest.changes:
            change.carry_out()
    return merged(first, rest)


def merged(first: list[Change], rest: Plan) -> Plan:
    """Return one plan of both parts."""
    return replace(rest, changes=[*first, *rest.changes])


# What a release stands on: account, directories, the toolkit's own files


def foundation(declared: Declared) -> Iterator[Change]:
    """Yield the changes that do not depend on any release."""
    if os.geteuid() == 0 and declared.user != "root":
        system.require_supported()
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


# The release


class Choice(NamedTuple):
    """The release that a host is to use; by what hold it is used in place of the declared one; what people are told."""

    release: str
    hold: Hold | None = None
    notes: tuple[str, ...] = ()


def choose(declared: Declared, python: build.Interpreter, hold: Hold | None, history: History, *, foretold: bool) -> Choice:
    """Return the declared release, or the one that takes its place. One that was ``foretold`` need not be there."""
    layout = declared.layout
    here = [name for name in listed(layout.releases) if RELEASE_ID.match(name) and complete(layout, name)]
    if declared.release:
        if foretold and RELEASE_ID.match(declared.release):
            return Choice(declared.release)

        def nodes() -> set[str]:
            return in_use.named(layout.releases, in_use.enabled(declared.name, layout))

        return Choice(release_choice.named(declared.release, history, current(layout), here, nodes))
    release = release_id(declared, python)
    holds = [each for each in (hold, *declared.holds) if each is not None and each.instead_of == release]
    if declared.hold != OBEY or not holds:
        return Choice(release)
    obeyed = holds[0]
    where = f"on this host in place of {release} ({layout.hold}), and it is no longer there"
    if obeyed != hold:
        where = f"on other hosts in place of {release}, and it is not on this host: declare another version"
    if obeyed.use not in here:
        raise WorkfleetError(f"release {obeyed.use} is held {where}: -e release_hold=false uses the declared release all the same")
    note = (
        f"release {obeyed.use} is held: it is used in place of the declared {release}, which was taken back. Another source "
        "or version ends this, and so does deploy.yml, or -e release_hold=false"
    )
    return Choice(obeyed.use, obeyed, (note,))


def plan_release(declared: Declared, archive: str | None, skip: int = 0) -> Plan:
    """Return the changes of the release and of what goes with it; without those of the first ``skip`` stages."""
    layout = declared.layout
    previous = current(layout)
    if declared.source is None and not declared.release:
        if declared.until != LINKED:
            raise WorkfleetError(f"app_source: is not set, so {declared.name} has no releases that could be deployed")
        return Plan(list(environment_file(declared)), None, previous, False, [])
    python = build.interpreter(declared.python, declared.user)
    hold = release_choice.read_hold(layout)
    history = release_choice.read_history(layout, previous, hold)
    choice = choose(declared, python, hold, history, foretold=bool(skip))
    release = choice.release
    if choice.hold:  # its commands were run when it was the declared one, or were not thought of then
        declared = replace(declared, commands=())
    building = not skip and not complete(layout, release)
    archive_needed = False
    stages: dict[str, list[Change]] = {stage: [] for stage in STAGES}
    if building:
        archive_needed = (declared.source or {})["kind"] != "index" and archive is None
        stages[BUILT] = list(build_changes(declared, release, previous, python, archive))
    if not skip:
        stages[BUILT] += shared.changes(shared.below(layout.shared, declared.shared), declared.user, declared.group)
    stages[BUILT] += environment_file(declared)
    if declared.until != BUILT:
        stages[READY] = list(command_changes(declared, release, previous, python))
    prepared = skip > STAGES.index(READY) or all_commands(declared, release)
    noted = history
    if declared.hold in (OBEY, DROP):
        noted = replace(history, declared=choice.hold.instead_of if choice.hold else release)
    if declared.until != BUILT and declared.hold == BACK:
        held = release_choice.new_hold(noted, release)
        stages[READY] += hold_changes(layout, hold, held)
        hold = held  # what follows finds it so, in check mode too
    elif declared.until == READY and prepared and release != previous:
        reason = f"release {release} is rolled out"
        # Before its commands: where one fails, who goes back stays with what is current.
        stages[READY] = [*history_changes(layout, history, replace(noted, rolling_out=release), reason), *stages[READY]]
    # What other hosts hold may be the release that would become current here.
    unheard = not declared.release and declared.hold == OBEY and not choice.hold and release != previous
    waits = declared.others and declared.until != BUILT and (not prepared or (declared.until == LINKED and unheard))
    if declared.until == LINKED and prepared and not waits:
        stages[LINKED] = list(link_changes(declared, release, previous, history, noted, hold))
    planned = [change for stage in STAGES[skip:] for change in stages[stage]]
    done = commands_after(declared, release) if skip <= STAGES.index(READY) else [digest(argv) for argv in declared.commands]
    waits_for = [packages.waiting(change.step) for change in planned] if archive is None else []  # told before it came
    notes = [*choice.notes, *filter(None, waits_for)]
    return Plan(planned, release, previous, archive_needed, done, notes, choice.hold, waits)


def build_changes(
    declared: Declared, release: str, previous: str | None, python: build.Interpreter, archive: str | None
) -> Iterator[Change]:
    """Yield what makes a release that is not there, or not whole."""
    layout = declared.layout
    require_space(layout, release, declared.source or {}, archive)
    yield from build.venv_package(python, declared.user)
    reason = (
        "incomplete" if os.path.isdir(layout.release(release)) else "no release of this source, requirements and Python"
    )
    yield Change(
        Step("write", f"release {release}", reason),
        partial(make, declared, release, previous, python, archive),
        release_diff(layout, previous, release, declared),
    )


def link_changes(
    declared: Declared, release: str, previous: str | None, history: History, noted: History, hold: Hold | None
) -> Iterator[Change]:
    """Yield what makes a release current, and what follows from that: holds, memory, old releases that go.

    The hold comes first: with the release not current yet, the next run still makes for it.
    """
    layout = declared.layout
    wanted = release_choice.new_hold(noted, release)
    remembered = noted.after(release, previous if declared.hold == BACK else None)
    yield from hold_changes(layout, hold, wanted)
    if release != previous:
        yield Change(
            Step("live", f"release {release}", f"current was {previous or 'not set'}"),
            partial(switch, layout, release, remembered),
        )
    else:
        over = f"release {history.rolling_out} is no longer rolled out"
        yield from history_changes(layout, history, remembered, over if history.rolling_out else f"release {noted.declared} is declared")
    kept = {release, *earlier(layout, remembered, release)}
    yield from prune_changes(declared, kept | ({wanted.use, wanted.instead_of} if wanted else set()))


def history_changes(layout: Layout, present: History, wanted: History, reason: str) -> Iterator[Change]:
    """Yield what makes the host remember its releases as wanted."""
    if wanted != present:
        path = layout.history
        yield Change(Step("write", f"file {path}", reason), partial(host.write, path, wanted.text, mode=0o600))


def hold_changes(layout: Layout, present: Hold | None, wanted: Hold | None) -> Iterator[Change]:
    """Yield what makes the hold as wanted."""
    if wanted == present:
        return
    if wanted is None:
        yield Change(Step("remove", f"file {layout.hold}", "the declared release is used again"), partial(host.remove, layout.hold))
    else:
        why = f"{wanted.use} in place of {wanted.instead_of}: it was asked for, or the rollout failed, here or on another host"
        yield Change(Step("write", f"file {layout.hold}", why), partial(host.write, layout.hold, wanted.text, mode=0o600))


def release_id(declared: Declared, python: build.Interpreter) -> str:
    """Return the name of the release: the same for the same source, requirements and Python, and only then."""
    source = declared.source or {}
    parts = [source["kind"], source["fingerprint"], list(declared.requirements), declared.python, python.version]
    if declared.shared:
        parts.append(list(declared.shared))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def current(layout: Layout) -> str | None:
    """Return the release that ``current`` names, if any."""
    try:
        return os.path.basename(os.readlink(layout.current))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WorkfleetError(f"{layout.current} is in the way: it is no link. Move it away") from error


def complete(layout: Layout, release: str) -> bool:
    """Tell whether a release was built to its end and still has its parts."""
    text = host.read(layout.marker(release))
    with suppress(ValueError, TypeError, KeyError):
        return bool(
            text
            and json.loads(text)["id"] == release
            and os.path.exists(layout.python(release))
            and os.path.isdir(layout.src(release))
        )
    return False


def existing(path: str) -> str:
    """Return the directory itself, or the nearest one above it that is there: both are on one disk."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def one_more(layout: Layout) -> int:
    """Return how many bytes one more release will probably take: as many as the current one, and some to spare."""
    return MARGIN_BYTES + size_of(os.path.realpath(layout.current))


def size_of(folder: str) -> int:
    """Return how many bytes the files below a directory take; none where it is not there."""
    return sum(os.lstat(os.path.join(where, name)).st_blocks * 512 for where, _, files in os.walk(folder) for name in files)


def require_space(layout: Layout, release: str, source: Mapping[str, Any], archive: str | None) -> None:
    """Refuse to begin where the disk is too full to end."""
    place = existing(layout.releases)
    packed = os.path.getsize(archive) if archive else 0
    # What a build that was cut short has left of it goes first.
    needed = max(one_more(layout), MARGIN_BYTES + max(source["size"], packed * 4)) - size_of(layout.release(release))
    free = shutil.disk_usage(place).free
    if free < needed:
        raise WorkfleetError(
            f"{place} has {free // 1_000_000} MB free, and a new release with its virtualenv needs about "
            f"{needed // 1_000_000} MB: make room there, or lower app_releases_kept. Nothing was changed"
        )


def release_diff(layout: Layout, previous: str | None, release: str, declared: Declared) -> dict[str, str]:
    """Return what a diff says of a new release."""
    source = declared.source or {}
    after = [
        f"release {release}",
        f"source {source['label']}",
        *(f"requirement {build.masked(item, declared.secrets)}" for item in declared.requirements),
        *(f"shared {path}" for path in declared.shared),
    ]
    return {
        "before_header": layout.current,
        "after_header": layout.current,
        "before": f"release {previous}\n" if previous else "",
        "after": "\n".join(after) + "\n",
    }


def make(
    declared: Declared, release: str, previous: str | None, python: build.Interpreter, archive: str | None
) -> None:
    """Build a release whole, or leave nothing of it. What is there of it goes first, unless something runs from it."""
    target = declared.layout.release(release)
    if os.path.isdir(target) and release in in_use.running(declared.name, declared.layout.releases, declared.user):
        raise WorkfleetError(
            f"release {release} lacks a part (its release.json, src or venv/bin/python), so it has to be built anew, and processes "
            f"run from {target}: put back what is missing, or stop them first (stop.yml). Nothing of it was touched"
        )
    discard(declared.layout, release)
    order = build.Order(
        layout=declared.layout,
        release=release,
        user=declared.user,
        group=declared.group,
        python=python,
        source=declared.source or {},
        requirements=declared.requirements,
        pip_environment=declared.pip_environment,
        archive=archive,
        shared=declared.shared,
    )
    try:
        build.build(order)
    except (WorkfleetError, OSError) as error:
        # Python's venv does not tell why it failed. Before what was built is removed.
        free = shutil.disk_usage(declared.layout.releases).free
        full = f"\nThe disk is full: {free // 1_000_000} MB are left where the releases are." if free < FULL_BYTES else ""
        with suppress(WorkfleetError):
            discard(declared.layout, release)
        said = build.masked(str(error), declared.secrets)
        untouched = f"The current release {previous} is untouched" if previous else "There is no current release yet"
        raise WorkfleetError(
            f"release {release} of {declared.name} could not be built: {said}{full}\n{untouched}."
        ) from error


def discard(layout: Layout, release: str) -> None:
    """Remove a release; one of which only a part is gone must not count as complete."""
    host.remove(layout.marker(release))
    host.remove(layout.release(release))


def switch(layout: Layout, release: str, remembered: History) -> None:
    """Let ``current`` name a release, in one step, and remember it.

    Killed between the two, it is found in ``current`` all the same.
    """
    host.link(os.path.join("releases", release), layout.current)
    # The time of the marker is when the release was last chosen; what is kept goes by it.
    text = host.read(layout.marker(release))
    if text is not None:
        host.write(layout.marker(release), text)
    host.write(layout.history, remembered.text, mode=0o600)


# The app's environment


def environment_file(declared: Declared) -> Iterable[Change]:
    """Yield the change of ``env/app.env``. Only its owner may read it, and no diff shows a secret."""
    text = envfile.render(declared.environment)
    shown = partial(masked_environment, declared)
    return changes.file(declared.layout.app_env, text, Rights(0o600, declared.user, declared.group), shown=shown)


def masked_environment(declared: Declared, present: str | None) -> dict[str, str]:
    """Return the diff of ``env/app.env``; a value is shown only where its name is declared as ordinary."""
    try:
        before = envfile.parse(present or "")
    except WorkfleetError:
        before = {}
    old, new = [], []
    for name in before:
        ordinary = name in declared.environment and name not in declared.secret_names
        old.append(f"{name}={before[name] if ordinary else '<secret>'}\n")
    for name, value in declared.environment.items():
        new.append(f"{name}={secret_diff(before.get(name), value) if name in declared.secret_names else value}\n")
    # A secret that stays the same must not look like a difference.
    old = [line if not line.endswith("=<secret>\n") else same_or_old(line, new) for line in old]
    path = declared.layout.app_env
    return {"before_header": path, "after_header": path, "before": "".join(old), "after": "".join(new)}


def same_or_old(line: str, new: list[str]) -> str:
    """Return the line of a masked value, equal to the new line where the value is the same."""
    unchanged = line.replace("=<secret>", "=<secret unchanged>")
    return unchanged if unchanged in new else line


# Release commands


def command_changes(
    declared: Declared, release: str, previous: str | None, python: build.Interpreter
) -> Iterator[Change]:
    """Yield the release commands that were not run yet for this release, and what other hosts tell of them."""
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
                partial(run_command, declared, release, previous, python, argv, what),
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
        return dict(json.loads(host.read(layout.commands) or "{}"))
    except (ValueError, OSError) as error:
        raise WorkfleetError(
            f"{layout.commands}, which tells what release commands were run, cannot be read: {error}. Remove it only "
            "if they may run again"
        ) from error


def remember(layout: Layout, release: str, digests: Iterable[str]) -> None:
    """Note that commands were run for a release."""
    done = commands_done(layout)
    done[release] = [*done.get(release, []), *digests]
    host.write(layout.commands, json.dumps(done, indent=1) + "\n", mode=0o600)


def run_command(
    declared: Declared, release: str, previous: str | None, python: build.Interpreter, argv: tuple[str, ...], what: str
) -> None:
    """Run one release command as a node of the new release would be run."""
    layout = declared.layout
    # By app_python, which the app's user can read: our own interpreter may be in root's home.
    launcher = [python.path, "-I", os.path.join(layout.workfleet, "launch.py"), "--user", declared.user]
    place = ["--env-file", layout.app_env, "--chdir", layout.src(release), "--path", layout.venv_bin(release)]
    done = foreign.run(declared.user, [*launcher, *place, "--", *argv], check=False, timeout=build.LONG_SECONDS, locks=build.held)
    if done.rc != 0:
        said = build.masked(build.tail(done.out + done.err), declared.secrets)
        untouched = f"The current release {previous} is untouched" if previous else "No release is current"
        raise WorkfleetError(
            f"{what} ({argv[0]}) of {declared.name} failed with status {done.rc}:\n{said}\n{untouched}; the next run "
            "begins with this command.",
            rc=done.rc,
        )
    remember(layout, release, [digest(argv)])


# Old releases


def earlier(layout: Layout, history: History, release: str) -> list[str]:
    """Return the release that ``rollback.yml`` would go back to from this one, if there is one."""
    return [name for name in history.releases if name != release and complete(layout, name)][-1:]


def prune_changes(declared: Declared, wanted: set[str]) -> Iterator[Change]:
    """Yield the removal of releases beyond the kept ones, and of what interrupted builds left.

    Never of a wanted one, nor of one that something on this host still needs. What needs none any more goes with the next run, so
    this is looked for each time; but processes are looked at only where there is something to remove.
    """
    layout = declared.layout
    present = [name for name in listed(layout.releases) if RELEASE_ID.match(name) and name not in wanted]
    whole = sorted(
        (name for name in present if complete(layout, name)),
        key=lambda name: os.path.getmtime(layout.marker(name)),
        reverse=True,
    )
    spare = whole[max(0, declared.kept - len(wanted)) :]
    surplus = [name for name in present if name in spare or name not in whole]
    busy = in_use.needed(declared.name, layout, declared.user) if surplus else set()
    for name in surplus:
        if name not in busy:
            reason = f"beyond the {declared.kept} kept" if name in spare else "left by an interrupted build"
            yield Change(Step("remove", f"release {name}", reason), partial(discard, layout, name))


def listed(path: str) -> list[str]:
    """Return the names in a directory, sorted; none where it is not there."""
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
