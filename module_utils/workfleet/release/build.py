"""Build a release on a host: unpack, virtualenv, pip; whatever is the app's own code runs as the app's user."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import WorkfleetError
from ..host import effects, foreign, limits, packages, seal, virtualenv
from ..host.builds import release_of
from ..host.changes import Change
from ..shown import without_credentials
from . import shared

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from ..host.layout import Layout

LOCK_SECONDS = 30
ASK_PYTHON = "import sys; print('%s-%d.%d' % (sys.implementation.name, *sys.version_info[:2]))"
# One release is built at a time in a process; what watches pip and the compilers under it holds this lock too.
held: list[int] = []


class Interpreter(NamedTuple):
    """``app_python`` as it was found on this host; ``version`` is such as ``cpython-3.11``."""

    path: str
    version: str


@dataclass(frozen=True)
class Order:
    """What a release is made of and for whom; ``release`` is the name of the build."""

    layout: Layout
    release: str
    user: str
    group: str
    python: Interpreter
    app_python: str
    source: Mapping[str, Any]
    requirements: tuple[str, ...]
    pip_environment: Mapping[str, str]
    step_seconds: float
    archive: str | None
    shared: tuple[str, ...] = ()


def interpreter(declared: str, user: str) -> Interpreter:
    """Find ``app_python`` and its version; our own process answers where it runs under the same Python."""
    path = shutil.which(declared)
    if path is None:
        raise WorkfleetError(f"app_python: {declared} is not on this host: install it, or name another Python")
    if sys.executable and os.path.realpath(path) == os.path.realpath(sys.executable):
        version = f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}"
    else:
        try:
            version = foreign.run(asker(user), [path, "-I", "-S", "-c", ASK_PYTHON]).out.strip()
        except WorkfleetError as error:
            raise WorkfleetError(f"app_python: {error}; name a Python that the app's user can run") from error
    return Interpreter(path, version)


def asker(user: str) -> str:
    """Return who runs ``app_python``, which may stand where the app can write: the app's user; nobody before there is one."""
    return user if effects.uid(user) is not None else "nobody"


def venv_package(python: Interpreter, user: str) -> list[Change]:
    """Return the installation of Debian's package for virtualenvs, where this Python cannot make them yet."""
    able = foreign.run(asker(user), [python.path, "-I", "-c", virtualenv.NEEDED], check=False).rc == 0
    if able:
        return []
    if os.geteuid() != 0 or not os.path.realpath(python.path).startswith("/usr/bin/"):
        raise WorkfleetError(
            f"{python.path} cannot make virtualenvs (it has no ensurepip): install the package python3-venv, or name "
            "another Python in app_python"
        )
    version = python.version.rpartition("-")[2]
    return [
        Change(
            packages.step(f"python{version}-venv", f"{python.path} cannot make virtualenvs without it"),
            lambda: packages.install(f"python{version}-venv"),
        )
    ]


def build(order: Order) -> None:
    """Make the directory of a release; its marker comes last."""
    from . import requirements  # most calls build nothing

    layout, release = order.layout, order.release
    rights = {"owner": order.user, "group": order.group}
    # Nobody else comes in before all is in its place.
    effects.directory(layout.release(release), mode=0o700)
    effects.directory(layout.src(release), mode=0o755)
    package: list[str] = []
    entries = order.requirements
    if order.source["kind"] == "tree":
        unpack(order.archive, layout.src(release), order.user, order.group)
    elif order.source["kind"] == "package":
        package.append(place(order))
    else:
        entries = (order.source["install"], *entries)
    wanted = requirements.parse(entries, layout.src(release), package)
    for path, text in wanted.rests.items():
        effects.write(path, text, owner=order.user, group=order.group)
    effects.directory(layout.src(release), mode=0o755, **rights)
    effects.directory(layout.venv(release), mode=0o755, **rights)
    effects.directory(layout.release(release), mode=0o755)
    virtualenv.make(partial(run_as, order), order.python.path, layout.venv(release))
    for install in wanted.calls():
        pip(order, install)
    for path in wanted.rests:
        effects.remove(path)
    # What is not compiled now never is: nothing that runs may write here. What does not compile may be no Python of this version.
    attempt(order, [layout.python(release), "-I", "-m", "compileall", "-q", "."])
    shared.link(partial(run_as, order), order.python.path, layout.shared, order.shared)
    close(order)
    effects.remove(os.path.join(layout.release(release), "package"))
    effects.directory(layout.release(release), mode=0o755)
    effects.write(layout.marker(release), json.dumps(description(order), indent=1) + "\n", mode=0o644)


