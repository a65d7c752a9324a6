"""Unpack what others have packed: tar, zip, wheel, sdist.

Python's own ways to unpack differ between its versions, so names, kinds and sizes are judged here, alike on control nodes and hosts:
while they are read, before anything of a member is written. All is written below one directory by descriptor, never through a link.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Far more than any app has: files and directories, bytes of all of them, bytes and parts of a path.
MOST_MEMBERS = 200_000
MOST_BYTES = 4 * 1024**3
LONGEST_PATH, LONGEST_NAME, DEEPEST_PATH = 1024, 255, 64
#: What the kernel follows on one way.
MOST_LINKS = 40
MOST_LINKS_IN_ALL = 10_000
#: Zip, and so a wheel that pip builds from a tree, knows no time before 1980.
PACKED_TIME = 946684800
_CHUNK = 1024 * 1024
_BLOCK = 512
_LONGEST_HEADER, _MOST_HEADERS = 65536, 256 * 1024 * 1024
_LONGEST_LISTING = 16 * 1024 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: What Python's readers of compressed files and zips raise where somebody has made their input.
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError,
               MemoryError, OverflowError, LookupError, struct.error)


class Readable(Protocol):
    """What can be read from its beginning to its end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, no more than ``size``."""


class Member(NamedTuple):
    """A member as the archive tells of it. ``kind`` is ``file``, ``directory``, ``link`` (symbolic, to ``target``) or ``same`` (as the
    file ``target`` before it). ``content`` is to be taken before the next member is.
    """

    path: str
    kind: str
    is_executable: bool = False
    target: str = ""
    content: Iterable[bytes] = ()


def members(path: str) -> Iterator[Member]:
    """Yield the members of an archive, whatever its kind."""
    with open(path, "rb") as file, readable():
        start = file.read(6)
        file.seek(0)
        is_zip = start[:4] in (b"PK\3\4", b"PK\5\6")
        for member in zip_members(file) if is_zip else tar_members(plain(file, start)):
            yield member._replace(content=_read(member.content))


def _read(content: Iterable[bytes]) -> Iterator[bytes]:
    with readable():
        yield from content


@contextmanager
def readable() -> Iterator[None]:
    """Refuse in a sentence what cannot be read."""
    try:
        yield
    except _UNREADABLE as error:
        raise WorkfleetError(f"the archive cannot be read as tar, zip, wheel or sdist: {shown(str(error) or repr(error))}") from error


def plain(file: BinaryIO, start: bytes) -> Readable:
    """Return what a compressed file unpacks to, bit by bit."""
    if start[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if start[:3] == b"BZh":
        return bz2.BZ2File(file)
    return lzma.LZMAFile(file) if start == b"\xfd7zXZ\x00" else file


def shown(name: str) -> str:
    """Return a name of a member for a sentence."""
    return _CONTROL.sub("?", name.encode(errors="backslashreplace").decode())[:200]


# Names and numbers, of all kinds of archive


def sound(name: str) -> str:
    """Return the path of a member below the top; empty for the top itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    path = "/".join(parts)
    if name.startswith("/") or ".." in parts:
        raise WorkfleetError(f"the archive holds {shown(name)}, a path out of the archive")
    if _CONTROL.search(name):
        raise WorkfleetError(f"the archive holds {shown(name)}, a name with control characters")
    sizes = [len(part.encode(errors="surrogateescape")) for part in parts]
    if sum(sizes) + len(sizes) > LONGEST_PATH or max(sizes, default=0) > LONGEST_NAME or len(sizes) > DEEPEST_PATH:
        raise WorkfleetError(f"the archive holds {shown(name)}: a path may have {LONGEST_PATH} bytes, {LONGEST_NAME} in each of "
                             f"its names, and {DEEPEST_PATH} names")
    return path


