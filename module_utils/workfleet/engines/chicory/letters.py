"""Chicory's dead letters: a stream for each queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import resp
from ..verbs import figures
from ..verbs.letters import LONGEST, PAGE, Letter, Letters, moment, number
from .wire import DEAD, STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_REPLAY = """
local sent = 0
for i = 1, #ARGV, 2 do
  local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if found then
    local told = {}
    for f = 1, #found[2], 2 do told[found[2][f]] = found[2][f + 1] end
    redis.call('XADD', KEYS[2], '*', 'data', ARGV[i + 1], 'task_id', told['task_id'] or '')
    redis.call('XDEL', KEYS[1], ARGV[i])
    sent = sent + 1
  end
end
return sent
"""


class ChicoryLetters(Letters):
    """A stream."""

    def read(self) -> Iterator[Letter]:
        """Read the stream."""
        last = "-"
        while page := figures.page(self.client, "XRANGE", DEAD + self.queue, last, "+", "COUNT", PAGE):
            for tag, flat in page:
                told = {resp.text(name): value for name, value in zip(flat[::2], flat[1::2])}
                name, error, failed_at = (resp.text(told.get(name))[:LONGEST] for name in ("task_name", "error", "failed_at"))
                yield Letter(resp.text(tag), name or None, error or None, moment(failed_at), number(told.get("retry_count")),
                             data=told.get("data", b""))
            last = f"({resp.text(page[-1][0])}"

    def again(self, letter: Letter) -> resp.Argument:
        """A message keeps the number of its tries."""
        return self.numbered(letter, "retries", 0)

    def replay(self, letters: Sequence[Letter]) -> int:
        """Put them into the queue as new ones, which have not been tried."""
        words = [word for letter in letters for word in (letter.id, self.again(letter))]
        return int(self.client.call("EVAL", _REPLAY, 2, DEAD + self.queue, STREAM + self.queue, *words))
