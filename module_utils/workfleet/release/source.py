"""Where a release's code comes from, on the control node: fingerprint it, and pack it for the hosts that lack it.

A *tree* (``directory``, ``git``, and archives of plain files) becomes one tar.gz of our own, the same bytes for the
same files. A wheel or an sdist is sent as it is, and ``pypi`` sends nothing: pip fetches it on the host.
"""

from __future__ import annotations

import fcntl
import fnmatch
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from .. import shown
from ..errors import WorkfleetError
from ..host.limits import STEP_SECONDS, of_step
from ..shown import without_credentials
from . import archives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TYPES = ("directory", "archive", "git", "pypi")
DEFAULT_EXCLUDE = (".git", ".env", "*.pyc")
COMMIT = re.compile(r"[0-9a-f]{40}\Z")
GIT_BYTES = 64 * 1024 * 1024
#: Never ``ext``, which runs a command.
GIT_PROTOCOLS = "file:git:http:https:ssh"
#: What git itself allows in no name of a branch or tag, and what would be an option or a refspec.
NO_REF = re.compile(r"\A[-+]|[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{")


#: What git keeps of a file of git-LFS begins so, and is never long.
POINTER, POINTER_BYTES = b"version https://git-lfs.github.com/spec/v1\n", 1024
MODULES, MODULES_BYTES = ".gitmodules", 1 << 20
MODULE_PATH = re.compile(rb"(?m)^[ \t]*path[ \t]*=[ \t]*(.+?)[ \t\r]*$")


class Entry(NamedTuple):
    """One file of a tree has ``read`` (opens its content), a symbolic link ``link`` (its target); an empty directory has neither."""

    path: str
    executable: bool
    size: int
    read: Callable[[], BinaryIO] | None = None
    link: str | None = None

    @property
    def kind(self) -> str:
        """The word of :class:`archives.Member` for it."""
        return "link" if self.link is not None else "file" if self.read else "directory"


@dataclass(frozen=True)
class Source:
    """A source that was looked at. ``kind`` is ``tree``, ``package`` (wheel, sdist) or ``index`` (pypi).

    ``fingerprint`` changes exactly when the code does. ``size`` counts unpacked bytes where they are known.
    ``install`` is pip's argument for ``package`` and ``index``. ``pack`` writes what is sent into a file. ``version`` gives the same
    source again, where it has versions.
    """

    kind: str
    fingerprint: str
    label: str
    size: int = 0
    install: str | None = None
    pack: Callable[[str], None] | None = None
    version: str | None = None


def look(kind: str, location: str, version: str | None, exclude: Iterable[str] | None, cache: str, seconds: float = STEP_SECONDS) -> Source:
    """Return the source as it is now. ``cache`` is a directory that lives as long as this run of a playbook; git has ``seconds``."""
    if kind == "directory":
        return directory(location, DEFAULT_EXCLUDE if exclude is None else tuple(exclude))
    if kind == "archive":
        return archive(location, tuple(exclude or ()), cache)
    if kind == "git":
        return git(location, version, tuple(exclude or ()), cache, partial(run_git, seconds=seconds))
    return Source("index", digest("pypi", location, version), f"{location} {version}", install=f"{location}=={version}", version=version)


def digest(*parts: object) -> str:
    """Return the SHA-256 of JSON-ready values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# A tree: list, fingerprint, pack


def excluded(path: str, patterns: Iterable[str]) -> bool:
    """Tell whether a pattern names the file or a directory above it: by its name, or (with a ``/``) by its whole "
    "path."""
    parts = path.split("/")
    above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    for pattern in patterns:
        candidates = above if "/" in pattern.strip("/") else parts
        if any(fnmatch.fnmatchcase(candidate, pattern.strip("/")) for candidate in candidates):
            return True
    return False


def fingerprint(entries: Iterable[Entry]) -> str:
    """Return a hash over names, contents, executable bits and link targets."""
    listed = []
    for entry in entries:
        if entry.read is None:
            content = entry.link
        else:
            with entry.read() as file:
                content = content_digest(file)
        listed.append([entry.path, entry.executable, entry.link is not None, content])
    return digest(*sorted(listed, key=str))


def content_digest(file: BinaryIO) -> str:
    """Return a hash over a file's content."""
    found = hashlib.sha256()
    while data := file.read(1024 * 1024):
        found.update(data)
    return found.hexdigest()


