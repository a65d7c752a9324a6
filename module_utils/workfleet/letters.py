"""Tasks that have failed for good: what each engine keeps of them, and how they are sent again.

Chicory has a stream for them. Of arq's jobs the failed results are there for as long as arq keeps results. Celery keeps
nothing on Redis; where the app itself has a queue for what it rejects, ``app_broker_options.deadletter_queue`` names it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import decode, resp
from .decode import BadEntry, Unread
from .engines.arq import queues as arq_queues
from .engines.arq.probe import RESULT
from .engines.celery.message import Message
from .engines.celery.wire import Wire
from .engines.chicory.wire import DEAD, STREAM
from .engines.pickled import with_number
from .engines.verbs import figures as queues
from .errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: No more are listed, replayed or dropped in one go.
MOST = 10_000
_PAGE = 200
#: Bytes of letters that are held, and of what one says of itself.
_MOST_BYTES, _LONGEST = 64 << 20, 1000
#: Headers by which an app may say of a Celery message why and when it was rejected.
TOLD = ("reason", "failed_at")
_JOB_LIVES_MS = 86_400_000  # arq's own for a job that is due now

_REPLAY_CHICORY = """
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
# A result serves as a job: arq reads the same five names of it. ARGV: now, how long a job lives, then id and job each.
_REPLAY_ARQ = """
local sent = 0
for i = 3, #ARGV, 2 do
  local job = ARGV[i]
  if redis.call('EXISTS', 'arq:result:' .. job) == 1 and redis.call('EXISTS', 'arq:job:' .. job) == 0 then
    redis.call('SET', 'arq:job:' .. job, ARGV[i + 1], 'PX', ARGV[2])
    redis.call('DEL', 'arq:result:' .. job, 'arq:retry:' .. job)
    redis.call('ZADD', KEYS[1], ARGV[1], job)
    sent = sent + 1
  end
end
return sent
"""
# ARGV: the message that is there, and what is sent in its place.
_REPLAY_CELERY = """
local sent = 0
for i = 1, #ARGV, 2 do
  if redis.call('LREM', KEYS[1], 1, ARGV[i]) == 1 then
    redis.call('LPUSH', KEYS[2], ARGV[i + 1])
    sent = sent + 1
  end
end
return sent
"""


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
    """The dead letters of one queue."""

    def __init__(self, client: resp.Client, queue: str, options: Mapping[str, Any]) -> None:
        self.client, self.queue, self.options = client, queue, options
        self.is_cut = False  # whether there may be more than could be looked at
        self.unread = Unread()
        self.size = 0

    def read(self) -> Iterator[Letter]:
        """Yield them, those first that failed first."""
        raise NotImplementedError

    def bears(self, size: int) -> bool:
        """Whether so many bytes more can be held."""
        self.size += size
        return self.size <= _MOST_BYTES

    def again(self, letter: Letter) -> resp.Argument:
        """What is sent in a letter's place: the same task, never tried. Raises where that cannot be made for certain."""
        raise NotImplementedError

    def replay(self, letters: Sequence[Letter]) -> int:
        """Send them again; return how many were still there."""
        raise NotImplementedError

    def numbered(self, letter: Letter, key: str, value: int) -> bytes:
        """A pickled task with another number in one of its own fields."""
        try:
            return with_number(letter.data, key, value)
        except BadEntry as error:
            raise WorkfleetError(f"queue {self.queue}: the dead letter {letter.id} cannot be sent again as never tried: {error}. Nothing "
                                 "was sent; replay the others one by one or by task_name, or drop it") from error


class ChicoryLetters(Letters):
    """A stream."""

    def read(self) -> Iterator[Letter]:
        """Read the stream."""
        last = "-"
        while page := queues.page(self.client, "XRANGE", DEAD + self.queue, last, "+", "COUNT", _PAGE):
            for tag, flat in page:
                told = {resp.text(name): value for name, value in zip(flat[::2], flat[1::2])}
                name, error, failed_at = (resp.text(told.get(name))[:_LONGEST] for name in ("task_name", "error", "failed_at"))
                yield Letter(resp.text(tag), name or None, error or None, moment(failed_at), number(told.get("retry_count")),
                             data=told.get("data", b""))
            last = f"({resp.text(page[-1][0])}"

    def again(self, letter: Letter) -> resp.Argument:
        """A message keeps the number of its tries."""
        return self.numbered(letter, "retries", 0)

    def replay(self, letters: Sequence[Letter]) -> int:
        """Put them into the queue as new ones, which have not been tried."""
        words = [word for letter in letters for word in (letter.id, self.again(letter))]
        return int(self.client.call("EVAL", _REPLAY_CHICORY, 2, DEAD + self.queue, STREAM + self.queue, *words))