class Tree:
    """What an archive has held so far: no path twice, nothing below what is no directory, and not too much."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {"": "directory"}
        self.size = 0

    def add(self, path: str, kind: str) -> None:
        """Take a member, and the directories above it."""
        above = path
        while above:
            above = above.rpartition("/")[0]
            found = self.kinds.setdefault(above, "directory")
            if found != "directory":
                raise WorkfleetError(f"the archive holds {shown(path)}, which lies below the {found} {shown(above)}")
        before = self.kinds.setdefault(path, "")
        if before and {before, kind} != {"directory"}:
            raise WorkfleetError(f"the archive holds {shown(path)} twice, as {before} and {kind}")
        self.kinds[path] = kind
        if len(self.kinds) > MOST_MEMBERS:
            raise WorkfleetError(f"the archive holds more than {MOST_MEMBERS} files and directories: it is no app; the last was "
                                 f"{shown(path)}")

    def count(self, path: str, content: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a content while there is room for it."""
        for data in content:
            self.size += len(data)
            if self.size > MOST_BYTES:
                raise WorkfleetError(f"the archive holds more than {MOST_BYTES // 1024**2} MiB when it is unpacked: it is no app; the last "
                                     f"file was {shown(path)}")
            yield data


def require_inside(links: Mapping[str, str]) -> None:
    """Refuse symbolic links (path and target) that lead out of the tree, through other links of it too."""
    if len(links) > MOST_LINKS_IN_ALL:
        raise WorkfleetError(f"the source holds more than {MOST_LINKS_IN_ALL} symbolic links")
    resolved: dict[str, tuple[list[str], int]] = {}

    def follow(path: str, depth: int) -> tuple[list[str], int]:
        """Return where a link leads, and over how many."""
        if path in resolved:
            return resolved[path]
        here, passed = path.split("/")[:-1], 1
        for part in links[path].split("/"):
            if part == "..":
                if not here:
                    raise points_out(path, links[path])
                here.pop()
            elif part not in ("", "."):
                here.append(part)
                if len(here) > DEEPEST_PATH * 2:
                    raise points_out(path, links[path])
                between = "/".join(here)
                if between in links:
                    if depth + passed >= MOST_LINKS:
                        raise WorkfleetError(f"the link {shown(path)} leads over more than {MOST_LINKS} links, or in a circle: exclude it, "
                                             "or put a file in its place")
                    led, more = follow(between, depth + passed)
                    here, passed = list(led), passed + more
        resolved[path] = here, passed
        return resolved[path]

    for path, target in links.items():
        if target.startswith("/") or not target or len(target) > LONGEST_PATH or _CONTROL.search(target):
            raise points_out(path, target)
    for path, target in links.items():
        if follow(path, 0)[1] > MOST_LINKS:
            raise points_out(path, target)


def points_out(path: str, target: str) -> WorkfleetError:
    """Return the refusal of a link."""
    return WorkfleetError(f"the link {shown(path)} points out of the source, to {shown(target)}: exclude it, or put a file in its place")


# Write


