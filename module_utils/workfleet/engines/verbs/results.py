"""Results of tasks dumped and deleted: keys of Celery's and Chicory's result stores, which say neither app nor queue.

Nobody takes a result out of anything, so nothing is moved: the names are noted, and deleted once the dump is safe. A key
of any kind goes as the server's own ``DUMP`` has it, which a server of the same or a newer version takes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import decode, resp
from ...decode import BadEntry
from ...dump import fields, unfields
from ..celery.wire import Wire
from ..chicory.wire import RESULT, STATE
from . import figures as queues
from .stash import DONE, Stash, chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PLACE = "results"
_CELERY = "celery-task-meta-"
_PAGE = 20
_ADD = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for i = 3, #ARGV, 3 do
  if redis.call('EXISTS', ARGV[i]) == 0 then redis.call('RESTORE', ARGV[i], math.max(0, tonumber(ARGV[i + 1])), ARGV[i + 2]) end
end
"""


def beginnings(engine: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return how the keys of an engine's results begin."""
    if engine == "chicory":
        return RESULT, STATE
    ours = Wire.parse(options).result("")[:-len(_CELERY)]
    return f"{ours}{_CELERY}", f"{ours}celery-taskset-meta-"


def patterns(engine: str, options: Mapping[str, Any]) -> list[str]:
    """Return what these keys look like."""
    return [f"{queues.literal(start)}*" for start in beginnings(engine, options)]


class ResultsStash(Stash):
    """All results of an engine in a database."""

    def take(self) -> None:
        """Note which keys there are."""
        self.client.call(*self.note("taken"))
        for pattern in patterns(self.engine, self.options):
            for names in queues.pages(self.client, pattern):
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
        for names in queues.members(self.client, self.own(PLACE)):
            mine = [name for name in names if self._is_result(name, self.own(PLACE))]
            yield from (mine[start:start + _PAGE] for start in range(0, len(mine), _PAGE))

    def _is_result(self, name: bytes, where: str) -> bool:
        if resp.text(name).startswith(beginnings(self.engine, self.options)):
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
        if place != PLACE or len(told) != 3 or not resp.text(told[0]).startswith(beginnings(self.engine, self.options)):
            raise BadEntry(f"{resp.text(told[0]) if told else place} is no key of a result")
        decode.integer(decode.document(told[1], largest=20))

    def add(self, place: str, records: Sequence[bytes], note: Sequence[resp.Argument]) -> None:
        """A result lives as long as it had to live when it was dumped; one that is there again stays."""
        _, restored, identity, count = note
        self.script(_ADD, [str(restored)], identity, count, *(value for record in records for value in unfields(record)))


class CeleryResults(ResultsStash):
    """Celery's."""

    engine = "celery"


class ChicoryResults(ResultsStash):
    """Chicory's."""

    engine = "chicory"