class ArqLetters(Letters):
    """Results of jobs that failed. They are read without running any code of theirs."""

    def read(self) -> Iterator[Letter]:
        """Look through all results of the database."""
        found: dict[str, Letter] = {}
        size = 0
        for job, told, data in arq_queues.results(self.client, self.unread):
            with self.unread.entry(RESULT, job):
                if told.text("q") == self.queue and not told.flag("s"):
                    found[job] = Letter(job, told.text("f"), str(told.told.get("r"))[:_LONGEST], moment(told.count("ft") / 1000),
                                        told.count("t"), data=data)
                    size += len(data)
            if size > _MOST_BYTES:
                self.is_cut = True
                break
        yield from sorted(found.values(), key=lambda letter: (letter.failed_at or 0, letter.id))

    def again(self, letter: Letter) -> resp.Argument:
        """A result keeps the number of the job's tries."""
        return self.numbered(letter, "t", 1)

    def replay(self, letters: Sequence[Letter]) -> int:
        """Enqueue them as due now, at their first try."""
        words = [word for letter in letters for word in (letter.id, self.again(letter))]
        return int(self.client.call("EVAL", _REPLAY_ARQ, 1, self.queue, int(now(self.client) * 1000), _JOB_LIVES_MS, *words))


class CeleryLetters(Letters):
    """Messages of the app's own dead-letter queue that came from this queue, or do not tell where they came from."""

    @property
    def wire(self) -> Wire:
        """Where things stand in Redis."""
        wire = Wire.parse(self.options)
        if not wire.deadletter_queue:
            raise WorkfleetError(f"queue {self.queue}: Celery keeps no dead letters on Redis. Where the app sends what it rejects "
                                 "to a queue of its own, declare it: app_broker_options: {deadletter_queue: NAME}")
        return wire

    def read(self) -> Iterator[Letter]:
        """Read its lists from their ends."""
        found: list[Letter] = []
        for key in self.wire.lists(self.wire.deadletter_queue):
            done = 0
            while page := queues.page(self.client, "LRANGE", key, -done - _PAGE, -done - 1, stride=-1):
                done += len(page)
                for message in page:
                    with self.unread.entry(key):
                        told = Message(message)
                        if told.delivery.text("routing_key", None) in (self.queue, self.wire.deadletter_queue):
                            reason = told.headers.told.get("reason")
                            found.append(Letter(
                                told.headers.text("id"), told.task, None if reason is None else str(reason)[:_LONGEST],
                                moment(told.headers.told.get("failed_at")), number(told.headers.told.get("retries")), key, message))
                yield from found
                found.clear()

    def again(self, letter: Letter) -> resp.Argument:
        """A message is told from a new one by where it was sent to, what it has been through, and the times it was meant for."""
        told = Message(letter.data)
        headers = told.headers.told
        headers.update({"retries": 0, "eta": None, "expires": None})
        for name in ("redelivered", *TOLD):
            headers.pop(name, None)
        priority = {name: value for name, value in told.delivery.told.items() if name == "priority"}
        told.properties.told["delivery_info"] = {"exchange": "", "routing_key": self.queue, **priority}
        return told.again()

    def replay(self, letters: Sequence[Letter]) -> int:
        """Send them to this queue, at the priority they had."""
        sent = 0
        for dead, queue in zip(self.wire.lists(self.wire.deadletter_queue), self.wire.lists(self.queue)):
            words = [word for letter in letters if letter.place == dead for word in (letter.data, self.again(letter))]
            sent += int(self.client.call("EVAL", _REPLAY_CELERY, 2, dead, queue, *words)) if words else 0
        return sent


LETTERS: dict[str, type[Letters]] = {"celery": CeleryLetters, "arq": ArqLetters, "chicory": ChicoryLetters}


def chosen(letters: Letters, task_name: str | None, identity: str | None) -> list[Letter]:
    """Return the letters that are meant, the first 10,000 of them."""
    found: list[Letter] = []
    for letter in letters.read():
        if task_name in (None, letter.task_name) and identity in (None, letter.id):
            if len(found) == MOST or not letters.bears(len(letter.data)):
                letters.is_cut = True
                break
            found.append(letter)
    if identity is not None and not found:
        raise WorkfleetError(f"queue {letters.queue}: there is no dead letter {identity}")
    return found


def work(letters: Letters, task_name: str | None, identity: str | None, *, replay: bool, check: bool) -> dict[str, Any]:
    """List, and where that is asked for send again. ``cut`` tells that there are more than were looked at."""
    try:
        meant = chosen(letters, task_name, identity)
        sent = 0
        for letter in meant if replay else ():
            letters.again(letter)  # raises before the first is sent
        for start in range(0, len(meant) if replay and not check else 0, _PAGE):
            sent += letters.replay(meant[start:start + _PAGE])
    except resp.RespError as error:
        if error.code != "WRONGTYPE":
            raise
        raise WorkfleetError(f"queue {letters.queue}: a key of its name in Redis is of another kind: {error}") from error
    at = now(letters.client)
    replayed = len(meant) if check and replay else sent
    return {"changed": replayed > 0, "letters": [letter.entry(at) for letter in meant], "replayed": replayed, "cut": letters.is_cut,
            "problems": letters.unread.said()}


def now(client: resp.Client) -> float:
    """The time by the server's clock, which all hosts share."""
    return queues.seconds(client.call("TIME"))


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
