"""Tasks out of a queue into a dump, and back: the order of the steps, so that a kill at any of them loses nothing.

1. ``write``: take, write a dump on this host. Nothing is deleted.
2. The action plugin brings the dump to the control node and looks at it there.
3. ``commit``: from here on the tasks are in the dump and nowhere else; they are deleted.

What a killed run left is ended by the next one, whatever it is there for: see ``recover``.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import decode, dump, resp
from ..decode import BadEntry, Unread
from ..engines import taskqueues
from ..engines.verbs import figures as keys
from ..engines.verbs.results import ResultsStash
from ..engines.verbs.stash import DONE, LARGEST_NOTE, Choice, Leftover, Stash, identified, leftover, leftovers
from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_LEASE = 600  # seconds that a run may be silent before another may begin
_RENEWED = 5.0
_MOST_SAID = 100

# Only a purge that nobody has put back meanwhile may be deleted.
_COMMIT = """
local said = redis.call('HGET', KEYS[1], ARGV[1])
if not said then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""

_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
# Whose it is, where it is not ours.
_SIGN = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ''
"""
RECOVERY = "playbooks/restore.yml without a dump, or the next purge or restore of the app,"


class Run:
    """One purge or restore of an app's queue on its broker. ``queues`` are the app's own, by engine; only these are touched."""

    def __init__(
        self, client: resp.Client, app: str, engine: str, options: Mapping[str, Any], holder: str, queues: Mapping[str, Collection[str]]
    ) -> None:
        self.client, self.app, self.engine, self.options, self.holder, self.queues = client, app, engine, options, holder, queues
        self.renewed = 0.0
        #: Sentences about what is in the broker or in a dump and was left alone.
        self.problems: list[str] = []

    def stash(self, identity: str, choice: Choice) -> Stash:
        """What the engine says of a purge."""
        return self._stash(self.engine, identity, choice)

    def _stash(self, engine: str, identity: str, choice: Choice) -> Stash:
        return taskqueues.named(engine).taking(self.client, self.app, self.options, identity, choice)

    @property
    def lock(self) -> str:
        """The key that keeps two runs from each other."""
        return self.stash("", Choice("")).key("purging")

    @contextlib.contextmanager
    def alone(self, *, force: bool) -> Iterator[None]:
        """Keep other runs out; one that was killed does so for some minutes, unless forced."""
        while not self.client.call("SET", self.lock, self.holder, "NX", "EX", _LEASE):
            other = self.refuse_other(force=force)
            self.client.call("EVAL", _RELEASE, 1, self.lock, other)  # its own: a third one may have come meanwhile
        try:
            yield
        except BaseException:
            with contextlib.suppress(WorkfleetError):
                self.release()
            raise

    def refuse_other(self, *, force: bool) -> str:
        """Return who is at work, or was a moment ago; raises where that is another run."""
        other = resp.text(self.client.call("GET", self.lock))
        if other and other != self.holder and not force:
            raise WorkfleetError(f"another purge or restore of {self.app} is at work, or was killed: {other}. It is waited for up to "
                                 f"{_LEASE} s after its last sign; -e force=true goes on at once")
        return other or ""

    def release(self) -> None:
        """Let others in."""
        self.client.call("EVAL", _RELEASE, 1, self.lock, self.holder)

    def sign(self) -> None:
        """Show that we are at work."""
        if time.monotonic() - self.renewed > _RENEWED:
            other = resp.text(self.client.call("EVAL", _SIGN, 1, self.lock, self.holder, _LEASE))
            if other:
                raise WorkfleetError(f"another run has passed this one by force, and ended what it had begun: {other}")
            self.renewed = time.monotonic()

    def recover(self) -> list[str]:
        """End what a killed run began, and say so: what is in a dump is deleted, all else put back."""
        left, self.problems = self._leftovers()
        said = []
        for item in left:
            stash = self._stash(item.engine, item.id, item.choice)
            what = f"the purge {item.id} of queue {item.choice.queue} was not ended: its"
            if isinstance(stash, ResultsStash):
                stash.leave()
                said.append(f"the purge {item.id} of results was not ended: those that are left stay")
            elif item.state == "dumped":
                try:
                    stash.drop()
                    said.append(f"{what} tasks were dumped, and are deleted now")
                except BadEntry as error:  # of this one; no reason to keep every other purge and restore from their work
                    self.problems.append(f"{what} tasks were dumped, and stay in Redis: {error}")
            else:
                stash.put_back()
                said.append(f"{what} tasks are back in the queue")
            self.problems += stash.unread.said()
        return said

    def _leftovers(self) -> tuple[list[Leftover], list[str]]:
        return leftovers(self.stash("", Choice("")), self.queues)

    @property
    def _unless(self) -> str:
        holder = resp.text(self.client.call("GET", self.lock) or b"")
        return f" (unless {holder} is still at work: else -e force=true)" if holder else ""

    def unfinished_purges(self) -> list[str]:
        """Say what killed purges left, which ``recover`` ends."""
        besides = self._unless
        left, said = self._leftovers()
        for item in left:
            count, choice = self._stash(item.engine, item.id, item.choice).away(), item.choice
            what = "its tasks" if count is None else f"{count} tasks"
            if item.state == "dumped":
                said.append(f"queue {choice.queue}: the purge {item.id[:8]} was not ended: {what} are out of the queue, and those in its "
                            f"dump are not deleted yet; {RECOVERY} does that{besides}")
            elif count is None or count:
                said.append(f"queue {choice.queue}: the purge {item.id[:8]} was not ended: {what} are out of the queue and in no dump; "
                            f"{RECOVERY} puts them back{besides}")
        return said

    def unfinished_restores(self) -> list[str]:
        """Say what killed restores left, which their dumps end."""
        besides, key, unread = self._unless, self.stash("", Choice("")).key, Unread()
        said: list[str] = []
        for page in keys.hash_entries(self.client, key("restoring"), unread, LARGEST_NOTE):
            for identity, note in page:
                with unread.entry(key("restoring"), identity):
                    told = decode.fields(decode.document(note, LARGEST_NOTE))
                    queue, records, path = told.text("queue"), told.count("records"), told.text("dump")
                    if self.client.call("HGET", key("restored"), identity) != DONE and len(said) < _MOST_SAID:
                        said.append(f"queue {queue}: a restore of {records} tasks was not ended; "
                                    f"playbooks/restore.yml -e dump={path} goes on with it{besides}")
        return said + unread.said()

    def write(self, identity: str, choice: Choice, path: str, header: Mapping[str, Any]) -> dump.Summary:
        """Take and write; where that fails all is put back."""
        stash = self.stash(identity, choice)
        try:
            stash.take()
            self.problems += stash.unread.said()
            with private(path) as file:
                writer = dump.Writer(file, {"id": identity, "app": self.app, "engine": self.engine, **asdict(choice), **header})
                for place, records in stash.taken():
                    writer.write(place, records)
                    self.sign()
                return writer.close()
        except OSError as error:
            stash.put_back()
            raise WorkfleetError(f"{path}: the dump cannot be written: {error.strerror}; all tasks are back in their queue") from error
        except resp.RespConnectionError:
            raise  # the next run puts back what is there then
        except WorkfleetError:
            stash.put_back()
            raise

    def commit(self, identity: str, choice: Choice) -> None:
        """Delete what was taken: its dump is safe."""
        stash = self.stash(identity, choice)
        _, purges, _, said = stash.note("dumped")
        if not stash.script(_COMMIT, [str(purges)], identity, said):
            raise WorkfleetError(f"the purge {identity} was put back by another run meanwhile; nothing was deleted, "
                                 "and its dump is of no use")
        stash.drop()
        self.problems += stash.unread.said()

    def put_back(self, identity: str, choice: Choice) -> None:
        """Undo the purge."""
        self.stash(identity, choice).put_back()

    def restore(self, path: str, known_as: str = "") -> tuple[dump.Summary, int]:
        """Put a dump back; return it and how many of its records were not there yet. Raises before the first write on a bad one.

        ``known_as`` is where those who can type find it.
        """
        summary = dump.verify(path)
        stash = self.restored_by(summary.header, path)
        choice, identity = stash.choice, stash.id
        stash.check()
        done, added = stash.restored(), 0
        if done is None:
            self.client.call("HDEL", stash.key("restoring"), identity)
            return summary, 0
        note = {"queue": choice.queue, "records": summary.records, "dump": known_as or path}
        self.client.call("HSET", stash.key("restoring"), identity, json.dumps(note))
        for number, (place, records) in enumerate(dump.blocks(path), 1):
            if number > done:
                good = list(self._good(stash, place, records))
                stash.add(place, good, stash.progress(number)) if good else self.client.call(*stash.progress(number))
                added += len(good)
                self.sign()
        stash.added(stash.progress(DONE))
        self.client.call("HDEL", stash.key("restoring"), identity)
        self.problems += stash.unread.said()
        return summary, summary.records if taskqueues.named(self.engine).gathers else added

    def _good(self, stash: Stash, place: str, records: Collection[bytes]) -> Iterator[bytes]:
        """Yield the records that may be put back: somebody else may have written the dump."""
        for record in records:
            try:
                stash.examine(place, record)
            except BadEntry as error:
                stash.unread.add(f"of the dump, place {place}", "", error)
            else:
                yield record

    def restored_by(self, header: Mapping[str, Any], path: str) -> Stash:
        """What puts a dump back; raises where it is none of the app's queues."""
        if (header["app"], header["engine"]) != (self.app, self.engine):
            raise WorkfleetError(f"{path}: is a dump of the app {header['app']} (engine {header['engine']}), "
                                 f"not of {self.app} ({self.engine}); nothing was written")
        try:
            identity, choice = identified(header["id"]), Choice.parse(header)
            leftover(identity, json.dumps({"state": "dumped", "engine": self.engine, "choice": asdict(choice)}).encode(), self.queues)
        except BadEntry as error:
            raise WorkfleetError(f"{path}: the dump's header is no purge's: {error}; nothing was written") from error
        return self.stash(identity, choice)


