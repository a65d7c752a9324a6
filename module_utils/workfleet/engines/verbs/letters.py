"""Tasks that have failed for good, whatever keeps them: how they are listed, and sent again as never tried."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ... import decode
from ...decode import BadEntry, Unread
from ...errors import WorkfleetError
from ..pickled import with_number
from . import figures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ...resp import Argument, Client

#: Read in one go, and sent again in one step.
PAGE = 200
#: Bytes of letters that are held, and characters of what one says of itself.
MOST_BYTES, LONGEST = 64 << 20, 1000


@dataclass(frozen=True)
class Letter:
    """One dead task. ``failed_at`` is in seconds since 1970; what is not told is ``None``. ``place`` and ``data`` are for a replay."""

    id: str
    task_name: str | None
    reason: str | None
    failed_at: float | None
    tries: int | None
    place: str = ""
    data: bytes = b""

    def entry(self, now: float) -> dict[str, Any]:
        """The letter as JSON-ready values."""
        told = {name: value for name, value in asdict(self).items() if name not in ("place", "data")}
        return {**told, "age_seconds": None if self.failed_at is None else round(max(0.0, now - self.failed_at), 1)}


class Letters:
    """The dead letters of one queue; of an engine that keeps none."""

    engine = ""

    def __init__(self, client: Client, queue: str, options: Mapping[str, Any]) -> None:
        self.client, self.queue, self.options = client, queue, options
        self.is_cut = False  # whether there may be more than could be looked at
        self.unread = Unread()
        self.size = 0

    def read(self) -> Iterator[Letter]:
        """Yield them, those first that failed first."""
        raise WorkfleetError(f"queue {self.queue}: engine {self.engine} keeps no dead letters that could be listed, replayed or dropped")

    def again(self, letter: Letter) -> Argument:
        """What is sent in a letter's place: the same task, never tried. Raises where that cannot be made for certain."""
        raise NotImplementedError

    def replay(self, letters: Sequence[Letter]) -> int:
        """Send them again; return how many were still there."""
        raise NotImplementedError

    def bears(self, size: int) -> bool:
        """Whether so many bytes more can be held."""
        self.size += size
        return self.size <= MOST_BYTES

    def numbered(self, letter: Letter, key: str, value: int) -> bytes:
        """A pickled task with another number in one of its own fields."""
        try:
            return with_number(letter.data, key, value)
        except BadEntry as error:
            raise WorkfleetError(f"queue {self.queue}: the dead letter {letter.id} cannot be sent again as never tried: {error}. Nothing "
                                 "was sent; replay the others one by one or by task_name, or drop it") from error


def now(client: Client) -> float:
    """The time by the server's clock, which all hosts share."""
    return figures.seconds(client.call("TIME"))


def moment(said: Any) -> float | None:
    """A time as seconds since 1970, where it is one."""
    try:
        return decode.moment(said)
    except BadEntry:
        return None


def number(said: Any) -> int | None:
    """A count, where it is one."""
    try:
        return decode.count(decode.document(said, largest=20) if isinstance(said, (bytes, str)) else said)
    except BadEntry:
        return None
