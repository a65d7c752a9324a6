"""What dead Chicory workers left behind: messages that they had not acknowledged, their names among the consumers, heartbeats.

A consumer has its node's name, and the runner tells in a hash which of its tasks must not run twice. Living nodes claim
the messages of others by themselves; here is what nobody claims, because no node is left, or because none ever may.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ... import decode, redis_url, resp
from ...decode import Unread
from ...errors import WorkfleetError
from ..pickled import text_of
from ..verbs import reaping
from ..verbs.figures import MOST_HELD, hash_entries, keys
from ..verbs.reaping import values
from .wire import DEAD, HEARTBEAT, LARGEST_BEAT, STREAM, consumer_group, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..verbs.reaping import Found, Reaping

#: Chicory's own list of workers, in the result store.
WORKERS = "chicory:workers"
_MOST_WORKERS = 10_000
# The message is taken from its consumer, who may not have been given it once more since, and put where it goes, in one step.
# KEYS: its stream, the stream that it goes to. ARGV: group, id, consumer, how often it was delivered, then more fields.
_MOVE = """
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1, ARGV[3])[1]
if not held or held[4] ~= tonumber(ARGV[4]) then return 0 end
local message = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if not message then return 1 end
local fields = message[2]
for i = 5, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('XADD', KEYS[2], '*', unpack(fields))
return 1
"""
# A consumer that holds nothing; with it would go what it holds.
_FORGET = """
for _, told in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if told[2] == ARGV[2] and told[4] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    return 1
  end
