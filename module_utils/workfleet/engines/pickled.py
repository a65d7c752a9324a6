"""Pickles of tasks, read and changed without ever being unpickled: whoever can write to the broker decides what that would do.

The instructions are followed on a stack of notes, as a pickle machine would carry them out, with none of their effects. So a
text is the task's own field, and not one of the same name among its arguments, and one that was said before (and is only
referred to) is known all the same.
"""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING, Any

from .backlog import LARGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOTHING = ("PROTO", "FRAME")
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "SHORT_BINSTRING", "BINSTRING")
#: Numbers that can be replaced where they stand, and the bytes before their value.
_NUMBERS = {"BININT1": 1, "BININT2": 1, "BININT": 1, "LONG1": 2}
_PUTS = ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")
#: What comes behind the value of a mapping's key: the next key, or the end of the mapping.
_ENDS_VALUE = (*_TEXTS, *_GETS, "SETITEMS")
_ATTRIBUTES = "__dict__"


class _Value:
    """Something on the stack: a text, a number by its place, a mapping, a thing with a state, or anything else."""

    text = ""
    start = end = 0
    state: _Value | None = None
    is_kept = is_shared = False  # named for later; referred to again
    items: Sequence[tuple[_Value, _Value]] = ()

    def __init__(self, kind: str) -> None:
        self.kind = kind

    @classmethod
    def of_text(cls, text: str) -> _Value:
        """Return a text."""
        made = cls("text")
        made.text = text
        return made

    @classmethod
    def of_number(cls, start: int, end: int) -> _Value:
        """Return a number whose bytes stand there."""
        made = cls("number")
        made.start, made.end = start, end
        return made

    def set(self, items: Sequence[tuple[_Value, _Value]]) -> None:
        """Add to a mapping."""
        self.items = [*self.items, *items]

    def at(self, key: str) -> _Value | None:
        """What a mapping has under a text; nothing where that is not certain."""
        found = [value for name, value in self.items if name.text == key]
        certain = self.kind == "mapping" and not self.is_shared and all(name.kind == "text" for name, _ in self.items)
        return found[0] if certain and len(found) == 1 else None

    @property
    def fields(self) -> _Value | None:
        """Where the fields of a pickled task stand: it is a mapping, or an object of pydantic's."""
        return self if self.kind == "mapping" else None if self.state is None else self.state.at(_ATTRIBUTES)


_MARK = _Value("mark")


class _Machine:
    """Follows a pickle; raises ``ValueError`` where it cannot be one."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.stack: list[_Value] = []
        self.memo: dict[int, _Value] = {}

    def run(self, wanted: str = "") -> _Value:
        """Return the thing that is pickled; or a field ``wanted`` of it as soon as that is there."""
        name, argument, start = "", None, 0
        for opcode, following, place in pickletools.genops(self.data):
            if name:
                self.step(name, argument, start, place or 0)
                if wanted and opcode.name in _ENDS_VALUE and self.is_field(wanted):
                    return self.stack[-1]
            name, argument, start = opcode.name, following, place or 0
        if name != "STOP" or len(self.stack) != 1:
            raise ValueError("it does not end")
        return self.stack[0]

    def step(self, name: str, argument: Any, start: int, end: int) -> None:
        """Carry out one instruction."""
        stack = self.stack
        if name in _NOTHING:
            return
        if name in _TEXTS:
            stack.append(_Value.of_text(str(argument)))
        elif name in _NUMBERS:
            stack.append(_Value.of_number(start + _NUMBERS[name], end))
        elif name == "EMPTY_DICT":
            stack.append(_Value("mapping"))
        elif name == "DICT":
            told = self.down_to_mark()
            stack.append(_Value("mapping"))
            stack[-1].set(list(zip(told[::2], told[1::2])))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _PUTS:
            stack[-1].is_kept = True
            self.memo[len(self.memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in _GETS:
            stack.append(self.memo[int(argument)])
            stack[-1].is_shared = True
        elif name == "DUP":
            stack.append(stack[-1])
            stack[-1].is_shared = True
        elif name == "SETITEMS":
            told = self.down_to_mark()
            stack[-1].set(list(zip(told[::2], told[1::2])))
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1].set([(key, value)])
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = state if stack[-1].state is None else _Value("doubt")
        elif name == "POP":
            stack.pop()
        else:
            self.any(name)

    def any(self, name: str) -> None:
        """Carry out an instruction of which only matters what it takes and leaves."""
        is_slice, before, after = _EFFECTS[name]
        if is_slice:
            self.down_to_mark()
        taken = [self.stack.pop() for _ in range(before)]
        if name in ("APPEND", "APPENDS", "ADDITEMS"):
            self.stack.append(taken[-1])  # it is what it was, with more in it
        else:
            self.stack += [_Value("other") for _ in range(after)]

    def down_to_mark(self) -> list[_Value]:
        """Take what lies above the last mark, and the mark."""
        found: list[_Value] = []
        while (value := self.stack.pop()) is not _MARK:
            found.append(value)
        return found[::-1]

    def is_field(self, key: str) -> bool:
        """Whether the last two on the stack are this field of the task's own, and its value, a text."""
        stack = self.stack
        if len(stack) < 4 or (stack[-2].kind, stack[-2].text, stack[-1].kind) != ("text", key, "text"):
            return False
        marks = [place for place, value in enumerate(stack) if value is _MARK]
        inner = marks[-1] if marks else 0
        if (len(stack) - inner) % 2 == 0 or stack[inner - 1].kind != "mapping":
            return False
        return marks == [1] or (len(marks) == 2 and marks[0] == 2 and inner >= 5
                                and (stack[1].kind, stack[inner - 2].text) == ("mapping", _ATTRIBUTES))


def _effect(opcode: pickletools.OpcodeInfo) -> tuple[bool, int, int]:
    """Whether an instruction takes all down to the mark, how many it takes below that, and how many it leaves."""
    before = opcode.stack_before
    is_slice = pickletools.stackslice in before
    return is_slice, before.index(pickletools.markobject) if is_slice else len(before), len(opcode.stack_after)


_EFFECTS = {opcode.name: _effect(opcode) for opcode in pickletools.opcodes}


def text_of(data: bytes | None, key: str) -> str | None:
    """Return the text in a field of a pickled task; ``None`` where there is no such thing. Reads no further than to that field."""
    if data is None or len(data) > LARGEST:
        return None
    try:
        machine = _Machine(data)
        found: _Value | None = machine.run(wanted=key)
        if len(machine.stack) == 1:  # it came to its end without
            found = machine.stack[0].fields
            found = None if found is None else found.at(key)
    except Exception:  # bytes that are no pickle raise nearly anything
        return None
    return found.text if found is not None and found.kind == "text" else None


def with_number(data: bytes, key: str, value: int) -> bytes:
    """Return a pickled task with another number in one of its fields, and all else as it was, byte for byte.

    Raises ``ValueError`` where it is not certain that this number, and nothing else, would change.
    """
    try:
        fields = _Machine(data).run().fields
    except Exception as error:  # as above
        raise ValueError("it is no pickle that can be followed") from error
    number = None if fields is None else fields.at(key)
    if number is None or number.kind != "number" or number.is_kept or number.is_shared:
        raise ValueError(f"it has no number {key} of its own")
    try:
        told = value.to_bytes(number.end - number.start, "little")
    except OverflowError as error:
        raise ValueError(f"there is no room for {value}") from error
    if told and told[-1] > 127 and data[number.start - 1:number.start] not in (b"K", b"M"):
        raise ValueError(f"there is no room for {value}")
    return data[:number.start] + told + data[number.end:]
