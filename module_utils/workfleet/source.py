"""Where a release's code comes from, on the control node: fingerprint it, and pack it for the hosts that lack it.

A *tree* (``directory``, ``git``, and archives of plain files) becomes one tar.gz of our own, the same bytes for the
same files. A wheel or an sdist is sent as it is, and ``pypi`` sends nothing: pip fetches it on the host.
"""

from __future__ import annotations

import fcntl
import fnmatch
import gzip
import hashlib
import io
import json
import os
import posixpath
import re
import subprocess
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TYPES = ("directory", "archive", "git", "pypi")
DEFAULT_EXCLUDE = (".git", ".env", "*.pyc")
#: Zip, and so a wheel that pip builds from the tree, knows no time before 1980.
PACKED_TIME = 946684800
COMMIT = re.compile(r"[0-9a-f]{40}\Z")
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
GIT_SECONDS = 300


class Entry(NamedTuple):
    """One file of a tree: exactly one of ``read`` (its content) and ``link`` (a symbolic link's target) is set."""

    path: str
    executable: bool
    size: int
    read: Callable[[], bytes] | None = None
    link: str | None = None


@dataclass(frozen=True)
class Source:
    """A source that was looked at. ``kind`` is ``tree``, ``package`` (wheel, sdist) or ``index`` (pypi).

    ``fingerprint`` changes exactly when the code does. ``size`` counts unpacked bytes where they are known.
    ``install`` is pip's argument for ``package`` and ``index``. ``pack`` writes what is sent into a file.
    """

    kind: str
    fingerprint: str
    label: str
    size: int = 0
    install: str | None = None
    pack: Callable[[str], None] | None = None


def look(kind: str, location: str, version: str | None, exclude: Iterable[str] | None, cache: str) -> Source:
    """Return the source as it is now. ``cache`` is a directory that lives as long as this run of a playbook."""
    if kind == "directory":
        return directory(location, DEFAULT_EXCLUDE if exclude is None else tuple(exclude))
    if kind == "archive":
        return archive(location, tuple(exclude or ()))
    if kind == "git":
        return git(location, version, tuple(exclude or ()), cache)
    return Source("index", digest("pypi", location, version), f"{location} {version}", install=f"{location}=={version}")


def digest(*parts: object) -> str:
    """Return the SHA-256 of JSON-ready values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def without_credentials(text: str) -> str:
    """Return ``text`` with the user and password of every URL in it left out."""
    return CREDENTIALS.sub("***@", text)


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
        content = entry.link if entry.read is None else hashlib.sha256(entry.read()).hexdigest()
        listed.append([entry.path, entry.executable, entry.link is not None, content])
    return digest(*sorted(listed, key=str))


def pack_tree(entries: Iterable[Entry], path: str) -> None:
    """Write the entries as a tar.gz that is the same for the same entries, whatever the machine and the hour."""
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for entry in sorted(entries, key=lambda item: item.path):
            member = tarfile.TarInfo(entry.path)
            member.mtime = PACKED_TIME
            if entry.read is None:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link or ""
                tar.addfile(member)
                continue
            content = entry.read()
            member.size, member.mode = len(content), 0o755 if entry.executable else 0o644
            tar.addfile(member, io.BytesIO(content))


def tree(entries: list[Entry], label: str) -> Source:
    """Return a tree as a source."""
    size = sum(entry.size for entry in entries)
    return Source("tree", fingerprint(entries), label, size, pack=lambda path: pack_tree(entries, path))


def check_link(path: str, target: str) -> None:
    """Refuse a link that would point elsewhere, or nowhere, on the host."""
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if target.startswith("/") or joined.split("/")[0] == "..":
        raise WorkfleetError(
            f"app_source: the link {path} points out of the source, to {target}: exclude it, or put a file in its place"
        )


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
    """Yield the files under ``root``; directories without files are not carried over, as in git."""
    for item in sorted(os.scandir(os.path.join(root, below)), key=lambda found: found.name):
        path = f"{below}/{item.name}" if below else item.name
        if excluded(path, exclude):
            continue
        if item.is_symlink():
            target = os.readlink(item.path)
            check_link(path, target)
            yield Entry(path, False, 0, link=target)
        elif item.is_dir():
            # Both are made of a tree by running it, whatever an inventory excludes: a source that changes by that would be rolled out.
            if item.name != "__pycache__" and not os.path.exists(os.path.join(item.path, "pyvenv.cfg")):
                yield from walk(root, exclude, path)
        elif item.is_file():
            status = item.stat()
            yield Entry(path, bool(status.st_mode & 0o100), status.st_size, read=reader(item.path))


def reader(path: str) -> Callable[[], bytes]:
    """Return a function that reads a file when it is called."""

    def read() -> bytes:
        with open(path, "rb") as file:
            return file.read()

    return read


# archive


def archive(location: str, exclude: tuple[str, ...]) -> Source:
    """Return an archive of the control node as a source: a package for pip, or a tree."""
    if not os.path.isfile(location):
        raise WorkfleetError(f"app_source: location: {location} is no file on the control node")
    try:
        entries = None if location.endswith(".whl") else stripped(members(location))
        if entries is None or any(entry.path == "PKG-INFO" for entry in entries):
            content = reader(location)
            checksum = hashlib.sha256(content()).hexdigest()
            name = os.path.basename(location)
            return Source(
                "package",
                digest("package", checksum),
                name,
                os.path.getsize(location) * 4,
                install=name,
                pack=lambda path: write_bytes(path, content()),
            )
        return tree([entry for entry in entries if not excluded(entry.path, exclude)], os.path.basename(location))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise WorkfleetError(f"app_source: {location} cannot be read as tar, zip, wheel or sdist: {error}") from error


def write_bytes(path: str, content: bytes) -> None:
    """Write a whole file."""
    with open(path, "wb") as file:
        file.write(content)


def members(location: str) -> list[Entry]:
    """Return the files of a tar or zip archive."""
    if zipfile.is_zipfile(location):
        with zipfile.ZipFile(location) as archived:
            found = []
            for item in archived.infolist():
                if not item.is_dir():
                    content = archived.read(item)
                    found.append(
                        Entry(
                            sound_path(item.filename),
                            bool(item.external_attr >> 16 & 0o100),
                            len(content),
                            read=partial(bytes, content),
                        )
                    )
            return found
    with tarfile.open(location) as tar:
        return tar_entries(tar)


def tar_entries(tar: tarfile.TarFile) -> list[Entry]:
    """Return the files and links of a tar archive; other kinds of member are refused."""
    found = []
    for member in tar:
        path = sound_path(member.name)
        if member.issym():
            check_link(path, member.linkname)
            found.append(Entry(path, False, 0, link=member.linkname))
        elif member.isfile() or member.islnk():
            file = tar.extractfile(member)
            content = file.read() if file else b""
            found.append(Entry(path, bool(member.mode & 0o100), len(content), read=partial(bytes, content)))
        elif not member.isdir():
            raise WorkfleetError(f"app_source: the archive holds {path}, which is neither a file nor a link")
    return found


def sound_path(name: str) -> str:
    """Return a member's path, which must stay inside the tree."""
    path = posixpath.normpath(name)
    if path.startswith("/") or path.split("/")[0] == "..":
        raise WorkfleetError(f"app_source: the archive holds {name}, a path out of the archive")
    return path


