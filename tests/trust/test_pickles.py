"""Pickles of the broker are followed and never carried out, in memory and time that their size bounds, whatever they are."""

from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet.decode import LARGEST, BadEntry
from plugins.module_utils.workfleet.engines import pickled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST_MEMORY = 16 << 20
#: A full run tries everything, another as much as is quick.
ALL = bool(os.environ.get("WORKFLEET_FULL"))
USUAL = settings(deadline=None, max_examples=5000 if ALL else 150, suppress_health_check=list(HealthCheck))


def filled(unit: bytes, head: bytes = b"\x80\x04", tail: bytes = b".") -> bytes:
    """The largest pickle that is read, made of one thing over and over."""
    return head + unit * ((LARGEST - len(head) - len(tail)) // len(unit)) + tail


def laughs(levels: int = 24) -> bytes:
    """Lists of two references each: as a text it doubles with each level."""
    told: Any = ["lol"]
    for _ in range(levels):
        told = [told, told]
    return pickle.dumps({"s": False, "q": "q", "f": "f", "r": told, "ft": 1, "t": 1})


HOSTILE = {
    "a number to remember by that is far away": b"\x80\x04Nr" + struct.pack("<I", 1 << 26) + b".",
    "lists of lists by reference": laughs(),
    "texts without a mark": filled(b"\x8c\x01f", b"\x80\x04N"),
    "texts in a mapping that does not end": filled(b"\x8c\x01g", b"\x80\x04}("),
    "a mapping filled one by one": filled(b"\x8c\x02ab\x8c\x01vs", b"\x80\x04}"),
    "marks": filled(b"("), "marks and values": filled(b"(N"), "nothing": filled(b"N"), "lists": filled(b"]"), "mappings": filled(b"}"),
    "mappings thrown away": filled(b"}0"), "all remembered": filled(b"]\x94"), "texts remembered": filled(b"\x8c\x00\x94"),
    "doubled": filled(b"2", b"\x80\x04]"), "referred to": filled(b"h\x00", b"\x80\x04\x8c\x01a\x94"),
    "lists into a list": filled(b"]a", b"\x80\x04]"), "tuples": filled(b"NN\x86"), "states": filled(b"}b", b"\x80\x04}"),
    "fields of fields": filled(b"\x8c\x08__dict__}(h\x00Nus", b"\x80\x04\x8c\x01a\x940]}"),
    "frames": filled(b"\x95" + struct.pack("<Q", 1 << 60)),
    "a whole number of megabytes": b"\x80\x04\x8b" + struct.pack("<i", LARGEST - 20) + b"\xff" * (LARGEST - 20) + b".",
    "a number of no bytes": b"\x80\x04\x8b" + struct.pack("<i", -5) + b".",
    "digits": b"I" + b"9" * (LARGEST - 10) + b"\n.", "digits behind a point": b"F1." + b"9" * (LARGEST - 10) + b"\n.",
    "a text of megabytes": b"\x80\x04X" + struct.pack("<I", LARGEST - 20) + b"a" * (LARGEST - 20) + b".",
    "more than is read": b"\x80\x04" + b"N" * LARGEST + b".",
    "a long text over and over": pickle.dumps({"s": False, "q": "q", "r": ["x" * 9000] * 3000}),
}
READERS: dict[str, Callable[[bytes], object]] = {
    "all": lambda data: repr(pickled.read(data).told), "a name": lambda data: pickled.text_of(data, "f"),
    "another number": lambda data: pickled.with_number(data, "t", 1)}


def taken(reader: Callable[[bytes], object], data: bytes) -> tuple[int, float]:
    """What a reader takes at most of memory, in bytes, and of the processor, in seconds, in a process of its own; it may refuse."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            before, begun = status("VmRSS"), time.process_time()
            with contextlib.suppress(BadEntry):
                reader(data)
            os.write(write, f"{status('VmHWM') - before} {time.process_time() - begun}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        size, spent = file.read().split()
    os.waitpid(child, 0)
    return int(size), float(spent)


def status(name: str) -> int:
    """A figure of this process, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:")) << 10


@pytest.fixture(scope="module")
def allowed() -> float:
    """The seconds that a pickle may take: a factor over what Python's own reader of instructions takes for as many of the plainest."""
    plain = b"N0" * (pickled.MOST_STEPS // 2) + b"."
    return 30 * taken(lambda data: sum(1 for _ in pickletools.genops(data)), plain)[1]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_pickle_takes_memory_or_time_without_bound(name: str, allowed: float) -> None:
    """Nine bytes took 832 MB, and two hundred more than a minute."""
    for reader in READERS.values() if ALL else [READERS["all"]]:
        size, spent = taken(reader, HOSTILE[name])
        assert size < MOST_MEMORY
        assert spent < allowed


OPCODES = [code.code.encode("latin-1") for code in pickletools.opcodes]
ARGUMENTS = st.one_of(
    st.binary(max_size=6), st.sampled_from([b"\x01f", b"\x01t", b"\x08__dict__", b"1\n", b"os\nsystem\n", b"'x'\n", b"\xff\xff\xff\x7f",
                                            b"\x00", b"\x01", b"9" * 5000 + b"\n", struct.pack("<Q", 1 << 62)]))
PIECES = st.lists(st.tuples(st.sampled_from(OPCODES), ARGUMENTS).map(b"".join), max_size=40).map(b"".join)
REAL = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("sqfrt"), inner, max_size=4), st.tuples(inner)))
SPOILT = st.tuples(REAL, st.integers(0, 5), st.integers(0, 200), st.binary(max_size=3)).map(
    lambda told: pickle.dumps(told[0], told[1])[:told[2]] + told[3] + pickle.dumps(told[0], told[1])[told[2]:])