def pack_tree(entries: Iterable[Entry], path: str) -> None:
    """Write the entries as a tar.gz that is the same for the same entries, whatever the machine and the hour."""
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for entry in sorted(entries, key=lambda item: item.path):
            member = tarfile.TarInfo(entry.path)
            member.mtime = archives.PACKED_TIME
            if entry.read is None:
                member.type, member.linkname = (tarfile.DIRTYPE, "") if entry.link is None else (tarfile.SYMTYPE, entry.link)
                member.mode = 0o755
                tar.addfile(member)
                continue
            with entry.read() as file:
                member.size, member.mode = os.fstat(file.fileno()).st_size, 0o755 if entry.executable else 0o644
                tar.addfile(member, file)


def tree(entries: list[Entry], label: str) -> Source:
    """Return a tree as a source."""
    size = sum(entry.size for entry in entries)
    return Source("tree", fingerprint(judged(entries)), label, size, pack=lambda path: pack_tree(entries, path))


def judged(entries: list[Entry]) -> list[Entry]:
    """Return the entries of a tree, which a host would unpack: as it would judge them."""
    try:
        found = archives.Tree()
        for entry in entries:
            found.add(archives.sound(entry.path), entry.kind)
        archives.require_inside({entry.path: entry.link for entry in entries if entry.link is not None})
        require_whole(entries)
    except WorkfleetError as error:
        raise WorkfleetError(f"app_source: {error}") from error
    return entries


# What git leaves in the place of something


def require_whole(entries: list[Entry]) -> None:
    """Refuse what stands for another file or repository, of which the app would miss the content later: in a task, say."""
    declared = {path for entry in entries if os.path.basename(entry.path) == MODULES for path in declared_submodules(entry)}
    require_filled([entry.path for entry in entries if entry.kind == "directory" and entry.path in declared])
    pointers = [entry.path for entry in entries if is_pointer(entry)]
    if pointers:
        raise WorkfleetError(f"{named(pointers)}: not the content, but a pointer of git-LFS to it. Run git lfs pull in a checkout, and "
                             "deploy that with type directory; or exclude what the app does not need")


def require_filled(submodules: list[str]) -> None:
    """Refuse submodules of which there is nothing but the place."""
    if submodules:
        raise WorkfleetError(f"{named(submodules)}: a submodule of git, of which only the empty place is there. Run git submodule update "
                             "--init --recursive in a checkout, and deploy that with type directory; or exclude what the app does not need")


def declared_submodules(modules: Entry) -> list[str]:
    """Return the paths that a ``.gitmodules`` names."""
    if modules.read is None:
        return []
    with modules.read() as file:
        found = [path.decode(errors="surrogateescape").strip('"') for path in MODULE_PATH.findall(file.read(MODULES_BYTES))]
    return [os.path.join(os.path.dirname(modules.path), path) for path in found]


def is_pointer(entry: Entry) -> bool:
    """Whether a file is what git has of one that git-LFS keeps."""
    if entry.read is None or not len(POINTER) < entry.size < POINTER_BYTES:
        return False
    with entry.read() as file:
        return file.read(len(POINTER)) == POINTER


