"""What is found by a name and imported when it is first asked for.

Ansible sends to a host what a file imports, also for its types; Python reads there what is asked for, and no more.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """Values by name. One that is given as ``module:attribute``, relative to ``package``, is imported when it is first read."""

    def __init__(self, package: str, places: Mapping[str, str]) -> None:
        self._package = package
        self._values: dict[str, str | T] = dict(places)

    def __getitem__(self, name: str) -> T:
        value = self._values[name]
        if isinstance(value, str):
            module, _, attribute = value.partition(":")
            value = self._values[name] = cast("T", getattr(import_module(f".{module}", self._package), attribute))
        return value

    def __setitem__(self, name: str, value: T) -> None:
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
