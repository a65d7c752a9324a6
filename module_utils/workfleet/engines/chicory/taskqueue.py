"""Chicory's queues, as what runs on one host sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..taskqueue import TaskQueue
from ..verbs import figures
from ..verbs.reaping import app_of
from ..verbs.traces import Trace, there
from . import backlog, queues, reap
from .letters import ChicoryLetters
from .load import ChicoryTraffic
from .results import ChicoryResults
from .stash import ChicoryStash
from .wire import HEARTBEAT, STREAM, consumer_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...resp import Client
    from ..taskqueue import Source
    from ..verbs.backlog import Backlog
    from ..verbs.figures import Figures, Question
    from ..verbs.reaping import Found, Reaping
    from ..verbs.traffic import Order

# A stream of which every message was given to a worker and is done with. KEYS: it. ARGV: the one group that it may have.
_FORGET_STREAM = """
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return 0 end
local last = '0-0'
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  if group['name'] ~= ARGV[1] or group['pending'] > 0 then return 0 end
  last = group['last-delivered-id']
end
if #redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 1) > 0 then return 0 end
return redis.call('UNLINK', KEYS[1])
"""


@dataclass(frozen=True)
class Stream(Trace):
    """A stream of done tasks; one that has got a task meanwhile stays."""

    group: str = ""

    def delete(self, client: Client) -> bool:
        """Delete it with its group and that one's consumers."""
        return bool(client.call("EVAL", _FORGET_STREAM, 1, self.key, self.group))


class ChicoryQueue(TaskQueue):
    """Streams of tasks, delayed tasks, dead letters."""

    stash = ChicoryStash
    results = ChicoryResults
    letters = ChicoryLetters

    def figures(self, question: Question) -> list[Figures]:
        """Read everything about the queues that Redis and the nodes tell."""
        return queues.figures(question)

    def waiting_tasks(self, url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, Backlog]:
        """Read the instructions of the pickles, and carry none of them out."""
        return backlog.read(url, queues, options)

    def traffic(self, order: Order) -> ChicoryTraffic:
        """Send as a client of the app does, without one; the canary is ``workfleet.probe``, which the runner registers."""
        return ChicoryTraffic(order)

    def note(self, order: Reaping) -> dict[str, Any]:
        """Read what each consumer has not acknowledged, and the heartbeats."""
        return reap.note(order)

    def reap(self, order: Reaping, found: Found, *, check: bool) -> None:
        """Move what dead consumers hold."""
        reap.reap(order, found, check=check)

    def traces(self, client: Client, app: str, source: Source) -> list[Trace]:
        """Heartbeats, and streams of done tasks with their group and its consumers."""
        names = [name for name in figures.every(client, f"{HEARTBEAT}*", "string") if app_of(name[len(HEARTBEAT):]) == app]
        group = consumer_group(source.options)
        return there(client, [*map(Trace, names), *(Stream(STREAM + queue, group=group) for queue in source.queues)])