def named(paths: list[str], most: int = 5) -> str:
    """Return the first of some paths, and how many there are more."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(archives.shown(path) for path in sorted(paths)[:most]) + more


# directory


def directory(location: str, exclude: tuple[str, ...]) -> Source:
    """Return a directory of the control node as a source; bytecode and virtualenvs in it are always left out."""
    if not os.path.isdir(location):
        raise WorkfleetError(f"app_source: location: {location} is no directory on the control node")
    try:
        return tree(list(walk(location, exclude)), location)
    except OSError as error:
        raise WorkfleetError(
            f"app_source: {error.filename} cannot be read: {error.strerror}; exclude it if it is no part of the app"
        ) from error


def walk(root: str, exclude: tuple[str, ...], below: str = "") -> Iterator[Entry]:
    """Yield the files under ``root``, and the directories without any: who made one needs it. Not one that only running has left."""
    is_bare, is_run = bool(below), False
    for item in sorted(os.scandir(os.path.join(root, below)), key=lambda found: found.name):
        path = f"{below}/{item.name}" if below else item.name
        if excluded(path, exclude):
            continue
        found: list[Entry] = []
        if item.is_symlink():
            found = [Entry(path, False, 0, link=os.readlink(item.path))]
        elif item.is_dir():
            # Both are made of a tree by running it, whatever an inventory excludes: a source that changes by that would be rolled out.
            if item.name != "__pycache__" and not os.path.exists(os.path.join(item.path, "pyvenv.cfg")):
                found = list(walk(root, exclude, path))
            is_run = is_run or not found
        elif item.is_file():
            status = item.stat()
            found = [Entry(path, bool(status.st_mode & 0o100), status.st_size, read=reader(item.path))]
        is_bare = is_bare and not found
        yield from found
    if is_bare and not is_run:
        yield Entry(below, False, 0)


def reader(path: str) -> Callable[[], BinaryIO]:
    """Return a function that opens a file when it is called."""

    def read() -> BinaryIO:
        return open(path, "rb")

    return read


# archive


def archive(location: str, exclude: tuple[str, ...], cache: str) -> Source:
    """Return an archive of the control node as a source: a package for pip, or a tree."""
    if not os.path.isfile(location):
        raise WorkfleetError(f"app_source: location: {location} is no file on the control node")
    with open(location, "rb") as file:
        checksum = content_digest(file)
    folder = made(os.path.join(cache, f"archive-{checksum[:16]}"), lambda new: unpack(archives.members(location), new, location))
    top = stripped(folder)
    # Of what pip unpacks, too, nothing may lead out.
    looked = tree(list(walk(top, exclude)), os.path.basename(location))
    if not location.endswith(".whl") and not os.path.isfile(os.path.join(top, "PKG-INFO")):
        return looked
    name = os.path.basename(location)
    return Source("package", digest("package", checksum), name, looked.size, install=name, pack=lambda path: copy(location, path))


def copy(location: str, path: str) -> None:
    """Write a whole file."""
    shutil.copyfile(location, path)


def unpack(members: Iterable[archives.Member], folder: str, location: str) -> None:
    """Unpack an archive of the control node, or nothing of it."""
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder, 0o700)
    try:
        archives.unpack(members, folder)
    except WorkfleetError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise WorkfleetError(f"app_source: {location}: {error}") from error


def stripped(folder: str) -> str:
    """Leave out a single directory around everything, unless it is itself a Python package of the app."""
    names = os.listdir(folder)
    top = os.path.join(folder, names[0]) if len(names) == 1 else folder
    is_around = os.path.isdir(top) and not os.path.islink(top) and not os.path.exists(os.path.join(top, "__init__.py"))
    return top if is_around else folder


# git


def git(location: str, version: str | None, exclude: tuple[str, ...], cache: str, run_git: Callable[..., bytes]) -> Source:
    """Return a commit as a source. A branch or tag is resolved once a run, so that all hosts get the same commit."""
    wanted = version or "HEAD"
    if location.startswith("-") or NO_REF.search(wanted):
        raise WorkfleetError(f"app_source: {archives.shown(wanted)} of {without_credentials(archives.shown(location))}: neither may begin "
                             "with -, and a version is the name of a branch or tag, or all 40 digits of a commit")
    commit = (
        wanted
        if COMMIT.match(wanted)
        else once(
            os.path.join(cache, f"ref-{digest(location, wanted)[:16]}"), lambda path: resolve(location, wanted, path, run_git)
        )
    )
    return Source(
        "tree",
        digest("git", commit, list(exclude)),
        f"{wanted} ({commit[:12]})",
        pack=lambda path: pack_commit(location, wanted, commit, exclude, path, run_git),
        version=commit,
    )


def resolve(location: str, wanted: str, path: str, run_git: Callable[..., bytes]) -> None:
    """Write the commit that a branch, tag or ``HEAD`` of a repository stands for now."""
    listed = run_git(
        "ls-remote", "--", location, wanted, f"refs/heads/{wanted}", f"refs/tags/{wanted}", f"refs/tags/{wanted}^{{}}"
    )
    lines = (line.partition("\t") for line in listed.decode(errors="replace").splitlines())
    found = {name: commit for commit, _, name in lines if COMMIT.match(commit)}
    for name in (f"refs/tags/{wanted}^{{}}", f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted):
        if name in found:
            with open(path, "w", encoding="utf-8") as file:
                file.write(found[name])
            return
    raise WorkfleetError(
        f"app_source: version: {wanted} is neither branch nor tag of {without_credentials(location)}; a commit is "
        "named by all its 40 digits"
    )


def pack_commit(
    location: str, wanted: str, commit: str, exclude: tuple[str, ...], path: str, run_git: Callable[..., bytes]
) -> None:
    """Fetch one commit, as shallow as the server allows, and write its tree, whole."""
    repository, unpacked = path + ".git", path + ".tree"
    run_git("init", "--quiet", "--bare", "--template=", repository)
    os.makedirs(os.path.join(repository, "info"), exist_ok=True)
    with open(os.path.join(repository, "info", "attributes"), "w", encoding="utf-8") as file:
        file.write("* -export-ignore\n")  # meant for archives that are published; what is left out of a release stands in exclude
    deep = "+refs/*:refs/fetched/*"
    for arguments in (("--depth=1", "--", location, commit), ("--depth=1", "--", location, wanted), ("--", location, deep)):
        last = arguments[-1] == deep
        try:
            run_git("--git-dir", repository, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", *arguments)
            run_git("--git-dir", repository, "cat-file", "-e", f"{commit}^{{commit}}")
        except WorkfleetError as error:
            # Not every server hands out a commit by its number, and a branch may have moved on since it was resolved.
            if last:
                raise WorkfleetError(f"app_source: version: {wanted} is no commit that a branch or tag of {without_credentials(location)} "
                                     f"leads to. {error}") from error
            continue
        break

    try:
        require_filled([found for found in submodules(repository, commit) if not excluded(found, exclude)])
    except WorkfleetError as error:
        raise WorkfleetError(f"app_source: {wanted} of {without_credentials(location)}: {error}") from error

    def take(stream: BinaryIO) -> bytes:
        unpack(archives.tar_members(stream), unpacked, without_credentials(location))
        return stream.read(archives.LONGEST_PATH * 1024)  # what fills the last block: git ends when it is taken

    run_git("--git-dir", repository, "archive", "--format=tar", commit, take=take)
    pack_tree(judged(list(walk(unpacked, exclude))), path)


def submodules(repository: str, commit: str) -> list[str]:
    """Return the paths of a commit where another repository's commit belongs."""
    listed = run_git("--git-dir", repository, "ls-tree", "-r", "-z", "--full-tree", commit).decode(errors="surrogateescape")
    return [entry.partition("\t")[2] for entry in listed.split("\0") if entry.startswith("160000 ")]


