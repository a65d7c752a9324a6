"""An app on a host: what is declared of it, what is there, and the changes between the two.

Everything is observed and planned here; ``build`` makes a release, and ``builds`` tells what was made of it here. A build is *complete*
when its ``release.json``, written last, stands in it. Only a complete one ever becomes ``current``.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import WorkfleetError
from ..host import builds, changes, effects, envfile, packages, release_choice
from ..host.changes import Change, Rights
from ..host.layout import Layout
from ..host.release_choice import BACK, BUILT, DROP, FAILED, FREE, GIVE_UP, LINKED, OBEY, READY, STAGES, STAY, History, Hold
from ..host.steps import Step, secret_diff
from ..nodes import lease
from . import build, in_use, shared
from .commands import all_commands, command_changes, commands_after, digest
from .declared import Declared
from .foundation import foundation
from .present import current, discard, earlier, switch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MARGIN_BYTES = 100_000_000
#: Who finds less than this after a build that failed has found why.
FULL_BYTES = 5_000_000


@dataclass(frozen=True)
class Plan:
    """The changes of one host, in the order in which they are carried out.

    ``release`` is the id that the whole fleet has for it, ``build`` what this host has of it. ``commands_done`` are the digests of the
    release commands that will have been run for the release then. ``notes`` are sentences for people. ``hold`` is the one that is obeyed,
    ``held`` the one that stands then, ``version`` that of the source of the release in use then. ``waits`` says that it goes no
    further before a second call tells what other hosts hold and have run; that one goes on behind the stage ``reached``.
    """

    changes: list[Change]
    release: str | None
    build: str | None
    previous: str | None
    archive_needed: bool
    commands_done: list[str]
    notes: list[str] = field(default_factory=list)
    hold: Hold | None = None
    held: Hold | None = None
    waits: bool = False
    reached: str = BUILT
    version: str | None = None

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

    Refuses where another run is replacing nodes: which release is current, and which it would go back to, are that one's. Refuses
    before anything is changed where the broker or the result store is not reached; what goes back goes back whoever is gone.
    """
    if declared.hold != BACK:
        from ..nodes import stores  # a release that is there already is not made

        stores.require_reached(*declared.stores)
    first = list(foundation(declared))
    for change in first:
        change.carry_out()
    with build.alone(declared.layout.lock):
        # Not before: the other run may have been building, and replace nodes by now. What is only built is in nobody's way.
        if declared.until != BUILT:
            lease.require_free(declared.root, declared.name, declared.run, declared.ended_run)
        rest = plan_release(declared, archive)
        for change in rest.changes:
            change.carry_out()
    return merged(first, rest)


def merged(first: list[Change], rest: Plan) -> Plan:
    """Return one plan of both parts."""
    return replace(rest, changes=[*first, *rest.changes])


# The release


class Choice(NamedTuple):
    """The release that a host is to use, and which build; by what hold in place of the declared one; what people are told."""

    release: str
    build: str
    hold: Hold | None = None
    notes: tuple[str, ...] = ()


def choose(declared: Declared, maker: builds.Maker, hold: Hold | None, history: History, *, foretold: bool) -> Choice:
    """Return the declared release, or the one that takes its place. One that was ``foretold`` need not be there."""
    layout = declared.layout
    if declared.release:
        return asked(declared, maker, history, foretold=foretold)
    given = release_choice.identity(declared.source or {}, declared.made_of)
    release = declared.declares or given
    holds = [each for each in (hold, *declared.holds) if each is not None and each.applies(release, declared.words)]
    if declared.hold != OBEY or not holds:
        return Choice(release, builds.wanted(layout, release, maker))
    obeyed = replace(holds[0], instead_of=release)
    where = f"on this host in place of {release} ({layout.hold}), and it is no longer there"
    if holds[0] != hold:
        where = f"on other hosts in place of {release}, and it is not on this host: declare another version"
    can_be_built = given == obeyed.use
    if obeyed.use not in builds.here(layout) and not can_be_built:
        raise WorkfleetError(
            f"release {obeyed.use} is held {where}: -e release_hold=false uses the declared release all the same", lacking=obeyed.use
        )
    used = builds.wanted(layout, obeyed.use, maker) if can_be_built else builds.best(layout, obeyed.use, maker)
    return Choice(obeyed.use, used, obeyed, (obeyed.sentence(release),))


def next_hold(declared: Declared, choice: Choice, hold: Hold | None, noted: History) -> Hold | None:
    """Return the hold that is to stand at the end; ``noted`` is what is remembered of the declaration by then."""
    if declared.hold not in (STAY, BACK, FAILED, FREE):
        return choice.hold
    # What somebody asked for, or what failed before, is not made another reason's.
    if hold is not None and hold.use == choice.release and hold.applies(noted.gives(declared.words), declared.words):
        return hold
    if declared.hold == FREE:
        return None
    return release_choice.new_hold(noted, choice.release, declared.words, declared.why, failed=declared.hold == FAILED)