end
return 0
"""


def pid_of(beat: str) -> int | None:
    """Return the process that wrote a heartbeat; none for one that said in it that it ends."""
    return next((report.pid for report in parsed(beat.encode(errors="surrogateescape"))), None)


BEATS = reaping.Beats(HEARTBEAT, pid_of)


def at_most_once(app: str) -> str:
    """The hash in which each node tells the names of its tasks that must not run twice, as a JSON list."""
    return f"workfleet:{app}:at-most-once"


def note(order: Reaping) -> dict[str, Any]:
    """Return what each consumer holds, ``[id, deliveries]`` by stream and consumer, and which nodes have told of themselves."""
    group = consumer_group(order.options)
    with resp.connect(order.url) as client:
        streams, complete = keys(client, f"{STREAM}*", "stream")
        if not complete:
            raise WorkfleetError("the database has too many keys to find all of Chicory's queues; nothing was returned")
        held = {name: dict(consumers(client, name, group)) for name in streams}
        return {"held": held, "beats": values(client, HEARTBEAT)}


def consumers(client: resp.Client, stream: str, group: str) -> Iterator[tuple[str, list[list[Any]]]]:
    """Yield the consumers of a group with what they hold."""
    answer = client.pipeline([("XINFO", "CONSUMERS", stream, group)], raise_errors=False)[0]
    if isinstance(answer, resp.RespError):
        if answer.code != "NOGROUP":
            raise answer
        return
    for words in answer:
        told = {resp.text(name): value for name, value in zip(words[::2], words[1::2])}
        name, pending = resp.text(told["name"]), int(told["pending"])
        held = client.call("XPENDING", stream, group, "-", "+", MOST_HELD, name) if pending else []
        yield name, [[resp.text(entry[0]), int(entry[3])] for entry in held]


def reap(order: Reaping, found: Found, *, check: bool) -> None:
    """Give back what dead nodes hold, and forget these."""
    with resp.connect(order.url) as client:
        unread = Unread()
        once = at_most_once_of(client, at_most_once(order.app), unread)
        gone = set()
        found.left += unread.said()
        holders = [node for told in order.seen["held"].values() for node, held in told.items()
                   if held and reaping.app_of(node) == order.app]
        beats = BEATS.watched(client, order, holders)
        for stream, told in order.seen["held"].items():
            queue = _Queue(client, order, stream[len(STREAM):], found, beats)
            for node, held in told.items():
                if reaping.app_of(node) == order.app:
                    if queue.give_back(node, held, once.get(node), check=check):
                        gone.add(node)
                elif held and reaping.app_of(node) is None and queue.name in order.queues:
                    found.left.append(f"{queue.name}: {node} has {len(held)} messages and is no node of the toolkit's, so whether it lives "
                                      "cannot be told; nodes that run claim them, unless they are at-most-once")
        BEATS.forget(client, order, beats, found, check=check)
        found.forgotten += gone
        told_once = sorted(node for node in once if order.doubt(node, beats=bool(client.call("EXISTS", HEARTBEAT + node))) is None)
        if told_once and not check:
            client.call("HDEL", at_most_once(order.app), *told_once)
    if redis_url.is_redis(order.result_url):
        with resp.connect(order.result_url) as client:
            forget_workers(client, order, found, check=check)


class _Queue:
    """One stream, and the messages of its dead consumers."""

    def __init__(self, client: resp.Client, order: Reaping, name: str, found: Found, beats: Mapping[str, str]) -> None:
        self.client, self.order, self.name, self.found, self.beats = client, order, name, found, beats
        self.stream, self.group = STREAM + name, consumer_group(order.options)

    def give_back(self, node: str, held: Sequence[Sequence[Any]], once: Sequence[str] | None, *, check: bool) -> bool:
        """Move what a node holds where it is proved dead; whether its name is gone from the consumers then."""
        doubt, is_news = BEATS.doubt(self.client, self.order, node, self.beats.get(node))
        if doubt is not None:
            if held and is_news:
                self.found.left.append(f"{self.name}: {node} has {len(held)} messages: {doubt}")
            return False
        if held and once is None:
            self.found.left.append(f"{self.name}: {node} has {len(held)} messages, and never told which of its tasks must not run twice")
            return False
        for identity, times in held:
            self.move(node, str(identity), int(times), once or (), check=check)
        return check or bool(self.client.call("EVAL", _FORGET, 1, self.stream, self.group, node))

    def move(self, node: str, identity: str, times: int, never_twice: Sequence[str], *, check: bool) -> None:
        """Put one message behind the others of its queue, or among the dead letters."""
        held, messages = self.client.pipeline([("XPENDING", self.stream, self.group, identity, identity, 1, node),
                                               ("XRANGE", self.stream, identity, identity)])
        if not held or int(held[0][3]) != times:
            return  # claimed meanwhile, or the node is there again
        fields = dict(zip(messages[0][1][::2], messages[0][1][1::2])) if messages else {}
        data = fields.get(b"data")
        name = text_of(data, "name")
        told = reaping.task(self.name, text_of(data, "id") or identity, name)
        # What cannot be read is not run: the runner itself puts it there.
        is_dead = name is None or name in never_twice
        words: list[resp.Argument] = [self.group, identity, node, times]
        if is_dead:
            why = f"{node} died with it, and it must not run twice" if name else "cannot be read"
            words += ["failed_at", datetime.now(timezone.utc).isoformat(), "error", why, "retry_count", "0", "original_stream_id", identity,
                      "task_name", name or "", *([] if b"task_id" in fields else ["task_id", told["id"]])]
        if check or self.client.call("EVAL", _MOVE, 2, self.stream, (DEAD if is_dead else STREAM) + self.name, *words):
            if messages:
                (self.found.dead if is_dead else self.found.returned).append(told)
            else:
                self.found.left.append(f"{self.name}: {identity}: {node} died with it, and the stream has been cut since: it is lost")


def at_most_once_of(client: resp.Client, key: str, unread: Unread) -> dict[str, list[str]]:
    """Return by node the names of the tasks that must not run twice. What a node that cannot be read holds is left alone."""
    found = {}
    for page in hash_entries(client, key, unread, LARGEST_BEAT):
        for name, value in page:
            with unread.entry(key, name):
                found[resp.text(name)] = [decode.text(task) for task in decode.items(decode.document(value, LARGEST_BEAT))]
    return found


def forget_workers(client: resp.Client, order: Reaping, found: Found, *, check: bool) -> None:
    """Take dead nodes off the list that Chicory itself keeps beside the results."""
    if int(client.call("SCARD", WORKERS)) > _MOST_WORKERS:
        found.left.append(f"key {WORKERS}: more than {_MOST_WORKERS} names, which are not looked through")
        return
    names = [resp.text(name) for name in client.call("SMEMBERS", WORKERS)]
    beats = client.pipeline([("EXISTS", HEARTBEAT + name) for name in names])
    dead = [name for name, beat in zip(names, beats) if reaping.app_of(name) == order.app and order.doubt(name, beats=bool(beat)) is None]
    if dead and not check:
        client.call("SREM", WORKERS, *dead)
    found.forgotten += dead
