"""Pickled tasks are read and changed without being unpickled: the task's own field, never one of its arguments."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet.decode import BadEntry
from plugins.module_utils.workfleet.engines.pickled import text_of, with_number


class Message:
    """A task as Chicory sends it: pydantic's models have such a state."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getstate__(self) -> dict[str, Any]:
        return {"__dict__": self.__dict__, "__pydantic_extra__": None, "__pydantic_fields_set__": set(self.__dict__),
                "__pydantic_private__": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["__dict__"])


class Custom:
    """An argument of the app's own class."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment] # it is equal by value, and changes


SLOW = settings(deadline=None, max_examples=60)


def load(data: bytes) -> Any:
    """What a pickle of ours holds."""
    return pickle.loads(data)  # noqa: S301 # we made it


NAMES = st.sampled_from(["retries", "__dict__", "args", "name", "t", "f", "id", "app.tasks.run", ""])
PLAIN = st.one_of(NAMES, st.text(max_size=5), st.integers(), st.integers(0, 300), st.floats(allow_nan=False), st.booleans(), st.none(),
                  st.binary(max_size=5))
VALUES = st.recursive(PLAIN, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4), st.tuples(inner, inner), st.sets(NAMES), st.frozensets(NAMES),
    st.dictionaries(NAMES.filter(bool), inner, max_size=3).map(lambda fields: Custom(**fields))), max_leaves=12)
FIELDS = st.fixed_dictionaries({"id": st.one_of(NAMES, st.text(max_size=8)), "name": NAMES, "args": st.lists(VALUES, max_size=4),
                                "kwargs": st.dictionaries(NAMES, VALUES, max_size=4), "retries": st.integers(0, 2**40),
                                "priority": st.none(), "last_error": st.one_of(st.none(), NAMES)})


@SLOW
@given(FIELDS, st.integers(0, 5), st.booleans())
def test_a_message_is_the_same_but_for_its_retries(fields: dict[str, Any], protocol: int, plain: bool) -> None:
    """``kwargs={"retries": 9}`` was changed, and the message's own count stayed."""
    before = pickle.dumps(fields if plain else Message(**fields), protocol=protocol)
    if protocol < 2 and (protocol == 0 or fields["retries"] >= 2**31):  # numbers are written as texts there
        with pytest.raises(BadEntry, match="no number retries"):
            with_number(before, "retries", 0)
        return
    told = load(with_number(before, "retries", 0))
    assert (told if plain else told.__dict__) == {**fields, "retries": 0}
    assert text_of(before, "name") == fields["name"]


@SLOW
@given(VALUES, VALUES, st.integers(1, 2**40), NAMES)
def test_a_result_of_arq_is_the_same_but_for_its_tries(argument: Any, result: Any, tries: int, name: str) -> None:
    told = {"t": tries, "f": name, "a": (argument, "t", 7), "k": {"t": 5, "f": argument}, "s": False, "r": result, "q": "arq:queue"}
    assert load(with_number(pickle.dumps(told), "t", 1)) == {**told, "t": 1}
    assert text_of(pickle.dumps(told), "f") == name


SHARED: dict[str, Any] = {"retries": 7}


@pytest.mark.parametrize("told", [
    {"args": [SHARED], "__dict__": SHARED}, {"retries": None}, {"retries": True}, {"retries": 1.0}, {"other": 7}, {},
    {"retries": 7, 5: "not a text"}, 7, "retries", [{"retries": 7}], Custom(retries=7), Message(kwargs={"retries": 7}),
], ids=repr)
def test_what_is_not_certain_is_refused(told: Any) -> None:
    with pytest.raises(BadEntry, match="it has no number retries of its own"):
        with_number(pickle.dumps(told), "retries", 0)


def test_a_number_that_stands_in_two_places_is_refused() -> None:
    twice = b"\x80\x02}(X\x01\x00\x00\x00tK\x07q\x01X\x01\x00\x00\x00ah\x01u."
    assert load(twice) == {"t": 7, "a": 7}
    again = b"\x80\x02}(X\x01\x00\x00\x00tK\x07X\x01\x00\x00\x00tK\x08u."
    assert load(again) == {"t": 8}
    shared = b"\x80\x02}q\x01(X\x01\x00\x00\x00tK\x07X\x01\x00\x00\x00ah\x01u."
    for data in (twice, again, shared):
        with pytest.raises(BadEntry, match="it has no number t of its own"):
            with_number(data, "t", 0)


@SLOW
@given(st.binary(max_size=200))
def test_bytes_that_are_no_pickle_are_refused(data: bytes) -> None:
    with pytest.raises(BadEntry, match="it "):
        with_number(data, "t", 0)
    assert text_of(data, "t") is None or b"t" in data


def test_there_has_to_be_room() -> None:
    with pytest.raises(BadEntry, match="no room for 300"):
        with_number(pickle.dumps({"t": 7}), "t", 300)
    assert load(with_number(pickle.dumps({"t": 7}), "t", 200)) == {"t": 200}
    assert load(with_number(pickle.dumps({"t": 2**40}), "t", 200)) == {"t": 200}


def test_nesting_is_no_matter() -> None:
    deep = b"\x80\x02}(X\x01\x00\x00\x00a" + b"]" * 100_000 + b"a" * 99_999 + b"X\x01\x00\x00\x00tK\x07u."
    assert with_number(deep, "t", 0) == deep.replace(b"K\x07u.", b"K\x00u.")
