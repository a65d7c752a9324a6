"""Results of tasks dumped and deleted: keys of Celery's and Chicory's result stores, which say neither app nor queue.

Nobody takes a result out of anything, so nothing is moved: the names are noted, and deleted once the dump is safe. A key
of any kind goes as the server's own ``DUMP`` has it, which a server of the same or a newer version takes back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..dump import fields, unfields
from ..errors import WorkfleetError
from . import queues
from .celery_wire import Wire
from .chicory_wire import RESULT, STATE
from .stash import DONE, MOST_RECORDS, Stash, chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .. import resp

PLACE = "results"
_CELERY = "celery-task-meta-"
_PAGE = 100
_ADD = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for i = 3, #ARGV, 3 do
  if redis.call('EXISTS', ARGV[i]) == 0 then redis.call('RESTORE', ARGV[i], math.max(0, tonumber(ARGV[i + 1])), ARGV[i + 2]) end
end
"""


def patterns(engine: str, options: Mapping[str, Any]) -> list[str]:
    """Return what the keys of an engine's results look like."""
    if engine == "chicory":
        return [f"{RESULT}*", f"{STATE}*"]
    ours = Wire.parse(options).result("")[:-len(_CELERY)]
    start = re.sub(r"([\\*?\[\]])", r"\\\1", ours)
    return [f"{start}{_CELERY}*", f"{start}celery-taskset-meta-*"]


class ResultsStash(Stash):
    """All results of an engine in a database."""

    def take(self) -> None:
        """Note which keys there are."""
        self.client.call(*self.note("taken"))
        for pattern in patterns(self.engine, self.options):
            names = list(queues.every(self.client, pattern))
            for start in range(0, len(names), MOST_RECORDS):
                self.client.call("SADD", self.own(PLACE), *names[start:start + MOST_RECORDS])

    def taken(self) -> Iterator[tuple[str, list[bytes]]]:
        """Read what has not expired meanwhile."""
        yield from ((PLACE, block) for block in chunks(self._read()))

    def _read(self) -> Iterator[bytes]:
        for names in self._noted():
            told = self.client.pipeline([command for name in names for command in (("PTTL", name), ("DUMP", name))], timeout=60.0)
            yield from (fields(name, b"%d" % life, data) for name, life, data in zip(names, told[::2], told[1::2]) if data is not None)

    def _noted(self) -> Iterator[list[bytes]]:
        cursor = b"0"
        while True:
            cursor, names = self.client.call("SSCAN", self.own(PLACE), cursor, "COUNT", _PAGE)
            yield list(dict.fromkeys(names))
            if cursor == b"0":
                return

    def drop(self) -> None:
        """Delete them, and then the note."""
        for names in self._noted():
            if names:
                self.client.call("UNLINK", *names)
        self.together(("UNLINK", self.own(PLACE)), self.forget)

    def put_back(self) -> None:
        """They are where they were."""
        self.together(("UNLINK", self.own(PLACE)), self.progress(DONE), self.forget)

    def add(self, place: str, records: Sequence[bytes], note: Sequence[resp.Argument]) -> None:
        """A result lives as long as it had to live when it was dumped; one that is there again stays."""
        if place != PLACE:
            raise WorkfleetError(f"the dump has a place {place}, which no results have; nothing was written")
        _, restored, identity, count = note
        self.script(_ADD, [str(restored)], identity, count, *(value for record in records for value in unfields(record)))


class CeleryResults(ResultsStash):
    """Celery's."""

    engine = "celery"


class ChicoryResults(ResultsStash):
    """Chicory's."""

    engine = "chicory"
