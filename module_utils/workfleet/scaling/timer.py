"""The timer that evaluates policies from a control host: its files, its units, and whether it runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import WorkfleetError
from ..host import changes, effects, packages
from ..host.changes import Change, Rights
from ..host.steps import Step, text_diff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

UNITS = "/etc/systemd/system"
#: An evaluation may take as long as its unit allows, and is then ended by systemd.
EVALUATION_SECONDS = 960


@dataclass(frozen=True)
class Request:
    """What the host is to have. ``files`` are those that the account alone reads, ``path below root → text``, and may hold
    secrets; ``public`` are others below the root; ``service`` and ``timer`` are the texts of the units."""

    app: str
    name: str
    user: str
    root: str
    state: str
    files: dict[str, str]
    executable: list[str]
    public: dict[str, str]
    service: str
    timer: str

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Request:
        """Return the request in a decoded payload."""
        return cls(**raw)

    def units(self) -> dict[str, str]:
        """Return the units' texts by path."""
        return {os.path.join(UNITS, f"{self.name}.{kind}"): text for kind, text in (("service", self.service), ("timer", self.timer))}

    def under(self, *parts: str) -> str:
        """Return a path below the root."""
        return os.path.join(self.root, *parts)


#: Directories below the root that the account alone reads, and root writes. What is in them and not asked for is removed.
COPIED = ("inventory", "private")
#: The account's own.
HOME = "home"


def plan(request: Request) -> list[Change]:
    """Return all that is to be done, in order."""
    check_owner(request)
    return list(absent(request) if request.state == "absent" else present(request))


def check_owner(request: Request) -> None:
    """Refuse to change the units of another app, or somebody's own."""
    for path in request.units():
        text = effects.read(path)
        if text is not None and f"\nX-Workfleet-App={request.app}\n" not in text:
            raise WorkfleetError(f"{path} is there and not of the app {request.app}: choose another autoscaler_name")


def present(request: Request) -> Iterator[Change]:
    """Yield what is missing of the timer."""
    if shutil.which("ssh") is None:
        yield Change(packages.step("openssh-client", "the hosts are reached by it"), lambda: packages.install("openssh-client"))
    yield from changes.directory(request.under(HOME), Rights(0o700, request.user, request.user))
    yield from copies(request)
    for path, text in sorted(request.public.items()):
        yield from changes.file(request.under(path), text, Rights(0o644, "root", "root"))
    yield from collection(request)
    yield from service(request)


def copies(request: Request) -> Iterator[Change]:
    """Yield what makes the copy of the inventory, and of the secrets."""
    in_the_way = list(leftovers(request, request.files))
    yield from in_the_way
    gone = tuple(f"{change.step.unit}/" for change in in_the_way)
    for folder in sorted({*COPIED, *parents(request.files)}):
        path = request.under(folder)
        yield from changes.directory(path, Rights(0o750, "root", request.user), gone=f"file {path}/".startswith(gone))
    for file, text in sorted(request.files.items()):
        path = request.under(file)
        rights = Rights(0o750 if file in request.executable else 0o640, "root", request.user)
        yield from changes.file(path, text, rights, shown=hidden(path), gone=f"file {path}/".startswith(gone))


def hidden(path: str) -> Callable[[str | None], dict[str, str]]:
    """Return what makes the diff of a file that may hold secrets: it tells only that it changes."""

    def shown(before: str | None) -> dict[str, str]:
        return text_diff(path, None if before is None else "<content>\n", "<other content>\n")

    return shown


def parents(paths: Iterable[str]) -> set[str]:
    """Return the directories of paths below the root, and those above them there."""
    parts = [path.split("/") for path in paths]
    return {"/".join(words[:count]) for words in parts for count in range(1, len(words))}


def leftovers(request: Request, wanted: Mapping[str, str]) -> Iterator[Change]:
    """Yield the removal of all but directories that is not asked for, and of what stands where a directory or a file belongs."""
    folders = parents(wanted)
    for folder in COPIED:
        for below, mode in effects.tree(request.under(folder)).items():
            place = f"{folder}/{below}"
            if place in wanted if stat.S_ISDIR(mode) else place not in wanted or not stat.S_ISREG(mode):
                path, why = request.under(place), "it is in the way" if place in folders or place in wanted else "it is not asked for"
                yield Change(Step("remove", f"file {path}", why), lambda path=path: effects.remove(path))  # type: ignore[misc]


