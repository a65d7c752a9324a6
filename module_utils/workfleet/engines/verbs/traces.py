"""Keys that hold no task and are an app's all the same: marks, bindings, tables. A reset deletes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...resp import Client


@dataclass(frozen=True)
class Trace:
    """A key, or a member of a set that others use too."""

    key: str
    member: str = ""

    def delete(self, client: Client) -> bool:
        """Delete it; whether it was there."""
        if self.member:
            return bool(client.call("SREM", self.key, self.member))
        return bool(client.call("UNLINK", self.key))

    def entry(self) -> dict[str, str]:
        """It as JSON-ready values."""
        return {"key": self.key, "member": self.member}


def there(client: Client, found: Iterable[Trace]) -> list[Trace]:
    """Return those whose keys there are."""
    wanted = list(found)
    return [trace for trace, is_there in zip(wanted, client.pipeline([("EXISTS", trace.key) for trace in wanted])) if is_there]