def description(order: Order) -> dict[str, Any]:
    """Return what ``release.json`` tells of a release."""
    return {
        "id": release_of(order.release),
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": order.python.version,
        "app_python": order.app_python,
        "source": order.source["label"],
        "version": order.source.get("version"),
        "requirements": [without_credentials(item) for item in order.requirements],
        "shared": list(order.shared),
    }


def unpack(archive: str | None, target: str, user: str, group: str) -> None:
    """Unpack a tree that the control node packed, for the app's user, who cannot come there yet."""
    if archive is None:
        raise WorkfleetError("the source was not sent to this host; run the play again")
    from . import archives  # as above

    uid, gid = effects.uid(user), effects.gid(group)
    owner = (uid, gid) if os.geteuid() == 0 and uid is not None and gid is not None else None
    archives.require_inside(archives.unpack(archives.members(archive), target, owner))


def close(order: Order) -> None:
    """Take a release from the user that made it, before anything runs from it. Where we are not root, it is ours as well."""
    uid = effects.uid(order.user)
    if os.geteuid() == 0 and uid:
        effects.directory(order.layout.release(order.release), mode=0o700)
        for folder in (order.layout.src(order.release), order.layout.venv(order.release)):
            seal.seal(folder, uid)


def place(order: Order) -> str:
    """Put a wheel or sdist, under its own name, where the app's user can read it; return its path."""
    if order.archive is None:
        raise WorkfleetError("the source was not sent to this host; run the play again")
    folder = os.path.join(order.layout.release(order.release), "package")
    effects.directory(folder, mode=0o755)
    path = os.path.join(folder, order.source["install"])
    shutil.copyfile(order.archive, path)
    os.chmod(path, 0o644)
    return path


def pip(order: Order, install: list[str]) -> None:
    """Let the release's own pip install; where it fails, tell its last lines, and which of our entries they are about."""
    argv = [
        order.layout.python(order.release),
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--no-warn-script-location",
        "--progress-bar=off",
        *install,
    ]
    done = attempt(order, argv)
    if done.rc != 0:
        said = done.out + done.err
        raise WorkfleetError(f"{blamed(order, said)}: pip install failed with status {done.rc}:\n{tail(said)}", rc=done.rc)


def blamed(order: Order, said: str) -> str:
    """Return the entries that pip's errors name, each with its key; all of them where it names none, as of one in a file."""
    entries = [] if order.source["kind"] == "tree" else [("app_source", order.source["label"])]
    entries += [("app_requirements", entry) for entry in order.requirements]
    errors = "\n".join(line for line in said.splitlines() if line.startswith("ERROR:"))
    named = [(key, entry) for key, entry in entries for name in re.findall(r"\A\w[\w.-]*", entry)
             if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", errors, re.IGNORECASE)]
    return "; ".join(f"{key}: {entry}" for key, entry in named or [pair for pair in entries if pair[1][0] != "-"] or entries)


def run_as(order: Order, argv: list[str], stdin: str = "") -> None:
    """Run a part of the build as the app's user, and tell its last lines where it fails."""
    done = attempt(order, argv, stdin)
    if done.rc != 0:
        raise WorkfleetError(f"{' '.join(argv[:4])} failed with status {done.rc}:\n{tail(done.out + done.err)}", rc=done.rc)


def attempt(order: Order, argv: list[str], stdin: str = "") -> effects.Completed:
    """Run a part of the build as the app's user. Should we be killed, it ends too, and the lock is held until it has."""
    environment = foreign.for_pip({"PIP_CACHE_DIR": order.layout.cache, **order.pip_environment})
    src = order.layout.src(order.release)
    return foreign.run(order.user, argv, check=False, timeout=limits.of_step(order.step_seconds), cwd=src, env=environment, locks=held,
                       stdin=stdin)


def tail(text: str, lines: int = 15) -> str:
    """Return the last lines of an output."""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])


def masked(text: str, secrets: list[str]) -> str:
    """Return ``text`` without secret values. Very short ones are words of every text, and are left."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "<secret>")
    return without_credentials(text)


@contextmanager
def alone(path: str) -> Iterator[None]:
    """Hold the app's release lock of this host; where we are killed, it is held until all of the build has ended."""
    with effects.lock_file(path) as file:
        wait_for(file, time.monotonic() + LOCK_SECONDS)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S %Z')}")
        file.flush()
        held.append(file.fileno())
        try:
            yield
        finally:
            held.remove(file.fileno())


def wait_for(file: TextIO, deadline: float) -> None:
    """Take the lock before ``deadline``, or name its holder."""
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.seek(0)
                raise WorkfleetError(
                    f"another run works on the release of this app on this host ({file.read() or 'unknown'}); it had "
                    f"{LOCK_SECONDS} s to end. Wait for it, or end it"
                ) from None
            time.sleep(0.2)
