"""Run ``celery beat`` as the app's only one: it ticks while it holds a lock in the broker, and ends when it loses it.

    python workfleet_beat.py [--check] --node NAME --lock KEY --directory DIR -- -A APP beat [OPTION ...]

Beat runs in this very process, so that what sends tasks and what holds the lock live and die together, and so that each
sending can ask whether the lock is still ours. Without the lock it waits and says who has it. It tells readiness when it
holds the lock and has ticked once. Told to stop it ends what it is sending, writes the schedule and gives the lock back.
The user's code is not touched.

Python 3.9 or newer, Celery 5.3 or newer with redis-py, and the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import queue
import signal
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import workfleet_tell
from celery import Celery, beat
from celery.apps.beat import Beat
from celery.utils.imports import load_extension_class_names, symbol_by_name

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How long the lock outlives its holder; after a kill the next scheduler ticks this much later at most.
LOCK_SECONDS = 10.0
#: The holder takes it for lost a little earlier than Redis does.
MARGIN_SECONDS = 1.0
RENEW_SECONDS = 2.0
POLL_SECONDS = 1.0
SAY_SECONDS = 60.0
#: Silence of the broker that counts as a failure.
TIMEOUT_SECONDS = 2.0
#: For the schedule to be written when the lock is lost; nothing is sent meanwhile.
GRACE_SECONDS = 5.0
#: What is being sent when a signal comes may take so long; then it is broken off, as the broker is silent.
STEP_SECONDS = 3.0
#: Take a free lock, renew our own, else tell the holder. One step in Redis, so nothing comes between.
TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
"""
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Unusable(Exception):
    """What was asked for cannot be run; one sentence for people."""


def now() -> float:
    """Return a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def say(text: str) -> None:
    """One line for the log, before beat has set up its own."""
    print(f"workfleet_beat: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the node's log


def broker(app: Celery) -> tuple[Any, str]:
    """Return a client of the app's own Redis (address, TLS and Sentinel as kombu has them) and its prefix for keys.

    The client is redis-py's plain one over kombu's pool: kombu's own puts the prefix before the keys of some commands only.
    """
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options = dict(app.conf.broker_transport_options or {})
    quick = {**options, "socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS, "retry_on_timeout": False}
    connection = app.connection_for_write(transport_options=quick)
    if getattr(connection.transport, "driver_type", "") != "redis":
        raise Unusable(f"the lock needs Redis, and the app's broker is {connection.transport_cls}")
    client = Redis(connection_pool=connection.channel().pool)
    client.set_retry(Retry(NoBackoff(), 0))  # redis-py would go on for longer than the lock lasts
    return client, str(options.get("global_keyprefix", ""))


class Stop:
    """What a signal asks for is done between two steps of beat, never in one.

    Celery's own handler closes the schedule and the connection wherever it is, and raises. In the middle of a sending that loses
    the task, which the schedule has for sent; and where redis-py, or Python in a ``__del__``, makes something else of what was
    raised, beat goes on with a closed schedule and dies of it.
    """

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[int] = queue.SimpleQueue()  # one may put into it in a handler, whatever is going on
        self.since = 0.0
        self.hurries = self.is_breakable = False

    def listen(self) -> None:
        """Take the place of Celery's own handler."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self.handle)

    def handle(self, number: int, _frame: Any) -> None:
        """Note it; nothing else, unless this very step is to be broken off."""
        workfleet_tell.stopping()
        self.since = self.since or now()
        self.asked.put(number)
        if self.hurries and self.is_breakable:
            raise SystemExit

    def wait(self, seconds: float) -> None:
        """Sleep between two steps, and end where a signal has come or comes."""
        with contextlib.suppress(queue.Empty):
            self.asked.get(timeout=seconds)
        if self.since:
            raise SystemExit

    @contextlib.contextmanager
    def step(self, *, is_breakable: bool) -> Iterator[None]:
        """Say of a step, or of a part of one, whether it may be broken off."""
        before, self.is_breakable = self.is_breakable, is_breakable
        try:
            yield
        finally:
            self.is_breakable = before

    @property
    def is_late(self) -> bool:
        """Whether a step takes longer than a stop can wait."""
        return bool(self.since) and now() - self.since > STEP_SECONDS

    def hurry(self) -> None:
        """Stop at once, for other threads: only a signal gets the main one out of what it waits for."""
        self.hurries = True
        os.kill(os.getpid(), signal.SIGTERM)


