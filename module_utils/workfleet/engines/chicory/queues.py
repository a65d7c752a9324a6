"""The figures of Chicory's queues: streams with one group of consumers, delayed tasks, dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import resp
from ..verbs import figures as queues
from ..verbs.figures import Figures, Question, beats, look
from .wire import DEAD, DELAYED, HEARTBEAT, LARGEST_BEAT, MOST_COUNTED, STREAM, consumer_group, parsed

if TYPE_CHECKING:
    from ..verbs.report import Report

# {'', is there, waiting or -1, held, taken so far or -1, added so far or -1, oldest id or '', delayed, dead}, or a key of
# the wrong type alone. Without the server's own count (Redis 7) no more than ARGV[2] are counted.
_LOOK = """
for i, kind in ipairs({'stream', 'zset', 'stream'}) do
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'none' and is ~= kind then return {KEYS[i]} end
end
local function dictionary(flat)
  local found = {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end
local there = redis.call('EXISTS', KEYS[1])
local last, held, taken, added, waiting, first = '0-0', 0, -1, -1, 0, ''
if there == 1 then
  local stream = dictionary(redis.call('XINFO', 'STREAM', KEYS[1]))
  added = stream['entries-added'] or -1
  waiting, taken = stream['length'], -1
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = dictionary(flat)
    if group['name'] == ARGV[1] then
      last, held = group['last-delivered-id'], group['pending']
      taken, waiting = group['entries-read'] or -1, group['lag'] or -1
    end
  end
  local oldest = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 1)
  if oldest[1] then first = oldest[1][1] else waiting = 0 end
  if waiting == -1 then
    local from, counted = last, 0
    while counted < tonumber(ARGV[2]) do
      local page = redis.call('XRANGE', KEYS[1], '(' .. from, '+', 'COUNT', 500)
      counted = counted + #page
      if #page < 500 then waiting = counted; break end
      from = page[#page][1]
    end
  end
end
return {'', there, waiting, held, taken, added, first, redis.call('ZCARD', KEYS[2]), redis.call('XLEN', KEYS[3])}
"""


def figures(question: Question) -> list[Figures]:
    """Return the figures of the declared queues, and with ``all_of_it`` of all others that there are."""
    group = consumer_group(question.options)
    return look(question, others, nodes, lambda queue: (
        "EVAL", _LOOK, 3, STREAM + queue, DELAYED + queue, DEAD + queue, group, MOST_COUNTED), fill, flow)


def flow(earlier: Figures, item: Figures) -> None:
    """What came and went between two looks."""
    if earlier.mark and item.mark:
        item.came, item.went = (max(0, after - before) if min(before, after) >= 0 else None
                                for before, after in zip(earlier.mark, item.mark))


def fill(item: Figures, reply: resp.Reply, reports: dict[str, Report] | None) -> None:
    """Put what the server and the nodes told into the figures."""
    if isinstance(reply, resp.RespError):
        raise reply
    if reply[0]:
        item.exists = True
        item.problem = (f"queue {item.queue}: the key {resp.text(reply[0])} in Redis is not of Chicory's kind: "
                        "does something else use the name in this database?")
        return
    _, there, waiting, item.unacknowledged, taken, added, first, item.scheduled, item.dead = reply
    item.exists = bool(there or item.scheduled or item.dead)
    item.waiting = None if waiting < 0 else waiting
    if first:
        item.oldest_age_seconds, item.oldest_age_is = item.at - int(resp.text(first).partition("-")[0]) / 1000, "exact"
    if reports is not None:
        item.of_nodes(reports)
    item.mark = (added if there else 0, taken if there else 0)


def others(client: resp.Client) -> tuple[list[str], bool]:
    """Queues that hold anything, and whether all keys were looked through."""
    names, complete = queues.keys(client, "chicory:*")
    return sorted({name[len(start):] for name in names for start in (STREAM, DELAYED, DEAD) if name.startswith(start)}), complete


def nodes(client: resp.Client) -> dict[str, Report] | None:
    """What all workers of the database tell."""
    return beats(client, HEARTBEAT, lambda beat: next(iter(parsed(beat)), None), LARGEST_BEAT)