def collection(request: Request) -> Iterator[Change]:
    """Yield what lets Ansible find the toolkit under its name as a collection."""
    link, target = request.under("collections", "ansible_collections", "workfleet", "core"), request.under("current", "src")
    yield from changes.directory(os.path.dirname(link), Rights(0o755, "root", "root"))
    if effects.points_to(link) != target:
        yield Change(Step("write", f"link {link}", "missing"), lambda: effects.link(target, link))


def service(request: Request) -> Iterator[Change]:
    """Yield what brings the units, and whether they run, in line."""
    written = [change for path, text in request.units().items() for change in changes.file(path, text, Rights(0o644, "root", "root"))]
    yield from written
    timer = f"{request.name}.timer"
    shown = state(timer)
    if written or shown.get("NeedDaemonReload") == "yes":
        yield Change(Step("reload", None, "files were written"), lambda: systemctl("daemon-reload"))
    runs = request.state == "started"
    if (shown.get("UnitFileState") == "enabled") != runs:
        word = "enable" if runs else "disable"
        yield Change(Step(word, timer, "it should start at boot" if runs else "it is declared stopped"), lambda: systemctl(word, timer))
    is_up = shown.get("ActiveState") == "active"
    if is_up != runs:
        action = "start" if runs else "stop"
        yield Change(Step(action, timer, "it is not running" if runs else "it is declared stopped"), lambda: systemctl(action, timer))
    elif is_up and any(change.step.unit == f"file {path}" for change in written for path in request.units() if path.endswith(".timer")):
        yield Change(Step("restart", timer, "it has changed"), lambda: systemctl("restart", timer))


def prove(request: Request, *, changed: bool) -> None:
    """See one evaluation end well, where the timer is another one than before or its last one failed; raise with what it says."""
    service = f"{request.name}.service"
    if request.state != "started" or not (changed or state(service).get("Result", "success") != "success"):
        return
    done = effects.run(["systemctl", "start", service], check=False, timeout=EVALUATION_SECONDS)  # waits for one that runs already
    if done.rc:
        said = effects.run(["journalctl", f"--unit={service}", "--lines=20", "--output=cat", "--no-pager"], check=False).out.strip()
        raise WorkfleetError(f"{request.name}.timer is there, but an evaluation fails, and no number of nodes follows anything. Mend what "
                             f"it says, and run site.yml again:\n{said or done.err.strip()}")


def absent(request: Request) -> Iterator[Change]:
    """Yield what ends the timer and takes its secrets away; the toolkit's own files stay."""
    timer = f"{request.name}.timer"
    if any(effects.exists(path) for path in request.units()):
        shown = state(timer)
        if shown.get("UnitFileState") == "enabled":
            yield Change(Step("disable", timer, "it is declared absent"), lambda: systemctl("disable", timer))
        if shown.get("ActiveState") == "active":
            yield Change(Step("stop", timer, "it is declared absent"), lambda: systemctl("stop", timer))
        for path in request.units():
            if effects.exists(path):
                yield Change(Step("remove", f"file {path}", "it is declared absent"), lambda path=path: end(path))  # type: ignore[misc]
        yield Change(Step("reload", None, "files were removed"), lambda: systemctl("daemon-reload"))
    yield from leftovers(request, {})


def end(path: str) -> None:
    """Remove a unit; an evaluation that happens to run ends first."""
    systemctl("stop", os.path.basename(path))
    effects.remove(path)


def state(unit: str) -> dict[str, str]:
    """Return what systemd says of a unit; nothing where there is no systemd, which the first change would tell."""
    with contextlib.suppress(WorkfleetError):
        told = effects.run(["systemctl", "show", "--property=ActiveState,UnitFileState,NeedDaemonReload,Result", unit]).out
        return dict(line.partition("=")[::2] for line in told.splitlines())
    return {}


def systemctl(*words: str) -> None:
    """Have systemd do something; an evaluation that runs is waited for when it is stopped."""
    effects.run(["systemctl", *words], timeout=120)