class Lock:
    """The right to be the scheduler: a file lock for this host's schedule, a key in the broker for all hosts."""

    def __init__(self, key: str, node: str, directory: str, stop: Stop) -> None:
        self.stop = stop
        self.turn = threading.Lock()
        self.key = key
        self.directory = directory
        self.value = json.dumps({"node": node, "pid": os.getpid(), "token": uuid.uuid4().hex})
        self.until = 0.0
        self.ended = threading.Event()
        self.client: Any = None
        self.said = ("", 0.0)

    @property
    def is_held(self) -> bool:
        """Whether the lock is ours for certain, by the clock of this machine."""
        return now() < self.until

    def acquire(self, app: Celery) -> None:
        """Wait for the lock, then keep it until :meth:`release`."""
        self.take_file()
        while not self.is_held:
            holder = self.take(app)
            if holder:
                self.wait(holder)
        say(f"holds the lock {self.key}")
        threading.Thread(target=self.keep, args=(app,), daemon=True).start()

    def take_file(self) -> None:
        """Wait until no other beat of this host has the schedule open: one that finds it locked deletes it as corrupt."""
        try:
            self.file = os.open(os.path.join(self.directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unusable(f"cannot write to the schedule's directory {self.directory}: {error.strerror}") from error
        while True:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self.wait(f"another scheduler of this host has {self.directory} open")
            else:
                return

    def take(self, app: Celery) -> str:
        """Take or renew the lock; return nothing, or why it is not ours."""
        with self.turn:  # or it would be taken once more behind its release
            return "it was given back" if self.ended.is_set() else self.taken(app)

    def taken(self, app: Celery) -> str:
        """Ask the broker for the lock."""
        begun = now()
        try:
            if self.client is None:
                client, prefix = broker(app)
                self.client, self.name = client, prefix + self.key
            holder = self.client.eval(TAKE, 1, self.name, self.value, int(LOCK_SECONDS * 1000))
        except Unusable:
            raise
        except Exception as error:  # what redis-py and kombu raise has no common base
            self.client = None
            return f"the broker does not answer: {type(error).__name__}: {error}"
        if holder:
            return f"{self.key} is held by {described(holder)}"
        self.until = begun + LOCK_SECONDS - MARGIN_SECONDS
        return ""

    def wait(self, why: str) -> None:
        """Say why we wait, each reason once and again after a while, then wait a little."""
        if why != self.said[0] or now() - self.said[1] > SAY_SECONDS:
            self.said = (why, now())
            say(f"waits for the scheduler's lock: {why}")
            workfleet_tell.status(f"waiting: {why}")
        self.stop.wait(POLL_SECONDS)

    def keep(self, app: Celery) -> None:
        """Renew the lock to its end; end this process where it is lost, or where it does not end in time by itself."""
        why = ""
        while self.is_held:
            if self.ended.wait(POLL_SECONDS if why or self.stop.since else RENEW_SECONDS):
                return
            if self.stop.is_late:
                self.stop.hurry()
            if self.is_held:  # never again once it has run out: another may have it
                why = self.take(app)
                if "held by" in why:
                    break
        self.until = 0.0
        if self.ended.is_set():
            return
        say(f"lost the scheduler's lock and ends: {why or 'this process slept for too long'}")
        self.stop.hurry()
        time.sleep(GRACE_SECONDS)
        os._exit(1)

    def release(self) -> None:
        """Let the next one have it at once."""
        self.ended.set()
        with self.turn:
            self.until = 0.0
            try:
                if self.client is not None:
                    self.client.eval(RELEASE, 1, self.name, self.value)
            except Exception as error:  # it runs out by itself
                say(f"the lock was not given back, and runs out in {LOCK_SECONDS:g} s: {type(error).__name__}")


def described(holder: Any) -> str:
    """Return who holds the lock, for people."""
    try:
        told = json.loads(holder)
        return f"{told['node']} (pid {told['pid']})"
    except (ValueError, KeyError, TypeError):
        return "something else, which is no scheduler of this toolkit"


def service(lock: Lock) -> type[beat.Service]:
    """Return beat's service, held to the lock."""

    class Locked(beat.Service):
        def start(self, *args: Any, **kwargs: Any) -> None:
            """Wait for the lock, tick while it is ours, give it back when the schedule is closed."""
            lock.acquire(self.app)
            try:
                super().start(*args, **kwargs)
            finally:
                is_lost = not lock.is_held
                lock.release()
                if is_lost:  # by whatever way it ends: its own signal would be an end with 0
                    sys.exit(1)

        def sync(self) -> None:
            """The end, whatever it is: write the schedule."""
            workfleet_tell.stopping()
            super().sync()

        def get_scheduler(self, lazy: bool = False, **kwargs: Any) -> Any:
            """Return the scheduler, of whatever class; the one that ticks asks for the lock each time."""
            scheduler = super().get_scheduler(lazy=lazy, **kwargs)
            if not lazy:
                scheduler.apply_async = guarded(lock, scheduler.apply_async)
                scheduler.sync = written(scheduler, lock.stop)
                scheduler.tick = stepped(scheduler, told(guarded(lock, scheduler.tick)), lock.stop)
            return scheduler

    return Locked


def guarded(lock: Lock, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call that is made only while the lock is ours."""
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not lock.is_held:
            raise SystemExit(1)
        return call(*args, **kwargs)
    return checked


def stepped(scheduler: Any, tick: Callable[..., float], stop: Stop) -> Callable[..., float]:
    """Return a tick with the wait that follows it: in Celery's loop it would not heed a stop."""
    def step(*args: Any, **kwargs: Any) -> float:
        stop.wait(0)
        with stop.step(is_breakable=True):
            interval = tick(*args, **kwargs)
        if interval and interval > 0:
            stop.wait(interval)
            if scheduler.should_sync():
                scheduler._do_sync()
        return 0
    return step


def written(scheduler: Any, stop: Stop) -> Callable[[], None]:
    """Return a sync that is done whole, and leaves the schedule on the disk: Debian's dbm knows no sync, and writes when it is closed."""
    sync = scheduler.sync

    def syncing() -> None:
        with stop.step(is_breakable=False):
            sync()
            store = getattr(scheduler, "_store", None) if isinstance(scheduler, beat.PersistentScheduler) else None
            if store is not None and not hasattr(store.dict, "sync"):
                store.close()
                scheduler._store = scheduler._open_schedule()
    return syncing


def told(tick: Callable[..., Any]) -> Callable[..., Any]:
    """Return a tick that tells readiness when it was first done."""
    done: list[bool] = []

    def telling(*args: Any, **kwargs: Any) -> Any:
        interval = tick(*args, **kwargs)
        if not done:
            done.append(True)
            workfleet_tell.ready("the schedule", doing="sending")
        return interval
    return telling


def tried(scheduler: Beat) -> None:
    """Import what a run would need, the app with its tasks and the scheduler's class, and nothing else."""
    scheduler.init_loader()
    symbol_by_name(scheduler.scheduler_cls, aliases=dict(load_extension_class_names("celery.beat_schedulers")))


def main(argv: list[str]) -> NoReturn:
    """Run ``celery`` with the words behind ``--``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--node", required=True, help="name of this node, for whoever waits for the lock")
    parser.add_argument("--lock", required=True, help="the lock's key in the broker")
    parser.add_argument("--directory", required=True, help="directory of the schedule's state")
    parser.add_argument("--check", action="store_true", help="import the app and the scheduler's class, and end")
    mine = argv[:argv.index("--")] if "--" in argv else argv
    given = parser.parse_args(mine)
    if given.check:
        Beat.run = tried
    stop = Stop()
    Beat.install_sync_handler = lambda *_: stop.listen()
    Beat.Service = service(Lock(given.lock, given.node, given.directory, stop))
    from celery.__main__ import main as celery

    sys.argv = ["celery", *argv[len(mine) + 1:]]
    sys.exit(celery())


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # the app's modules are found as with `python -m celery`, and none of the toolkit's
    try:
        main(sys.argv[1:])
    except Unusable as error:
        sys.exit(f"workfleet_beat: {error}")