def some(stream: BinaryIO) -> bytes:
    """Return what git says, no more than fits."""
    found = stream.read(GIT_BYTES + 1)
    if len(found) > GIT_BYTES:
        raise WorkfleetError(f"app_source: git said more than {GIT_BYTES // 1024**2} MiB: too many branches, tags or files")
    return found


def run_git(*arguments: str, take: Callable[[BinaryIO], bytes] = some, seconds: float = STEP_SECONDS) -> bytes:
    """Run git on the control node and return what it wrote. It may not ask for a password, nor run what a repository brings."""
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": GIT_PROTOCOLS, "LC_ALL": "C"}
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments]
    is_late: list[bool] = []
    with tempfile.TemporaryFile() as complaints:
        try:
            program = subprocess.Popen(  # noqa: S603 - argv is a list, no shell is involved
                command, stdout=subprocess.PIPE, stderr=complaints, stdin=subprocess.DEVNULL, env=quiet, start_new_session=True
            )
        except FileNotFoundError as error:
            raise WorkfleetError("app_source: type git needs the program git on the control node") from error

        def end() -> None:
            is_late.append(True)
            os.killpg(program.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            with program, cast("BinaryIO", program.stdout) as stream:
                try:
                    found = take(stream)
                except BaseException:
                    os.killpg(program.pid, signal.SIGKILL)
                    raise
        except WorkfleetError:
            if not is_late and program.returncode in (0, -signal.SIGKILL):
                raise
            found = b""  # what git says of it is the cause
        finally:
            timer.cancel()
        if is_late:
            raise WorkfleetError(f"app_source: git {arguments[0]} {of_step(seconds).is_over}")
        if program.returncode != 0:
            complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - 4000))
            said = without_credentials(shown.end(complaints.read().decode(errors="replace"), 1000))
            raise WorkfleetError(f"app_source: git failed on the control node: {said}")
    return found


# Work that all hosts of a run share


def once(path: str, make: Callable[[str], None]) -> str:
    """Return the text of ``path``, made by the first of several processes that ask for it."""
    made(path, make)
    with open(path, encoding="utf-8") as file:
        return file.read()


def made(path: str, make: Callable[[str], None]) -> str:
    """Return ``path`` after ``make`` has written it, once, however many processes ask at the same time."""
    with locked(path + ".lock"):
        if not os.path.exists(path):
            make(path + ".new")
            os.replace(path + ".new", path)
    return path


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold an exclusive lock of this machine."""
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
