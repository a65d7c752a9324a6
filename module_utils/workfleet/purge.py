"""Tasks out of a queue into a dump, and back: the order of the steps, so that a kill at any of them loses nothing.

1. ``write``: take, write a dump on this host. Nothing is deleted.
2. The action plugin brings the dump to the control node and looks at it there.
3. ``commit``: from here on the tasks are in the dump and nowhere else; they are deleted.

What a killed run left is ended by the next one, whatever it is there for: see ``recover``.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import dump, engines, resp
from .engines.arq_stash import ArqStash
from .engines.celery_stash import CeleryStash
from .engines.chicory_stash import ChicoryStash
from .engines.queues import Question
from .engines.results_stash import CeleryResults, ChicoryResults
from .engines.stash import Choice, Stash, leftovers
from .errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STASHES: dict[str, type[Stash]] = {"celery": CeleryStash, "arq": ArqStash, "chicory": ChicoryStash}
RESULTS: dict[str, type[Stash]] = {"celery": CeleryResults, "arq": ArqStash, "chicory": ChicoryResults}
_LEASE = 600  # seconds that a run may be silent before another may begin
_RENEWED = 5.0

# Only a purge that nobody has put back meanwhile may be deleted.
_COMMIT = """
local said = redis.call('HGET', KEYS[1], ARGV[1])
if not said then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


class Run:
    """One purge or restore of an app's queue on its broker."""

    def __init__(self, client: resp.Client, app: str, engine: str, options: Mapping[str, Any], holder: str) -> None:
        self.client, self.app, self.engine, self.options, self.holder = client, app, engine, options, holder
        self.renewed = 0.0

    def stash(self, identity: str, choice: Choice) -> Stash:
        """What the engine says of a purge."""
        return self._stash(self.engine, identity, choice)

    def _stash(self, engine: str, identity: str, choice: Choice) -> Stash:
        return (RESULTS if choice.results else STASHES)[engine](self.client, self.app, self.options, identity, choice)

    @property
    def lock(self) -> str:
        """The key that keeps two runs from each other."""
        return self.stash("", Choice("")).key("purging")

    @contextlib.contextmanager
    def alone(self, *, force: bool) -> Iterator[None]:
        """Keep other runs out; one that was killed does so for some minutes, unless forced."""
        while not self.client.call("SET", self.lock, self.holder, "NX", "EX", _LEASE):
            self.refuse_other(force=force)
            self.client.call("DEL", self.lock)
        try:
            yield
        except BaseException:
            with contextlib.suppress(WorkfleetError):
                self.release()
            raise

    def refuse_other(self, *, force: bool) -> None:
        """Raise where another run is at work, or was a moment ago."""
        other = resp.text(self.client.call("GET", self.lock))
        if other and other != self.holder and not force:
            raise WorkfleetError(f"another purge or restore of {self.app} is at work, or was killed: {other}. It is waited for up to "
                                 f"{_LEASE} s after its last sign; -e force=true goes on at once")

    def release(self) -> None:
        """Let others in."""
        self.client.call("DEL", self.lock)

    def sign(self) -> None:
        """Show that we are at work."""
        if time.monotonic() - self.renewed > _RENEWED:
            self.client.call("SET", self.lock, self.holder, "EX", _LEASE)
            self.renewed = time.monotonic()

    def recover(self) -> list[str]:
        """End what a killed run began, and say so: what is in a dump is deleted, all else put back."""
        said = []
        for identity, (state, engine, choice) in leftovers(self.stash("", Choice(""))).items():
            stash = self._stash(engine, identity, choice)
            if state == "dumped":
                stash.drop()
                said.append(f"the purge {identity} of queue {choice.queue} was not ended: its tasks were dumped, and are deleted now")
            else:
                stash.put_back()
                said.append(f"the purge {identity} of queue {choice.queue} was not ended: its tasks are back in the queue")
        return said

    def write(self, identity: str, choice: Choice, path: str, header: Mapping[str, Any]) -> dump.Summary:
        """Take and write; where that fails all is put back."""
        stash = self.stash(identity, choice)
        try:
            stash.take()
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

    def put_back(self, identity: str, choice: Choice) -> None:
        """Undo the purge."""
        self.stash(identity, choice).put_back()

    def restore(self, path: str) -> tuple[dump.Summary, int]:
        """Put a dump back; return it and how many of its records were not there yet. Raises before the first write on a bad one."""
        summary = dump.verify(path)
        header = summary.header
        if (header["app"], header["engine"]) != (self.app, self.engine):
            raise WorkfleetError(f"{path}: is a dump of the app {header['app']} (engine {header['engine']}), "
                                 f"not of {self.app} ({self.engine}); nothing was written")
        stash = self.stash(str(header["id"]), Choice.parse(header))
        stash.check()
        done, added = stash.restored(), 0
        if done is None:
            return summary, 0
        for number, (place, records) in enumerate(dump.blocks(path), 1):
            if number > done:
                stash.add(place, records, stash.progress(number))
                added += len(records)
                self.sign()
        stash.added(stash.progress(b"done"))
        return summary, summary.records if self.engine == "celery" else added


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
    run.stash(identity, choice).check()
    if check:
        figures = engines.named(run.engine).figures(Question(str(given["url"]), run.app, [choice.queue], run.options))
        waiting = next((item.waiting for item in figures if item.queue == choice.queue), None)
        return {"changed": bool(waiting), "records": waiting, "recovered": []}
    found: dict[str, Any] = {"changed": True}
    with run.alone(force=bool(given["force"])):
        if given["step"] == "write":
            found["recovered"] = run.recover()
            summary = run.write(identity, choice, str(given["path"]), given["header"])
            return {**found, "records": summary.records, "sha256": summary.sha256}
        if given["step"] == "commit":
            run.commit(identity, choice)
        else:
            run.put_back(identity, choice)
        run.release()
    return found


def restore(run: Run, path: str, *, force: bool) -> dict[str, Any]:
    """The restore as the module does it; the file is looked at before anything else."""
    dump.verify(path)
    with run.alone(force=force):
        recovered = run.recover()
        summary, added = run.restore(path)
        run.release()
    return {"changed": added > 0, "queue": summary.header["queue"], "records": summary.records, "restored": added, "recovered": recovered}