def unpack(archived: Iterable[Member], folder: str, owner: tuple[int, int] | None = None) -> dict[str, str]:
    """Write members below a directory that is there, and empty; return the symbolic links, which come last and are not judged.

    Modes are 0755 and 0644, times those of :data:`PACKED_TIME`. ``owner`` (uid, gid) gets all but the directory itself.
    """
    tree = Tree()
    links: dict[str, str] = {}
    top = os.open(folder, _DIRECTORY)
    try:
        for member in archived:
            kind = "file" if member.kind == "same" else member.kind
            tree.add(member.path, kind)
            with writing(member.path):
                if kind == "link":
                    links[member.path] = member.target
                elif kind == "directory":
                    with directory(top, member.path, owner):
                        pass
                else:
                    content = same(top, tree, member) if member.kind == "same" else member.content
                    write(top, member, tree.count(member.path, content), owner)
        for path, target in links.items():
            above, _, name = path.rpartition("/")
            with writing(path), directory(top, above, owner) as handle:
                os.symlink(target, name, dir_fd=handle)
                if owner:
                    os.chown(name, *owner, dir_fd=handle, follow_symlinks=False)
    finally:
        os.close(top)
    return links


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Name the member where the system refuses it."""
    try:
        yield
    except OSError as error:
        raise WorkfleetError(f"{shown(path)} cannot be unpacked: {error.strerror or error}") from error


@contextmanager
def directory(top: int, path: str, owner: tuple[int, int] | None) -> Iterator[int]:
    """A directory below the top, made where it is not there."""
    handle = os.dup(top)
    try:
        for part in path.split("/") if path else []:
            is_new = False
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=handle)
                is_new = True
            below = os.open(part, _DIRECTORY, dir_fd=handle)
            os.close(handle)
            handle = below
            if is_new:
                os.fchmod(handle, 0o755)
                if owner:
                    os.fchown(handle, *owner)
        yield handle
    finally:
        os.close(handle)


def write(top: int, member: Member, content: Iterable[bytes], owner: tuple[int, int] | None) -> None:
    """Write one file."""
    above, _, name = member.path.rpartition("/")
    with directory(top, above, owner) as handle:
        number = os.open(name, _NEW, 0o600, dir_fd=handle)
    with open(number, "wb", buffering=0) as file:
        for data in content:
            view = memoryview(data)
            while view:
                view = view[file.write(view):]
        if owner:
            os.fchown(number, *owner)
        os.fchmod(number, 0o755 if member.is_executable else 0o644)
        os.utime(number, (PACKED_TIME, PACKED_TIME))


def same(top: int, tree: Tree, member: Member) -> Iterator[bytes]:
    """Yield the content of the file that a hard link names; it becomes a file of its own."""
    if tree.kinds.get(member.target) != "file" or member.target == member.path:
        raise WorkfleetError(f"the archive holds {shown(member.path)}, a hard link to {shown(member.target)}, which is no file of the "
                             "archive before it")
    above, _, name = member.target.rpartition("/")
    with directory(top, above, None) as handle:
        number = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
    with open(number, "rb") as file:
        while data := file.read(_CHUNK):
            yield data


# Zip


class _Bounded:
    """A file of which nobody reads very much at once: zipfile takes the whole listing, however long that claims to be."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, _LONGEST_LISTING + 1) if size >= 0 else _LONGEST_LISTING + 1)
        if len(data) > _LONGEST_LISTING:
            raise WorkfleetError(f"the archive's listing is longer than {_LONGEST_LISTING // 1024**2} MiB")
        return data


def zip_members(file: BinaryIO) -> Iterator[Member]:
    """Yield the members of a zip."""
    with zipfile.ZipFile(_Bounded(file)) as archived:
        for item in archived.infolist():
            path = sound(item.filename)
            mode = item.external_attr >> 16
            if stat.S_ISLNK(mode):
                if item.file_size > LONGEST_PATH:
                    raise points_out(path, "a very long path")
                with archived.open(item) as content:
                    target = content.read(LONGEST_PATH + 1)
                yield Member(path, "link", target=target.decode(errors="surrogateescape"))
            elif item.is_dir():
                if path:
                    yield Member(path, "directory")
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise WorkfleetError(f"the archive holds {shown(path)}, which is neither a file nor a link")
            elif not path:
                raise WorkfleetError("the archive holds a file without a name")
            else:
                with archived.open(item) as content:
                    yield Member(path, "file", bool(mode & 0o100), content=_chunks(content))


def _chunks(content: Readable) -> Iterator[bytes]:
    while data := content.read(_CHUNK):
        yield data


# Tar: ustar, pax and GNU's long names


