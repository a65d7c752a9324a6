"""How tasks are taken out of a queue and put into one, whatever the engine.

Purging: what is to go is moved to keys of our own, where no worker finds it; is read from there into a dump; and is
deleted when the dump is safe. Each step may be killed: the list of purges in Redis says how far it came, and the next
run puts back what is not known to be in a dump, and ends the deletion of what is.

Restoring: block by block, each in one step with the note of how many are there, so that a second run goes on where the
first was killed and does nothing when that was done.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ... import decode, resp
from ...decode import BadEntry, Fields, Unread
from ...errors import WorkfleetError
from .figures import hash_entries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

#: No more records, nor bytes if that can be helped, are held at once.
MOST_RECORDS, MOST_BYTES = 1000, 4 << 20
DONE = b"done"
#: Steps that move a whole queue may take a second or two of the server.
PATIENCE = 120.0
_IDENTITY = re.compile(r"[0-9A-Za-z-]{1,64}")
#: Bytes of the note on a purge: it may name the dead letters that are meant.
LARGEST_NOTE = 1 << 20
_MOST_LEFTOVERS = 100
#: A script that takes all that is behind a key in one step.
TAKE_KEY = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end"


@dataclass(frozen=True)
class Choice:
    """What is to go. ``older_than`` is in seconds; ``dead`` are the queue's dead letters, ``ids`` some of them.

    ``whole`` is all that there is of the queue, what workers hold and the dead letters too: right only where none is at work.
    ``results`` are, in place of tasks, what has come of them; of engines whose results name no queue those of the whole database.
    """

    queue: str
    priority: int | None = None
    task_name: str | None = None
    older_than: float | None = None
    dead: bool = False
    ids: tuple[str, ...] = ()
    whole: bool = False
    results: bool = False

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Choice:
        """Return the choice in JSON's values, beside which others may stand; raises where it is none."""
        given = Fields(dict(told))
        return cls(given.text("queue"), given.integer("priority", None), given.text("task_name", None), given.number("older_than", None),
                   given.flag("dead", False), tuple(given.texts("ids", ())), given.flag("whole", False), given.flag("results", False))


class Stash:
    """One purge or one restore; ``id`` names it everywhere."""

    engine = ""

    def __init__(self, client: resp.Client, app: str, options: Mapping[str, Any], identity: str, choice: Choice) -> None:
        self.client, self.app, self.options, self.id, self.choice = client, app, options, identity, choice
        self.unread = Unread()

    # -- what an engine says

    def check(self) -> None:
        """Raise where the choice makes no sense for this engine, or a key is of another kind. Here there is nothing to choose from."""
        raise WorkfleetError(f"engine {self.engine} has nothing that takes tasks or results out of the broker and puts them back: its "
                             "queues cannot be purged, restored or reset. Nothing was touched")

    def take(self) -> None:
        """Move what is chosen to keys of our own."""
        raise NotImplementedError

    def taken(self) -> Iterator[tuple[str, list[bytes]]]:
        """Yield records of what was taken, by place, those first that came first."""
        raise NotImplementedError

    def drop(self) -> None:
        """Delete what was taken; may be called again after it was killed.

        What lies among it and is no task or result of the queue somebody else has put there: it is left alone (``unread``).
        """
        raise NotImplementedError

    def put_back(self) -> None:
        """Undo :meth:`take`; may be called again after it was killed."""
        raise NotImplementedError

    def examine(self, place: str, record: bytes) -> None:
        """Raise :class:`BadEntry` on a record of a dump that was not taken from this queue."""

    def add(self, place: str, records: Sequence[bytes], note: Sequence[resp.Argument]) -> None:
        """Put records where they came from, in one step with the command ``note``."""
        raise NotImplementedError

    def added(self, note: Sequence[resp.Argument]) -> None:
        """Make all that was added take effect, in one step with the command ``note``."""
        self.client.call(*note)

    def count(self) -> int | None:
        """How many records :meth:`take` and :meth:`taken` would find; ``None`` where that is not told."""
        return None

    def away(self) -> int | None:
        """How many tasks lie where :meth:`take` has put them."""
        return None

    # -- our own keys

    def key(self, name: str) -> str:
        """A key of the app's own below ``workfleet:``; where others may be under a prefix, ours are too."""
        return f"{self.options.get('global_keyprefix') or ''}workfleet:{self.app}:{name}"

    def own(self, place: str) -> str:
        """Where a place's tasks lie while they belong to nobody."""
        return self.key(f"purge:{self.id}:{place}")

    def note(self, state: str) -> list[resp.Argument]:
        """The command that says how far the purge is."""
        return ["HSET", self.key("purges"), self.id, json.dumps(
            {"state": state, "engine": self.engine, "choice": asdict(self.choice)})]

    @property
    def forget(self) -> list[resp.Argument]:
        """The command that says that the purge is over."""
        return ["HDEL", self.key("purges"), self.id]

    def progress(self, count: int | bytes) -> list[resp.Argument]:
        """The command that says how many blocks were restored."""
        return ["HSET", self.key("restored"), self.id, count]

    def restored(self) -> int | None:
        """How many blocks of the dump were restored; ``None`` for all."""
        told = self.client.call("HGET", self.key("restored"), self.id)
        if told == DONE:
            return None
        try:
            return decode.count(decode.document(told or b"0", largest=20))
        except BadEntry as error:
            raise WorkfleetError(f"{self.key('restored')}: {self.id}: it is not known how far the dump was restored: {error}. Somebody "
                                 "else wrote there; nothing was touched") from error

    def together(self, *commands: Sequence[resp.Argument]) -> list[resp.Reply]:
        """Run commands as one step."""
        replies = self.client.pipeline([("MULTI",), *commands, ("EXEC",)], timeout=PATIENCE)[-1]
        for reply in replies:
            if isinstance(reply, resp.RespError):
                raise reply
        return list(replies)

    def script(self, text: str, keys: Sequence[str], *arguments: resp.Argument) -> resp.Reply:
        """Run a script."""
        return self.client.call("EVAL", text, len(keys), *keys, *arguments, timeout=PATIENCE)


