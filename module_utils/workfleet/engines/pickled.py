"""Pickles of tasks and results, read and changed without ever being unpickled: whoever can write to the broker decides what that would do.

The instructions are followed on a stack, as a pickle machine would carry them out, with none of their effects. So a text is
the task's own field, and not one of the same name among its arguments, and one that was said before (and is only referred
to) is known all the same.

Nothing can be made large by being referred to: a text or a number on the stack is only the place of its instruction, what
is referred to and is neither is :data:`UNKNOWN`, and of lists, mappings and objects only the first parts are kept.
"""

from __future__ import annotations

import codecs
import math
import pickletools
import struct
import weakref
from array import array
from typing import TYPE_CHECKING, Any, Union

from ..decode import LARGEST, BadEntry, Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Instructions that are followed, and what may be on the stack and be named for later at a time.
MOST_STEPS, MOST_ON_STACK, MOST_NAMED = 500_000, 150_000, 500_000
#: Parts of one list or mapping that are kept, of all together, and fields of a task; how deep they are shown.
_MOST_PARTS, _MOST_KEPT, _MOST_PAIRS, _DEEPEST = 100, 20_000, 1000, 10
#: Bytes of a text that are read; characters of all that is shown.
_LONGEST_TEXT, _MOST_SHOWN = 10_000, 50_000
_ATTRIBUTES = "__dict__"


class _Unknown:
    """What is not known any more, or never was."""

    def __str__(self) -> str:
        return "…"

    __repr__ = __str__


UNKNOWN = _Unknown()


class Mapping:
    """A mapping that may be the task. It is not certain what is in one that is referred to again, or has many keys."""

    __slots__ = ("__weakref__", "certain", "pairs", "place")

    def __init__(self, place: int) -> None:
        self.place = place
        self.pairs: list[tuple[_Value, _Value]] = []
        self.certain = True


class Thing:
    """A list, a tuple, a set, another mapping, a name or an object, with the first of what is in it, and an object's state."""

    __slots__ = ("kind", "parts", "state")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.parts: list[_Value] = []
        self.state: _Value | None = None


#: What is on the stack. A number is the place of the instruction that made a text, a number, a name, yes, no or nothing.
_Value = Union[int, Mapping, Thing, _Unknown]


class Named:
    """Stands for an object of a class that is not loaded; says its class and its arguments."""

    def __init__(self, name: str, args: Sequence[Any]) -> None:
        self.name, self.args = name, args

    def __str__(self) -> str:
        return f"{self.name}: {' '.join(map(str, self.args))}" if self.args else self.name

    __repr__ = __str__


_NAMES = {ord(code.code): code.name for code in pickletools.opcodes}
_SIZES = {ord(code.code): code.arg.n if code.arg else 0 for code in pickletools.opcodes}
_TWO_LINES = frozenset(map(ord, "ci"))
_LENGTHS = {pickletools.TAKEN_FROM_ARGUMENT1: struct.Struct("<B"), pickletools.TAKEN_FROM_ARGUMENT4: struct.Struct("<i"),
            pickletools.TAKEN_FROM_ARGUMENT4U: struct.Struct("<I"), pickletools.TAKEN_FROM_ARGUMENT8U: struct.Struct("<Q")}


def _effect(opcode: pickletools.OpcodeInfo) -> tuple[bool, int, int]:
    """Whether an instruction takes all down to the mark, how many it takes below that, and how many it leaves."""
    before = opcode.stack_before
    is_slice = pickletools.stackslice in before
    return is_slice, before.index(pickletools.markobject) if is_slice else len(before), len(opcode.stack_after)


_EFFECTS = {opcode.name: _effect(opcode) for opcode in pickletools.opcodes}