@contextlib.contextmanager
def private(path: str) -> Iterator[Any]:
    """A new file that only we can read, or who owns the directory: Ansible's login user, who fetches it."""
    owner = os.stat(os.path.dirname(path))
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        if os.geteuid() == 0:
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        yield file


def step(run: Run, given: Mapping[str, Any], choice: Choice, *, check: bool) -> dict[str, Any]:
    """One step of a purge, as the module does it: ``write``, ``commit`` or ``put_back``. With ``check`` only look."""
    identity = str(given["id"])
    stash = run.stash(identity, choice)
    stash.check()
    if check:
        count = stash.count()
        return {"changed": count != 0, "records": count, "recovered": run.unfinished_purges()}
    found: dict[str, Any] = {"changed": True}
    with run.alone(force=bool(given["force"])):
        if given["step"] == "write":
            found["recovered"] = run.recover()
            summary = run.write(identity, choice, str(given["path"]), given["header"])
            return {**found, "records": summary.records, "sha256": summary.sha256, "problems": run.problems}
        if given["step"] == "commit":
            run.commit(identity, choice)
        else:
            run.put_back(identity, choice)
        run.release()
    return {**found, "problems": run.problems}


def restore(run: Run, path: str, known_as: str, *, force: bool) -> dict[str, Any]:
    """The restore as the module does it; the file is looked at before anything else. Without a file only recover."""
    if path:
        dump.verify(path)
    with run.alone(force=force):
        recovered = run.recover()
        summary, added = run.restore(path, known_as) if path else (None, 0)
        run.release()
    found = {"queue": None, "records": 0} if summary is None else {"queue": summary.header["queue"], "records": summary.records}
    return {"changed": added > 0 or (summary is None and bool(recovered)), **found, "restored": added, "recovered": recovered,
            "problems": run.problems}


def foresee(run: Run, header: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a restore would find: how many blocks of the dump are there already (``None``: all), and what it would recover."""
    done: int | None = 0
    if header is not None:
        stash = run.restored_by(header, str(header["queue"]))
        stash.check()
        done = stash.restored()
        left, _ = leftovers(stash, run.queues)
        # it is put back before anything is restored
        done = None if any(item.id == stash.id and item.state != "dumped" for item in left) else done
        if taskqueues.named(run.engine).gathers and done is not None:
            done = 0  # what was gathered comes into the queue at the end
    return {"changed": False, "done": done, "recovered": run.unfinished_purges()}