def asked(declared: Declared, maker: builds.Maker, history: History, *, foretold: bool) -> Choice:
    """Return the release that is asked for by its id, by the name of a build, or by a word."""
    layout, word = declared.layout, declared.release
    is_build = builds.BUILD.match(word) and (foretold or (word != builds.release_of(word) and builds.complete(layout, word)))
    if is_build:
        return Choice(builds.release_of(word), word)
    present = current(layout)
    running: set[str] = set()
    if word == release_choice.RUNNING:
        running = in_use.named(layout.releases, in_use.enabled(declared.name, layout))
    here = builds.here(layout)
    if word in (release_choice.RUNNING, release_choice.CURRENT):  # it stays, whatever has become of its Python
        here = sorted({builds.release_of(name) for name in builds.present(layout) if builds.complete(layout, name)})
        running = running or ({present} if present else set())
    of_nodes = {builds.release_of(name) for name in running}
    release = release_choice.named(word, history, present and builds.release_of(present), here, of_nodes)
    return Choice(release, builds.best(layout, release, maker, running))


def plan_release(declared: Declared, archive: str | None, skip: int = 0) -> Plan:
    """Return the changes of the release and of what goes with it; without those of the first ``skip`` stages."""
    layout = declared.layout
    present = current(layout)
    previous = present and builds.release_of(present)
    if declared.source is None and not declared.release:
        if declared.until != LINKED:
            raise WorkfleetError(f"app_source: is not set, so {declared.name} has no releases that could be deployed")
        return Plan(list(environment_file(declared)), None, None, previous, False, [])
    python = build.interpreter(declared.python, declared.user)
    maker = builds.Maker(declared.python, python.version)
    hold = release_choice.read_hold(layout)
    history = release_choice.read_history(layout, previous, hold)
    choice = choose(declared, maker, hold, history, foretold=bool(skip))
    release = choice.release
    if choice.hold:  # its commands were run when it was the declared one, or were not thought of then
        declared = replace(declared, commands=())
    # What other hosts hold, and this one lacks, was not foretold.
    building = (not skip or choice.hold is not None) and not builds.complete(layout, choice.build)
    archive_needed = building and (declared.source or {})["kind"] != "index" and archive is None
    made = list(build_changes(declared, choice.build, previous, python, archive)) if building else []
    stages: dict[str, list[Change]] = {stage: [] for stage in STAGES}
    stages[BUILT] = [] if skip else list(shared.changes(shared.below(layout.shared, declared.shared), declared.user, declared.group))
    stages[BUILT] += environment_file(declared)
    prepared = skip > STAGES.index(READY) or all_commands(declared, release)
    # Of who is to wait for other hosts nothing but the build is done: what they tell comes first.
    if declared.until != BUILT and (prepared or not declared.others):
        stages[READY] = list(command_changes(declared, choice.build, previous, python))
    noted = history
    if declared.hold in (OBEY, DROP) and declared.own:
        given, source = choice.hold.instead_of if choice.hold else release, declared.words.source or history.source
        noted = replace(history, declared=given, source=source)
    held = next_hold(declared, choice, hold, noted)
    if declared.until != BUILT and declared.hold in GIVE_UP:
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
        stages[LINKED] = [*hold_changes(layout, hold, held), *link_changes(declared, choice, present, history, noted, held)]
    planned = [*made, *(change for stage in STAGES[skip:] for change in stages[stage])]
    done = commands_after(declared, release) if skip <= STAGES.index(READY) else [digest(argv) for argv in declared.commands]
    waits_for = [packages.waiting(change.step) for change in planned] if archive is None else []  # told before it came
    notes = [*choice.notes, *filter(None, waits_for)]
    reached = READY if prepared else BUILT
    version = (declared.source or {}).get("version") if building else (builds.description(layout, choice.build) or {}).get("version")
    return Plan(planned, release, choice.build, previous, archive_needed, done, notes, choice.hold, held, waits, reached, version)


def build_changes(
    declared: Declared, name: str, previous: str | None, python: build.Interpreter, archive: str | None
) -> Iterator[Change]:
    """Yield what makes a build that is not there, or not whole."""
    layout, release = declared.layout, builds.release_of(name)
    require_space(layout, name, declared.source or {}, archive)
    yield from build.venv_package(python, declared.user)
    reason = "no release of this source and requirements"
    if builds.of(layout, release):
        reason = f"what is there of it was made by another Python than {declared.python} ({python.version})"
    elif os.path.isdir(layout.release(name)):
        reason = "incomplete"
    yield Change(
        Step("write", f"release {release}", reason),
        partial(make, declared, name, previous, python, archive),
        release_diff(layout, previous, release, declared),
    )


