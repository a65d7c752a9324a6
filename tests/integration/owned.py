"""The queues of an app whose tests give their queues any name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class _Any(list[str]):
    def __contains__(self, _: object) -> bool:
        return True


ANY: Mapping[str, Collection[str]] = dict.fromkeys(("celery", "arq", "chicory", "rq"), _Any())
