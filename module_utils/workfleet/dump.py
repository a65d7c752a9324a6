"""The file that purged tasks are kept in: written and read in constant memory, and told from a cut or an altered one.

    workfleet dump 1\\n
    {"id": …, "app": …, "engine": …, "queue": …, …}\\n          the header, for people too: head -2 FILE
    block*                                                      lengths, the place, records compressed together
    twelve bytes 0, {"records": …, "blocks": …}\\n              how many there are
    sha256 of all before it, in hex, \\n

The checksum finds damage. It does not prove who wrote the file: keep a dump where only those can write who may write
to the broker.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from . import decode
from .decode import BadEntry
from .errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAGIC = b"workfleet dump 1\n"
_BLOCK = struct.Struct(">III")  # bytes of the compressed records, records, bytes of the place's name
_LENGTH = struct.Struct(">I")
_CHECKSUM = 65
#: Bytes of the records of a block: one of the largest, or many small ones. And of a place's name, and of a line for people.
_LARGEST_BLOCK = (256 + 8) << 20
_LONGEST_PLACE, _LONGEST_LINE = 4096, 1 << 20
_FAST = 1  # zlib's levels above are several times slower, and hardly smaller
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Summary:
    """What is in a dump."""

    header: dict[str, Any]
    records: int
    blocks: int
    sha256: str
    size: int


def fields(*values: bytes) -> bytes:
    """Several byte strings as one record."""
    return b"".join([part for value in values for part in (_LENGTH.pack(len(value)), value)])


def unfields(record: bytes) -> list[bytes]:
    """What :func:`fields` was given."""
    found, place = [], 0
    while place < len(record):
        begin = place + _LENGTH.size
        place = begin + _LENGTH.unpack_from(record, place)[0] if begin <= len(record) else len(record) + 1
        if place > len(record):
            raise BadEntry("a record is cut")
        found.append(record[begin:place])
    return found


class Writer:
    """Writes a dump; without :meth:`close` it is a cut one."""

    def __init__(self, file: IO[bytes], header: dict[str, Any]) -> None:
        self.file = file
        self.sha = hashlib.sha256()
        self.header, self.records, self.blocks, self.size = header, 0, 0, 0
        self._put(MAGIC + json.dumps(header).encode() + b"\n")

    def _put(self, data: bytes) -> None:
        self.file.write(data)
        self.sha.update(data)
        self.size += len(data)

    def write(self, place: str, records: Sequence[bytes]) -> None:
        """Add some records of a place; the order is kept."""
        if records:
            name = place.encode(errors="surrogateescape")
            data = zlib.compress(fields(*records), _FAST)
            self._put(_BLOCK.pack(len(data), len(records), len(name)) + name + data)
            self.records += len(records)
            self.blocks += 1

    def close(self) -> Summary:
        """End the dump, and see that it is on the disk."""
        self._put(_BLOCK.pack(0, 0, 0) + json.dumps({"records": self.records, "blocks": self.blocks}).encode() + b"\n")
        digest = self.sha.hexdigest()
        self.file.write(digest.encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        return Summary(self.header, self.records, self.blocks, digest, self.size + _CHECKSUM)


def verify(path: str) -> Summary:
    """Read a dump to its end; raises on one that is cut, altered, or none."""
    header = read_header(path)
    size = os.path.getsize(path)
    sha, left = hashlib.sha256(), size - _CHECKSUM
    with open(path, "rb") as file:
        while left > 0:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                break
            sha.update(chunk)
            left -= len(chunk)
        told = file.read(_CHECKSUM + 1)
    if told != sha.hexdigest().encode() + b"\n":
        raise WorkfleetError(f"{path}: the dump is cut or was altered: its checksum does not hold; nothing was written")
    records = blocks = 0
    with open(path, "rb") as file:
        for _, count, _ in _blocks(file, path, skip=True):
            records, blocks = records + count, blocks + 1
        last = file.readline(_LONGEST_LINE)
    try:
        end = decode.fields(decode.document(last)).told
    except BadEntry as error:
        raise WorkfleetError(f"{path}: the dump's end is damaged; nothing was written") from error
    if end != {"records": records, "blocks": blocks}:
        raise WorkfleetError(f"{path}: the dump holds {records} records and says {end.get('records')}; nothing was written")
    return Summary(header, records, blocks, sha.hexdigest(), size)


def read_header(path: str) -> dict[str, Any]:
    """Read what a dump says of itself."""
    try:
        with open(path, "rb") as file:
            if file.readline(len(MAGIC)) != MAGIC:
                raise WorkfleetError(f"{path}: is no dump of Workfleet's")
            header = decode.fields(decode.document(file.readline(_LONGEST_LINE)))
            for name in ("id", "app", "engine", "queue"):
                header.text(name)
            return header.told
    except OSError as error:
        raise WorkfleetError(f"{path}: cannot be read: {error.strerror}") from error
    except BadEntry as error:
        raise WorkfleetError(f"{path}: the dump's header is damaged ({error}); nothing was written") from error


def blocks(path: str) -> Iterator[tuple[str, list[bytes]]]:
    """Yield a verified dump's records, place by place, in their order."""
    with open(path, "rb") as file:
        for place, _, records in _blocks(file, path, skip=False):
            yield place, records


def records_after(path: str, done: int | None) -> int:
    """How many records of a verified dump are in the blocks behind so many, or behind all of them."""
    with open(path, "rb") as file:
        counts = [count for _, count, _ in _blocks(file, path, skip=True)]
    return 0 if done is None else sum(counts[done:])


def _blocks(file: IO[bytes], path: str, *, skip: bool) -> Iterator[tuple[str, int, list[bytes]]]:
    file.readline()
    file.readline()
    while True:
        head = file.read(_BLOCK.size)
        if len(head) < _BLOCK.size:
            raise WorkfleetError(f"{path}: the dump is cut; nothing was written")
        size, count, name = _BLOCK.unpack(head)
        if not count:
            return
        if size > _LARGEST_BLOCK or name > _LONGEST_PLACE:
            raise WorkfleetError(f"{path}: the dump is damaged; nothing was written")
        place = file.read(name).decode(errors="surrogateescape")
        if skip:
            file.seek(size, os.SEEK_CUR)
            yield place, count, []
        else:
            records = unfields(_unpacked(file.read(size), path))
            if len(records) != count:
                raise WorkfleetError(f"{path}: a block holds {len(records)} records and says {count}")
            yield place, count, records


def _unpacked(data: bytes, path: str) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, _LARGEST_BLOCK)
    except zlib.error as error:
        raise WorkfleetError(f"{path}: the dump is damaged; nothing was written") from error
    if not unpacker.eof:
        raise WorkfleetError(f"{path}: a block of the dump holds more than {_LARGEST_BLOCK >> 20} MiB; nothing was written")
    return found