def link_changes(
    declared: Declared, choice: Choice, present: str | None, history: History, noted: History, held: Hold | None
) -> Iterator[Change]:
    """Yield what makes a release current, and what follows from that: memory, old releases that go.

    The hold comes before it: with the release not current yet, the next run still makes for it.
    """
    layout, release = declared.layout, choice.release
    previous = present and builds.release_of(present)
    remembered = noted.after(release, previous if declared.hold in GIVE_UP else None)
    if choice.build != present:
        reason = f"current was {previous or 'not set'}" + (", made by another Python" if previous == release else "")
        yield Change(Step("live", f"release {release}", reason), partial(switch, layout, choice.build, remembered))
    else:
        over = f"release {history.rolling_out} is no longer rolled out"
        yield from history_changes(layout, history, remembered, over if history.rolling_out else f"release {noted.declared} is declared")
    kept = [*earlier(layout, remembered, release), *((held.use, held.instead_of) if held else ())]
    yield from prune_changes(declared, choice.build, {name for name in kept if name != release})


def history_changes(layout: Layout, present: History, wanted: History, reason: str) -> Iterator[Change]:
    """Yield what makes the host remember its releases as wanted."""
    if wanted != present:
        path = layout.history
        yield Change(Step("write", f"file {path}", reason), partial(effects.write, path, wanted.text, mode=0o600))


def hold_changes(layout: Layout, present: Hold | None, wanted: Hold | None) -> Iterator[Change]:
    """Yield what makes the hold as wanted."""
    if wanted == present:
        return
    if wanted is None:
        yield Change(Step("remove", f"file {layout.hold}", "the declared release is used again"), partial(effects.remove, layout.hold))
    else:
        why = wanted.why or "it was asked for, or the rollout failed, here or on another host"
        text = f"{wanted.use} in place of {wanted.instead_of or 'what is declared'}: {why}"
        yield Change(Step("write", f"file {layout.hold}", text), partial(effects.write, layout.hold, wanted.text, mode=0o600))


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


def require_space(layout: Layout, name: str, source: Mapping[str, Any], archive: str | None) -> None:
    """Refuse to begin where the disk is too full to end."""
    place = existing(layout.releases)
    packed = os.path.getsize(archive) if archive else 0
    # What a build that was cut short has left of it goes first.
    needed = max(one_more(layout), MARGIN_BYTES + max(source["size"], packed * 4)) - size_of(layout.release(name))
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
    declared: Declared, name: str, previous: str | None, python: build.Interpreter, archive: str | None
) -> None:
    """Build a release whole, or leave nothing of it. What is there of this build goes first, unless something runs from it."""
    release, target = builds.release_of(name), declared.layout.release(name)
    if os.path.isdir(target) and name in in_use.running(declared.name, declared.layout.releases, declared.user):
        raise WorkfleetError(
            f"release {release} lacks a part (its release.json, src or venv/bin/python), so it has to be built anew, and processes "
            f"run from {target}: put back what is missing, or stop them first (stop.yml). Nothing of it was touched"
        )
    discard(declared.layout, name)
    order = build.Order(
        layout=declared.layout,
        release=name,
        user=declared.user,
        group=declared.group,
        python=python,
        app_python=declared.python,
        source=declared.source or {},
        requirements=declared.requirements,
        pip_environment=declared.pip_environment,
        step_seconds=declared.step_seconds,
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
            discard(declared.layout, name)
        said = build.masked(str(error), declared.secrets)
        untouched = f"The current release {previous} is untouched" if previous else "There is no current release yet"
        raise WorkfleetError(
            f"release {release} of {declared.name} could not be built: {said}{full}\n{untouched}."
        ) from error


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


# Old releases


def prune_changes(declared: Declared, used: str, wanted: set[str]) -> Iterator[Change]:
    """Yield the removal of releases beyond the kept ones, of builds that another has taken the place of, and of interrupted ones.

    Never of the build that is ``used`` or the last one of a ``wanted`` release, nor of one that something on this host still needs. What
    needs none any more goes with the next run, so this is looked for each time; but processes are looked at only where there is something
    to remove.
    """
    layout = declared.layout
    present = builds.present(layout)
    complete = sorted(filter(partial(builds.complete, layout), present), key=lambda name: os.path.getmtime(layout.marker(name)))
    # Of each release the build that was last chosen, or is about to be.
    last = {**{builds.release_of(name): name for name in complete}, builds.release_of(used): used}
    kept = {used, *(last[release] for release in wanted if release in last)}
    others = [name for name in reversed(complete) if name in last.values() and name not in kept]
    spare = others[max(0, declared.kept - len(kept)) :]
    surplus = [name for name in present if name in spare or name not in {*kept, *others}]
    busy = in_use.needed(declared.name, layout, declared.user) if surplus else set()
    for name in surplus:
        if name not in busy:
            reason = f"beyond the {declared.kept} kept" if name in spare else "left by an interrupted build"
            if name in complete and name not in spare:
                reason = "made by another Python, and no longer used"
            yield Change(Step("remove", f"release {builds.release_of(name)}", reason), partial(discard, layout, name))