@USUAL
@given(st.one_of(PIECES, SPOILT, st.binary(max_size=300)))
def test_no_bytes_end_in_anything_but_a_value_or_a_refusal(data: bytes) -> None:
    for reader in READERS.values():
        try:
            reader(data)
        except BadEntry as error:
            assert str(error)


@USUAL
@given(REAL, st.integers(0, 5))
def test_no_plain_value_comes_out_as_another(value: Any, protocol: int) -> None:
    """What is not known is not made up: it is the one thing that equals nothing."""
    told = pickled.read(pickle.dumps({"r": value}, protocol)).told["r"]
    assert told == value or "…" in repr(told) or value != value or has_nan_or_large(value) or protocol < 3


def has_nan_or_large(value: Any) -> bool:
    """Whether a value has a number that is not read, a key that is not a text, or bytes of which a text is made."""
    if isinstance(value, dict):
        return any(map(has_nan_or_large, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(has_nan_or_large, value))
    return isinstance(value, float) and value != value


def test_no_code_that_a_pickle_names_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/ran",)

    data = pickle.dumps({"f": "f", "s": False, "q": "q", "t": 7, "r": Evil()})
    assert str(pickled.read(data).told["r"]).endswith(f"system: touch {tmp_path}/ran")
    assert pickled.text_of(data, "f") == "f"
    assert pickled.with_number(data, "t", 1) != data
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("data", "why"), [
    (b"", "it does not end"), (b"\x80\x04}", "it does not end"), (b"garbage", "it is cut"), (b"\xff", "it is no pickle"),
    (b"\x80\x04\x8c\xffx", "it is cut"), (HOSTILE["nothing"], "larger than any task"), (HOSTILE["more than is read"], "more than 4194304"),
    (pickle.dumps([1]), "no mapping of a task's fields"), (b"\x80\x04}(\x8c\x01tK\x01\x8c\x01tK\x02u.", "a field twice"),
])
def test_no_pickle_is_refused_without_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(BadEntry, match=why):
        pickled.read(data)