@dataclass(frozen=True)
class Leftover:
    """A purge that was not ended: how far it was, whose and of what."""

    id: str
    state: str
    engine: str
    choice: Choice


def leftovers(stash: Stash, queues: Mapping[str, Collection[str]]) -> tuple[list[Leftover], list[str]]:
    """Return the purges of the app that were not ended, and sentences about what is none.

    Whoever may write to the broker may have written them. So only what is about one of the app's own ``queues`` (by engine) is
    believed; what is deleted for it is looked at again then, key by key.
    """
    unread, found, key = Unread(), [], stash.key("purges")
    for page in hash_entries(stash.client, key, unread, LARGEST_NOTE):
        for name, value in page:
            with unread.entry(key, name):
                found.append(leftover(resp.text(name), value, queues))
            if len(found) > _MOST_LEFTOVERS:
                return found, [*unread.said(), f"key {key}: more than {_MOST_LEFTOVERS} purges were not ended; the others are left alone"]
    return sorted(found, key=lambda item: item.id), unread.said()


def leftover(identity: str, value: bytes, queues: Mapping[str, Collection[str]]) -> Leftover:
    """Read one; raises on what is none of the app's."""
    said = decode.fields(decode.document(value, LARGEST_NOTE))
    found = Leftover(identified(identity), said.text("state"), said.text("engine"), Choice.parse(said.fields("choice").told))
    if found.state not in ("taken", "dumped") or found.engine not in queues:
        raise BadEntry(f"it is no purge of the app: state {found.state}, engine {found.engine}")
    if found.choice.queue not in queues[found.engine] and not (found.choice.results and not found.choice.queue):
        raise BadEntry(f"the app declares no queue {found.choice.queue}; a purge of that name ends it")
    return found


def identified(identity: str) -> str:
    """Return a purge's name, which is a part of keys; raises on what is none."""
    if not _IDENTITY.fullmatch(identity):
        raise BadEntry("it has no purge's name, which is letters and digits")
    return identity


def refuse_priority(choice: Choice, engine: str) -> None:
    """Raise where priorities are asked of an engine that has none."""
    if choice.priority is not None:
        raise WorkfleetError(f"priority = {choice.priority}: engine {engine} has no priorities; leave it out")


def chunks(records: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield records in blocks of a bounded size."""
    block: list[bytes] = []
    size = 0
    for record in records:
        block.append(record)
        size += len(record)
        if len(block) >= MOST_RECORDS or size >= MOST_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block