def stripped(entries: list[Entry]) -> list[Entry]:
    """Leave out a single directory around everything, unless it is itself a Python package of the app."""
    tops = {entry.path.split("/")[0] for entry in entries}
    if len(tops) != 1 or any("/" not in entry.path for entry in entries):
        return entries
    top = tops.pop() + "/"
    if any(entry.path == top + "__init__.py" for entry in entries):
        return entries
    return [entry._replace(path=entry.path[len(top) :]) for entry in entries]


# git


def git(location: str, version: str | None, exclude: tuple[str, ...], cache: str) -> Source:
    """Return a commit as a source. A branch or tag is resolved once a run, so that all hosts get the same commit."""
    wanted = version or "HEAD"
    commit = (
        wanted
        if COMMIT.match(wanted)
        else once(
            os.path.join(cache, f"ref-{digest(location, wanted)[:16]}"), lambda path: resolve(location, wanted, path)
        )
    )
    return Source(
        "tree",
        digest("git", commit, list(exclude)),
        f"{wanted} ({commit[:12]})",
        pack=lambda path: pack_commit(location, wanted, commit, exclude, path),
    )


def resolve(location: str, wanted: str, path: str) -> None:
    """Write the commit that a branch, tag or ``HEAD`` of a repository stands for now."""
    listed = run_git(
        "ls-remote", "--", location, wanted, f"refs/heads/{wanted}", f"refs/tags/{wanted}", f"refs/tags/{wanted}^{{}}"
    )
    found = {name: commit for commit, name in (line.split("\t") for line in listed.decode().splitlines())}
    for name in (f"refs/tags/{wanted}^{{}}", f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted):
        if name in found:
            write_bytes(path, found[name].encode())
            return
    raise WorkfleetError(
        f"app_source: version: {wanted} is neither branch nor tag of {without_credentials(location)}; a commit is "
        "named by all its 40 digits"
    )


def pack_commit(location: str, wanted: str, commit: str, exclude: tuple[str, ...], path: str) -> None:
    """Fetch one commit, as shallow as the server allows, and write its tree as ``git archive`` has it."""
    repository = path + ".git"
    run_git("init", "--quiet", "--bare", repository)
    deep = "+refs/*:refs/fetched/*"
    for arguments in (("--depth=1", location, commit), ("--depth=1", location, wanted), (location, deep)):
        last = arguments[-1] == deep
        try:
            run_git("--git-dir", repository, "fetch", "--quiet", "--no-tags", *arguments)
            content = run_git("--git-dir", repository, "archive", "--format=tar", commit)
        except WorkfleetError:
            # Not every server hands out a commit by its number, and a branch may have moved on since it was resolved.
            if last:
                raise
            continue
        break
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        pack_tree([entry for entry in tar_entries(tar) if not excluded(entry.path, exclude)], path)


def run_git(*arguments: str) -> bytes:
    """Run git on the control node and return what it wrote. It may not ask for a password."""
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603 - argv is a list, no shell is involved
            ["git", *arguments],  # noqa: S607 - the user's own git, wherever it is
            capture_output=True,
            check=False,
            timeout=GIT_SECONDS,
            env=quiet,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise WorkfleetError("app_source: type git needs the program git on the control node") from error
    except subprocess.TimeoutExpired as error:
        raise WorkfleetError(f"app_source: git {arguments[0]} did not end within {GIT_SECONDS} s") from error
    if done.returncode != 0:
        said = without_credentials(done.stderr.decode(errors="replace").strip()[-1000:])
        raise WorkfleetError(f"app_source: git failed on the control node: {said}")
    return done.stdout


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
