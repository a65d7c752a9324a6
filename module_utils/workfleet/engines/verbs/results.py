"""Results of tasks dumped and deleted: keys of a result store that say neither app nor queue.

Nobody takes a result out of anything, so nothing is moved: the names are noted, and deleted once the dump is safe. A key
of any kind goes as the server's own ``DUMP`` has it, which a server of the same or a newer version takes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import decode, resp
from ...decode import BadEntry
from ...dump import fields, unfields
from . import figures
from .stash import DONE, Stash, chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PLACE = "results"
_PAGE = 20
_ADD = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for i = 3, #ARGV, 3 do
  if redis.call('EXISTS', ARGV[i]) == 0 then redis.call('RESTORE', ARGV[i], math.max(0, tonumber(ARGV[i + 1])), ARGV[i + 2]) end
end
"""


class ResultsStash(Stash):
    """All results of an engine in a database."""

    @property
    def beginnings(self) -> tuple[str, ...]:
        """How the keys of results begin."""
        raise NotImplementedError

    def check(self) -> None:
        """Keys of any kind may be results."""

    def _patterns(self) -> list[str]:
        return [f"{figures.literal(start)}*" for start in self.beginnings]

    def count(self) -> int:
        """How many keys there are."""
        return sum(len(names) for pattern in self._patterns() for names in figures.pages(self.client, pattern))

    def take(self) -> None:
        """Note which keys there are."""
        self.client.call(*self.note("taken"))
        for pattern in self._patterns():
            for names in figures.pages(self.client, pattern):
                self.client.call("SADD", self.own(PLACE), *names)

    def taken(self) -> Iterator[tuple[str, list[bytes]]]:
        """Read what has not expired meanwhile."""
        yield from ((PLACE, block) for block in chunks(self._read()))

    def _read(self) -> Iterator[bytes]:
        for names in self._noted():
            commands = [command for name in names for command in (("PTTL", name), ("DUMP", name))]
            told = self.client.pipeline(commands, timeout=60.0)
            yield from (fields(name, b"%d" % life, data) for name, life, data in zip(names, told[::2], told[1::2]) if data is not None)

    def _noted(self) -> Iterator[list[bytes]]:
        """Yield the keys that were noted, those that are results: whoever may write to the broker may have noted others."""
        for names in figures.members(self.client, self.own(PLACE)):
            mine = [name for name in names if self._is_result(name, self.own(PLACE))]
            yield from (mine[start:start + _PAGE] for start in range(0, len(mine), _PAGE))

    def _is_result(self, name: bytes, where: str) -> bool:
        if resp.text(name).startswith(self.beginnings):
            return True
        self.unread.add(where, name, BadEntry("it is no key of a result"))
        return False

    def drop(self) -> None:
        """Delete them, and then the note."""
        for names in self._noted():
            self.client.call("UNLINK", *names)
        self.together(("UNLINK", self.own(PLACE)), self.forget)

    def put_back(self) -> None:
        """They are where they were."""
        self.together(("UNLINK", self.own(PLACE)), self.progress(DONE), self.forget)

    def leave(self) -> None:
        """Forget the purge; results are deleted by the run alone that has dumped them, for they do not tell whose they are."""
        self.together(("UNLINK", self.own(PLACE)), self.forget)

    def examine(self, place: str, record: bytes) -> None:
        """Each is put under its own name, which has to be a result's."""
        told = unfields(record)
        if place != PLACE or len(told) != 3 or not resp.text(told[0]).startswith(self.beginnings):
            raise BadEntry(f"{resp.text(told[0]) if told else place} is no key of a result")
        decode.integer(decode.document(told[1], largest=20))

    def add(self, place: str, records: Sequence[bytes], note: Sequence[resp.Argument]) -> None:
        """A result lives as long as it had to live when it was dumped; one that is there again stays."""
        _, restored, identity, count = note
        self.script(_ADD, [str(restored)], identity, count, *(value for record in records for value in unfields(record)))