_NOTHING = frozenset(("PROTO", "FRAME"))
_TEXTS = {
    "SHORT_BINUNICODE": lambda said: said.decode(), "BINUNICODE": lambda said: said.decode(), "BINUNICODE8": lambda said: said.decode(),
    "UNICODE": lambda said: said.decode("raw-unicode-escape"), "STRING": lambda said: codecs.escape_decode(said[1:-1])[0].decode(),
    "SHORT_BINSTRING": lambda said: said.decode(), "BINSTRING": lambda said: said.decode(),
}
_SCALARS: dict[str, Callable[[bytes], Any]] = {
    **_TEXTS,
    "NONE": lambda _: None, "NEWTRUE": lambda _: True, "NEWFALSE": lambda _: False,
    "BININT1": lambda said: said[0], "BININT2": lambda said: int.from_bytes(said, "little"),
    "BININT": lambda said: int.from_bytes(said, "little", signed=True),
    "LONG1": lambda said: _long(said), "LONG4": lambda said: _long(said),
    "INT": lambda said: {b"01": True, b"00": False}.get(said) if said in (b"01", b"00") else _number(said),
    "LONG": lambda said: _number(said.rstrip(b"L")),
    "FLOAT": lambda said: _finite(float(said[:40])), "BINFLOAT": lambda said: _finite(struct.unpack(">d", said)[0]),
    "SHORT_BINBYTES": bytes, "BINBYTES": bytes, "BINBYTES8": bytes,
    "GLOBAL": lambda said: Named(said.split(b"\n")[1].decode(), ()),
}
#: Numbers that can be replaced where they stand.
_NUMBERS = frozenset(("BININT1", "BININT2", "BININT", "LONG1"))
_LOCAL = frozenset((*_NUMBERS, "INT", "LONG", "LONG4", "FLOAT", "BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
#: What comes behind the value of a mapping's key: the next key, or the end of the mapping.
_ENDS_VALUE = frozenset((*_TEXTS, *_GETS, "SETITEMS"))
_KINDS = {"EMPTY_LIST": "list", "LIST": "list", "EMPTY_TUPLE": "tuple", "TUPLE": "tuple", "TUPLE1": "tuple", "TUPLE2": "tuple",
          "TUPLE3": "tuple", "EMPTY_SET": "set", "FROZENSET": "set", "REDUCE": "object", "NEWOBJ": "object", "NEWOBJ_EX": "object",
          "OBJ": "object", "INST": "object", "STACK_GLOBAL": "name"}


def _long(said: bytes) -> int:
    if len(said) > 8:
        raise BadEntry("a number is too large")
    return int.from_bytes(said, "little", signed=True)


def _number(said: bytes) -> int:
    if len(said) > 20:
        raise BadEntry("a number is too large")
    return int(said)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise BadEntry("a number is not finite")
    return value


class _Machine:
    """Follows a pickle; raises :class:`BadEntry` where it cannot be one, or is more than a task is."""

    def __init__(self, data: bytes | None) -> None:
        if data is None:
            raise BadEntry("it is gone")
        if len(data) > LARGEST:
            raise BadEntry(f"it has {len(data)} bytes, more than {LARGEST}")
        self.data = data
        self.stack: list[_Value] = []
        self.marks: list[int] = []
        #: By number, the place of what was named for later; -1 for what is not known any more.
        self.memo = array("i")
        #: The mappings that there are, by their places.
        self.mappings: weakref.WeakValueDictionary[int, Mapping] = weakref.WeakValueDictionary()
        self.kept = self.pairs = self.shown = 0
        self.has_ended = False

    def run(self, wanted: str = "") -> _Value:
        """Return the thing that is pickled; or the text in a field ``wanted`` of it as soon as that is there."""
        place = steps = 0
        while True:
            name, begin, end, following = self.instruction(place)
            if name == "STOP":
                break
            try:
                self.step(name, place, begin, end)
            except (IndexError, ValueError, TypeError) as error:
                raise BadEntry("it is no pickle that can be followed") from error
            if wanted and name in _ENDS_VALUE and self.is_field(wanted):
                return self.stack[-1]
            steps += 1
            if steps > MOST_STEPS or len(self.stack) > MOST_ON_STACK or len(self.memo) > MOST_NAMED:
                raise BadEntry(f"it is larger than any task: more than {MOST_STEPS} instructions, or too much at a time")
            place = following
        if len(self.stack) != 1 or self.marks:
            raise BadEntry("it does not end")
        self.has_ended = True
        return self.stack[0]

    # -- instructions

    def instruction(self, place: int) -> tuple[str, int, int, int]:
        """Return an instruction's name, where its argument begins and ends, and where the next one begins."""
        data, size = self.data, len(self.data)
        if place >= size:
            raise BadEntry("it does not end")
        code = data[place]
        length = _SIZES.get(code)
        if length is None:
            raise BadEntry("it is no pickle")
        begin = place + 1
        if length >= 0:
            end = following = begin + length
        elif length == pickletools.UP_TO_NEWLINE:
            end = data.find(b"\n", begin)
            if code in _TWO_LINES and end >= 0:
                end = data.find(b"\n", end + 1)
            following = end + 1
        else:
            told = _LENGTHS[length]
            begin += told.size
            end = following = begin + (told.unpack_from(data, begin - told.size)[0] if begin <= size else size)
        if not place < following <= size:
            raise BadEntry("it is cut")
        return _NAMES[code], begin, end, following

    def step(self, name: str, place: int, begin: int, end: int) -> None:
        """Carry out one instruction."""
        stack = self.stack
        if name in _SCALARS:
            stack.append(place)
        elif name in _NOTHING:
            return
        elif name == "MEMOIZE":
            self.name_top(len(self.memo))
        elif name in _PUTS:
            self.name_top(_index(name, self.data[begin:end]))
        elif name in _GETS:
            stack.append(self.named(self.memo[_index(name, self.data[begin:end])]))
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "EMPTY_DICT" or name == "DICT":
            told = self.down_to_mark() if name == "DICT" else []
            stack.append(self.mapping(place))
            self.set(told)
        elif name in ("SETITEMS", "SETITEM"):
            self.set(self.down_to_mark() if name == "SETITEMS" else self.take(2))
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            told = self.take(1) if name == "APPEND" else self.down_to_mark()
            if isinstance(top := self.top, Thing):
                self.keep(top, told)
        elif name == "BUILD":
            self.build(self.take(1)[0])
        elif name == "DUP":
            self.share()
            stack.append(self.top)
        elif name == "POP_MARK":
            self.down_to_mark()
        elif name == "POP":
            if self.marks and self.marks[-1] == len(stack):
                self.marks.pop()
            else:
                self.take(1)
        else:
            self.other(name)

    def other(self, name: str) -> None:
        """Carry out an instruction that makes something of which only the parts matter."""
        is_slice, before, after = _EFFECTS[name]
        above = self.down_to_mark() if is_slice else []
        parts = [*self.take(before), *above]
        self.stack += [self.thing(_KINDS[name], parts) if name in _KINDS else UNKNOWN for _ in range(after)]

    def take(self, count: int) -> list[_Value]:
        """Take so many from the stack, not beyond the last mark."""
        stack = self.stack
        if len(stack) - count < (self.marks[-1] if self.marks else 0):
            raise IndexError
        found = stack[len(stack) - count:]
        del stack[len(stack) - count:]
        return found

    def down_to_mark(self) -> list[_Value]:
        """Take what lies above the last mark, and the mark."""
        mark = self.marks.pop()
        found = self.stack[mark:]
        del self.stack[mark:]
        return found

    @property
    def top(self) -> _Value:
        """What lies on top of the stack, above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise IndexError
        return self.stack[-1]

    # -- what is on the stack

    def mapping(self, place: int) -> _Value:
        """Return a new mapping: one that may be the task, its state, or its fields; of others only the parts matter."""
        stack, marks = self.stack, self.marks
        is_fields = len(stack) in (3, 5, 7) and marks in ([], [2]) and isinstance(stack[1], Mapping) and self.says(stack[-1], _ATTRIBUTES)
        if len(stack) > 1 and not is_fields:
            return self.thing("mapping", [])
        made = self.mappings[place] = Mapping(place)
        return made

    def set(self, told: Sequence[_Value]) -> None:
        """Add to the mapping on top, names and values in turn."""
        top = self.top
        if len(told) % 2:
            raise ValueError
        if isinstance(top, Mapping):
            room = _MOST_PARTS - len(top.pairs) if self.pairs < _MOST_PAIRS else 0
            top.pairs += list(zip(told[::2], told[1::2]))[:max(0, room)]
            top.certain = top.certain and len(told) // 2 <= room
            self.pairs += len(told) // 2
        elif isinstance(top, Thing):
            self.keep(top, told)

    def thing(self, kind: str, parts: Sequence[_Value]) -> _Value:
        """Return something with its first parts, as long as not too much is kept."""
        if self.kept >= _MOST_KEPT:
            return UNKNOWN
        self.kept += 1
        made = Thing(kind)
        self.keep(made, parts)
        return made

    def keep(self, thing: Thing, parts: Sequence[_Value]) -> None:
        """Add parts."""
        room = max(0, min(_MOST_PARTS - len(thing.parts), _MOST_KEPT - self.kept))
        thing.parts += parts[:room]
        self.kept += min(room, len(parts))
        if len(parts) > room and UNKNOWN not in thing.parts[-1:]:
            thing.parts.append(UNKNOWN)

    def build(self, state: _Value) -> None:
        """Give what is on top a state."""
        top = self.top
        if isinstance(top, Mapping):
            top.certain = False
        elif isinstance(top, Thing):
            top.state = state if top.state is None else UNKNOWN
        elif len(self.stack) == 1:
            self.stack[0] = made = Thing("object")
            made.state = state

    def name_top(self, number: int) -> None:
        """Remember what is on top under a number."""
        if number >= MOST_NAMED:
            raise BadEntry("it is larger than any task: it names too much for later")
        if number >= len(self.memo):
            self.memo.extend(array("i", [-1]) * (number + 1 - len(self.memo)))
        top = self.top
        if isinstance(top, int):
            if self.kind(top) in _LOCAL:
                self.stack[-1] = UNKNOWN  # a number that may stand in two places is not the task's own
            self.memo[number] = -1 if self.stack[-1] is UNKNOWN else top
        else:
            self.memo[number] = top.place if isinstance(top, Mapping) else -1

    def named(self, place: int) -> _Value:
        """Return what was remembered, where it is known."""
        if place < 0:
            return UNKNOWN
        if self.kind(place) not in ("EMPTY_DICT", "DICT"):
            return place
        found = self.mappings.get(place)
        if found is None:
            return UNKNOWN
        found.certain = False
        return found

    def share(self) -> None:
        """Note that what is on top is referred to again."""
        top = self.top
        if isinstance(top, Mapping):
            top.certain = False
        elif isinstance(top, Thing) or (isinstance(top, int) and self.kind(top) in _LOCAL):
            self.stack[-1] = UNKNOWN

    def kind(self, place: int) -> str:
        """Return the name of an instruction."""
        return _NAMES[self.data[place]]

    def says(self, value: _Value, wanted: str) -> bool:
        """Whether something is this text, as it is usually written."""
        if not isinstance(value, int) or self.kind(value) not in _TEXTS:
            return False
        _, begin, end, _ = self.instruction(value)
        return end - begin == len(wanted) and self.data[begin:end] == wanted.encode()

    def is_field(self, wanted: str) -> bool:
        """Whether the last two on the stack are this field of the task's own, and its value, a text."""
        stack, marks = self.stack, self.marks
        if not (0 < len(marks) <= 2) or len(stack) - marks[-1] < 2 or (len(stack) - marks[-1]) % 2:
            return False
        inner = marks[-1]
        if inner < 1 or not isinstance(stack[inner - 1], Mapping) or not self.says(stack[-2], wanted) or not self.is_text(stack[-1]):
            return False
        return marks == [1] or (marks[0] == 2 and inner >= 4 and isinstance(stack[1], Mapping) and self.says(stack[inner - 2], _ATTRIBUTES))

    def is_text(self, value: _Value) -> bool:
        """Whether something is a text."""
        return isinstance(value, int) and self.kind(value) in _TEXTS

    # -- what it says

    def scalar(self, place: int) -> Any:
        """Return a text, a number, yes, no or nothing; of a long text the beginning."""
        name, begin, end, _ = self.instruction(place)
        said = self.data[begin:min(end, begin + _LONGEST_TEXT)]
        try:
            found = _SCALARS[name](said) if end - begin == len(said) else said.decode(errors="ignore") + str(UNKNOWN)
            if isinstance(found, str):
                found.encode()  # half of a pair is no character
        except (ValueError, IndexError, OverflowError, struct.error) as error:
            raise BadEntry("what it says cannot be read") from error
        return found

    def text(self, place: int) -> str:
        """Return a text."""
        _, begin, end, _ = self.instruction(place)
        if end - begin > _LONGEST_TEXT:
            raise BadEntry(f"a name has {end - begin} bytes")
        return str(self.scalar(place))

    def fields(self, root: _Value) -> dict[str, _Value]:
        """Return a pickled task's fields by their names: it is a mapping, or an object of pydantic's. Raises where it is not certain."""
        if isinstance(root, Thing) and isinstance(root.state, Mapping):
            root = self.own(root.state).get(_ATTRIBUTES, UNKNOWN)
        return self.own(root)

    def own(self, mapping: _Value) -> dict[str, _Value]:
        """Return what is in a mapping."""
        if not isinstance(mapping, Mapping) or not mapping.certain or not all(self.is_text(name) for name, _ in mapping.pairs):
            raise BadEntry("it is no mapping of a task's fields")
        found = {self.text(name): value for name, value in mapping.pairs}  # type: ignore[arg-type] # they are texts
        if len(found) < len(mapping.pairs):
            raise BadEntry("it has a field twice")
        return found

    def value(self, told: _Value, depth: int = 0) -> Any:
        """Return something as it is shown: plain values, and :class:`Named` for objects."""
        if isinstance(told, int):
            try:
                found = self.scalar(told)
            except BadEntry:
                return UNKNOWN
            self.shown += len(found) if isinstance(found, (str, bytes)) else 1
            return found if self.shown <= _MOST_SHOWN else UNKNOWN
        if depth > _DEEPEST or isinstance(told, _Unknown):
            return UNKNOWN
        if isinstance(told, Mapping):
            pairs = told.pairs if told.certain else []
            return {str(self.value(name, depth + 1)): self.value(value, depth + 1) for name, value in pairs}
        parts = [self.value(part, depth + 1) for part in told.parts]
        if told.kind == "mapping":
            return {str(name): value for name, value in zip(parts[::2], parts[1::2])}
        if told.kind in ("object", "name"):
            return object_of(told.kind, parts)
        return tuple(parts) if told.kind == "tuple" else parts


def _index(name: str, said: bytes) -> int:
    """Return the number that something is named by."""
    return _number(said) if name in ("GET", "PUT") else int.from_bytes(said, "little")


def object_of(kind: str, parts: Sequence[Any]) -> Any:
    """Return what stands for an object, or for a class: its name, and what it was made of."""
    if kind == "name":
        return Named(str(parts[-1]) if parts else str(UNKNOWN), ())
    made, *arguments = parts or [UNKNOWN]
    listed = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple) else arguments
    return Named(made.name if isinstance(made, Named) else str(UNKNOWN), listed)


def text_of(data: bytes | None, key: str) -> str | None:
    """Return the text in a field of a pickled task; ``None`` where there is no such thing. Reads no further than to that field."""
    try:
        machine = _Machine(data)
        found = machine.run(key)
        if machine.has_ended:
            found = machine.fields(found).get(key, UNKNOWN)
        return machine.text(found) if isinstance(found, int) and machine.is_text(found) else None
    except BadEntry:
        return None


def read(data: bytes | None) -> Fields:
    """Return the fields of a pickled mapping; raises on what is none."""
    machine = _Machine(data)
    return Fields({name: machine.value(value) for name, value in machine.fields(machine.run()).items()})


def whole(data: bytes | None) -> Any:
    """Return a pickled value of plain ones; raises on what is none."""
    machine = _Machine(data)
    return machine.value(machine.run())


def with_number(data: bytes, key: str, value: int) -> bytes:
    """Return a pickled task with another number in one of its fields, and all else as it was, byte for byte.

    Raises where it is not certain that this number, and nothing else, would change.
    """
    machine = _Machine(data)
    root = machine.run()
    try:
        place = machine.fields(root).get(key, UNKNOWN)
    except BadEntry:
        place = UNKNOWN
    if not isinstance(place, int) or machine.kind(place) not in _NUMBERS:
        raise BadEntry(f"it has no number {key} of its own")
    name, begin, end, _ = machine.instruction(place)
    try:
        told = value.to_bytes(end - begin, "little", signed=name not in ("BININT1", "BININT2"))
    except OverflowError as error:
        raise BadEntry(f"there is no room for {value}") from error
    return data[:begin] + told + data[end:]