def tar_members(stream: Readable) -> Iterator[Member]:
    """Yield the members of a tar that is not compressed (any more)."""
    pax: dict[str, str] = {}
    number = headers = 0
    while block := stream.read(_BLOCK):
        if not block.strip(b"\0"):
            return
        number += 1
        if number > MOST_MEMBERS * 2:
            raise WorkfleetError(f"the archive holds more than {MOST_MEMBERS} files and directories: it is no app")
        require_checksum(block)
        kind, size = block[156:157], field(block[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            headers += size
            if size > _LONGEST_HEADER or headers > _MOST_HEADERS:
                raise WorkfleetError(f"the archive holds a header of {size} bytes: one may have {_LONGEST_HEADER}, and all {_MOST_HEADERS}")
            data = b"".join(body(stream, size))
            if kind in (b"L", b"K"):
                pax["path" if kind == b"L" else "linkpath"] = text(data)
            elif kind == b"x":
                pax.update(records(data))
            continue  # of global ones none is about a name or a size
        name, target = pax.get("path", header_name(block)), pax.get("linkpath", text(block[157:257]))
        is_sparse = kind == b"S" or any(key.startswith("GNU.sparse") for key in pax)
        size = digits(pax["size"]) if "size" in pax else size
        pax = {}
        path = sound(name)
        if kind in (b"0", b"\0", b"7") and not is_sparse and not name.endswith("/"):
            if not path:
                raise WorkfleetError("the archive holds a file without a name")
            if size > MOST_BYTES:
                raise WorkfleetError(f"the archive holds {shown(path)} of {size} bytes; {MOST_BYTES // 1024**2} MiB may be in all of it")
            content = body(stream, size)
            yield Member(path, "file", bool(field(block[100:108]) & 0o100), content=content)
            for _ in content:  # what nobody took
                pass
        elif kind == b"1":
            yield Member(path, "same", bool(field(block[100:108]) & 0o100), target=sound_target(path, target))
        elif kind == b"2":
            yield Member(path, "link", target=target)
        elif kind == b"5" or (kind in (b"0", b"\0") and name.endswith("/") and not size):
            if path:
                yield Member(path, "directory")
        else:
            raise WorkfleetError(f"the archive holds {shown(path)}, which is neither a file nor a link")
    if number == 0:
        raise WorkfleetError("the archive cannot be read as tar, zip, wheel or sdist: it is empty")


def sound_target(path: str, target: str) -> str:
    """Return the path of the file that a hard link is the same as."""
    try:
        return sound(target)
    except WorkfleetError as error:
        raise WorkfleetError(f"the archive holds {shown(path)}, a hard link out of the archive, to {shown(target)}") from error


def require_checksum(block: bytes) -> None:
    """Refuse what is no header of a tar."""
    if len(block) < _BLOCK or field(block[148:156]) != sum(block[:148]) + sum(block[156:]) + 8 * 32:
        raise WorkfleetError("the archive cannot be read as tar, zip, wheel or sdist: it is none, or spoilt")


def body(stream: Readable, size: int) -> Iterator[bytes]:
    """Yield what follows a header, and pass over what fills its last block."""
    left = size
    while left:
        data = stream.read(min(left, _CHUNK))
        if not data:
            raise WorkfleetError("the archive is cut short")
        left -= len(data)
        yield data
    stream.read(-size % _BLOCK)


def header_name(block: bytes) -> str:
    """Return the name that stands in a header itself."""
    prefix = text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{text(block[:100])}" if prefix else text(block[:100])


def text(data: bytes) -> str:
    """Return a name, to its first NUL."""
    return data.partition(b"\0")[0].decode(errors="surrogateescape")


def field(data: bytes) -> int:
    """Return a number of a header: octal digits, or GNU's binary."""
    if data[:1] == b"\x80":
        return int.from_bytes(data[1:], "big")
    said = data.strip(b"\0 ")
    if not re.fullmatch(rb"[0-7]*", said):
        raise WorkfleetError("the archive cannot be read as tar, zip, wheel or sdist: it is none, or spoilt")
    return int(said or b"0", 8)


def digits(said: str) -> int:
    """Return a number of a pax record."""
    if not re.fullmatch(r"[0-9]{1,20}", said, re.ASCII):
        raise WorkfleetError("the archive holds a header that is spoilt")
    return int(said)


def records(data: bytes) -> dict[str, str]:
    """Return the records of a pax header."""
    found = {}
    at, end = 0, len(data.rstrip(b"\0"))
    while at < end:
        length = data[at:at + 20].partition(b" ")[0]
        after = at + digits(length.decode("latin-1"))
        key, equals, value = data[at + len(length) + 1:after].partition(b"=")
        if not equals or value[-1:] != b"\n" or after > end:
            raise WorkfleetError("the archive holds a header that is spoilt")
        found[key.decode(errors="surrogateescape")] = value[:-1].decode(errors="surrogateescape")
        at = after
    return found
