"""Runs one Chicory worker as a node: ``python workfleet_chicory.py --node NAME --queue QUEUE [options] module:app``.

Chicory's own command (0.1.0) is not fit for production: told to stop it cancels running tasks, on any queue but
``default`` it never acknowledges and sends retries away, it takes the whole queue into memory, runs a task again that
takes longer than the claim time, moves a delayed task once for each worker, and dies when the broker is idle or away.
This runner leaves Chicory's ``Worker`` to run the tasks and puts its own :class:`Queue` where the worker sees the broker:

* all that the worker does is done on the queue that it consumes; what tasks send goes where Chicory sends it;
* no more is fetched than can run at once, and the claim on what runs is renewed for as long as it runs;
* told to stop, nothing more is taken, what runs is finished, acknowledged and told in a last heartbeat;
* an outage of the broker is waited for.

Chicory and what it brings along only; the app's own code is not touched but for the canary task ``workfleet.probe``.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import os
import signal
import sys
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import workfleet_tell
from chicory import Chicory, DeliveryMode, RedisBroker, TaskMessage, ValidationMode, Worker, WorkerConfig
from chicory.broker.base import TaskEnvelope
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

PROBE = "workfleet.probe"
OUTAGE = (RedisConnectionError, RedisTimeoutError, OSError)
#: What the app's code may have said otherwise, and the environment settles.
BROKER_SETTINGS = ("consumer_group", "block_ms", "claim_min_idle_ms", "max_stream_length", "dlq_max_length")
#: A read blocks no longer, for a node that is told to stop waits for it, and so do delayed tasks.
LONGEST_BLOCK_MS = 1000
SOCKET_SECONDS = 10.0
RETRY_SECONDS = 1.0
CLAIM_SECONDS = 10.0
#: In one step, so that of two nodes only one moves a task.
MOVE_DELAYED = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 100)
for _, data in ipairs(due) do
  redis.call('XADD', KEYS[2], '*', 'data', data)
  redis.call('ZREM', KEYS[1], data)
end
return #due
"""
log = logging.getLogger("workfleet.chicory")


class Queue:
    """The broker as the worker sees it: one queue, and no more taken from it than there are free places."""

    def __init__(self, broker: RedisBroker, name: str, places: int, once: Sequence[str] = ()) -> None:
        self.broker = broker
        self.name = name
        self.places = places
        self.stream = f"chicory:stream:{name}"
        self.delayed = f"chicory:delayed:{name}"
        self.dead = f"chicory:dlq:{name}"
        # Which tasks must not run twice only the app knows; whoever finds our messages when we are dead has to know it too.
        self.once = (f"workfleet:{broker.consumer_name.partition('.')[0]}:at-most-once", broker.consumer_name, json.dumps(sorted(once)))
        self.held: set[str] = set()
        self.begun_tasks: dict[str, dict[str, Any]] = {}  # those of ``held``, as they are told
        self.closing = False
        self.quiet = workfleet_tell.is_held()
        self.waits = False
        self.returned = 0
        self.ended = asyncio.Event()
        self.begun = asyncio.Event()
        self.error: Exception | None = None
        self.changed = asyncio.Event()
        # At-most-once tasks are acknowledged before they run, so none that is pending may be taken a second time:
        # what Chicory's own command leaves there has run, for it acknowledges nothing in this mode.
        self.recovers = broker.delivery_mode == DeliveryMode.AT_LEAST_ONCE
        broker.delivery_mode = DeliveryMode.AT_LEAST_ONCE  # or an acknowledgement does nothing
        self.client = Redis.from_url(broker.dsn, protocol=2, socket_timeout=SOCKET_SECONDS, socket_connect_timeout=SOCKET_SECONDS,
                                     socket_keepalive=True)
        patience = self.client.connection_pool.connection_kwargs.get("socket_timeout") or SOCKET_SECONDS  # the URL's own wins
        self.block_ms = int(max(1, min(broker.block_ms or LONGEST_BLOCK_MS, LONGEST_BLOCK_MS, float(patience) * 500)))
        self.look_again = 0.0
        self.claim_from = "0-0"
        self.read_from = "0" if self.recovers else ">"

    # -- what the worker calls ------------------------------------------------------------------------------------------

    async def consume(self, _queue: str) -> AsyncIterator[TaskEnvelope]:
        """Yield tasks while there is a place for them; after :meth:`close` none, until :meth:`stop` ends it."""
        try:
            while await self.place():
                for tag, fields in await self.fetch():
                    envelope = await self.accept(tag, fields)
                    if envelope is not None:
                        self.held.add(tag)
                        self.begun_tasks[tag] = {"id": envelope.message.id, "task": envelope.message.name, "since": time.time(),
                                                 "acked": False}
                        yield envelope
        except Exception as error:
            log.error("queue %s (%s) cannot be consumed: %s", self.name, self.stream, error)
            self.error = error
            self.ended.set()
            raise

    async def ack(self, envelope: TaskEnvelope) -> None:
        """The task is done, or about to begin where it must never run twice; it dies with us then."""
        await patiently(lambda: self.broker.ack(envelope, self.name), self.ended)
        if envelope.delivery_tag in self.begun_tasks:
            self.begun_tasks[envelope.delivery_tag]["acked"] = True

    async def nack(self, envelope: TaskEnvelope, requeue: bool = True) -> None:
        """The task has failed for good, or is left to be claimed."""
        await patiently(lambda: self.broker.nack(envelope, requeue, self.name), self.ended)

    async def publish(self, message: TaskMessage) -> None:
        """Send a retry back to where the task came from; what tasks send themselves does not come by here."""
        await patiently(lambda: self.broker.publish(message, self.name), self.ended)

    async def move_to_dlq(self, envelope: TaskEnvelope, error: str | None = None, _queue: str = "") -> None:
        """The task has failed for good and is kept."""
        await patiently(lambda: self.broker.move_to_dlq(envelope, error, self.name), self.ended)

    async def cleanup_stale_clients(self, _queue: str, stale_seconds: float) -> int:
        """Remove consumers of this queue, not of ``default``, that hold nothing and have long been silent."""
        return int(await self.broker.cleanup_stale_clients(self.name, stale_seconds))

    def stop(self) -> None:
        """End :meth:`consume`."""
        self.closing = True
        self.ended.set()
        self.changed.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.broker, name)

    # -- taking ---------------------------------------------------------------------------------------------------------

    async def place(self) -> bool:
        """Wait for a free place; once closed wait for the end, which is False."""
        while not self.ended.is_set():
            # A marked node makes the queue's group and rests then: it is ready, and takes nothing.
            rests = self.quiet and self.begun.is_set()
            if not self.closing and not rests and len(self.held) < self.places:
                return True
            self.changed.clear()
            self.waits = True
            await self.changed.wait()
            self.waits = False
        return False

    async def fetch(self) -> list[tuple[str, dict[bytes, bytes]]]:
        """Return the next few messages: what this node held when it died, what others left behind, what is new."""
        try:
            if not self.begun.is_set():
                await self.declare()
                self.begun.set()
            if self.quiet:
                return []
            await self.client.eval(MOVE_DELAYED, 2, self.delayed, self.stream, time.time())
            return await self.claimed() or await self.read()
        except OUTAGE as error:
            log.warning("the broker is away: %s", error)
            self.spare()
            await asyncio.sleep(RETRY_SECONDS)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.declare()  # the queue was purged
        return []

    async def declare(self) -> None:
        """Make the stream and its group where there is none, and tell which tasks must not run twice."""
        await self.client.hset(*self.once)
        try:
            await self.client.xgroup_create(self.stream, self.broker.consumer_group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def claimed(self) -> list[tuple[str, dict[bytes, bytes]]]:
        """Return messages whose worker has not renewed its claim in time."""
        claim_ms = self.broker.claim_min_idle_ms
        if not self.recovers or time.monotonic() < self.look_again:
            return []
        answer = await self.client.xautoclaim(self.stream, self.broker.consumer_group, self.broker.consumer_name, claim_ms,
                                              self.claim_from, count=self.places - len(self.held))
        self.claim_from = text(answer[0])
        if self.claim_from == "0-0":  # all that is pending has been looked at
            self.look_again = time.monotonic() + min(CLAIM_SECONDS, claim_ms / 1000)
        # Our own are among them where the event loop stood still for longer than the claim time.
        return [(text(tag), fields) for tag, fields in answer[1] if text(tag) not in self.held]

    async def read(self) -> list[tuple[str, dict[bytes, bytes]]]:
        """Return one message of those that this node held when it died, and after them a new one."""
        answer = await self.client.xreadgroup(self.broker.consumer_group, self.broker.consumer_name,
                                              {self.stream: self.read_from}, count=1, block=self.block_ms)
        streams = list(answer.values()) if isinstance(answer, dict) else [entry[1] for entry in answer or []]
        found = [(text(tag), fields) for tag, fields in flat(streams)]
        if self.read_from != ">":
            self.read_from = found[-1][0] if found else ">"
        return [(tag, fields) for tag, fields in found if tag not in self.held]

    async def accept(self, tag: str, fields: dict[bytes, bytes]) -> TaskEnvelope | None:
        """Return a task to run, or put away what is none, or what came after we were told to stop."""
        if self.closing or self.quiet:
            await self.finish(tag, self.stream, fields)  # back into the queue, for another node
            self.returned += 1
            return None
        data = (fields or {}).get(b"data")
        try:
            if data is None:
                raise ValueError("the message has no data")
            return TaskEnvelope(message=TaskMessage.loads(data), delivery_tag=tag, raw_data=data)
        except Exception as error:  # a message may hold anything; Chicory's own worker dies of each of these
            log.error("message %s cannot be read and goes to %s: %r", tag, self.dead, error)
            why = {"data": data or b"", "failed_at": datetime.now(timezone.utc).isoformat(), "error": f"cannot be read: {error!r}",
                   "retry_count": "0", "original_stream_id": tag, "task_id": "", "task_name": ""}
            await self.finish(tag, self.dead, why)
            return None

    async def finish(self, tag: str, stream: str, fields: Any) -> None:
        """Put a message into a stream and acknowledge it, in one step."""
        async with self.client.pipeline(transaction=True) as pipe:
            pipe.xadd(stream, fields)
            pipe.xack(self.stream, self.broker.consumer_group, tag)
            await patiently(pipe.execute, self.ended)

    # -- holding --------------------------------------------------------------------------------------------------------

    def release(self, envelope: TaskEnvelope) -> None:
        """A task has ended, in one way or another."""
        self.held.discard(envelope.delivery_tag)
        self.begun_tasks.pop(envelope.delivery_tag, None)
        self.changed.set()

    async def renew(self) -> None:
        """Keep the claim on what runs: a task may take longer than the claim time, a node that hangs loses it."""
        while True:
            await asyncio.sleep(max(0.05, self.broker.claim_min_idle_ms / 3000))
            held: list[Any] = list(self.held)
            if held and not await told(
                    self.client.xclaim(self.stream, self.broker.consumer_group, self.broker.consumer_name, 0, held, justid=True)):
                self.spare()

    def spare(self) -> None:
        """After an outage every claim is old, also those of living nodes: they are given the time to renew them."""
        self.look_again = time.monotonic() + self.broker.claim_min_idle_ms / 1000

    async def watch(self) -> None:
        """Do as the node's mark says, for ever; while it is there, tell what still runs."""
        while True:
            quiet = workfleet_tell.is_held()
            if quiet != self.quiet:
                self.quiet, self.returned = quiet, 0
                self.changed.set()
            if not quiet:
                workfleet_tell.resumed(self.name)
            elif self.waits:  # what the last read still brought is put back
                workfleet_tell.quiesced([dict(entry) for entry in self.begun_tasks.values()], self.returned)
            await asyncio.sleep(workfleet_tell.LOOK_SECONDS)

    def close(self) -> None:
        """Take nothing more."""
        self.closing = True
        self.changed.set()

    async def idle(self) -> None:
        """Wait until all that runs has ended."""
        while self.held:
            self.changed.clear()
            await self.changed.wait()

    async def leave(self) -> None:
        """Take this node off the list of consumers, unless it still holds something that others have to claim."""
        consumers = await self.client.xinfo_consumers(self.stream, self.broker.consumer_group)
        if any(text(entry["name"]) == self.broker.consumer_name and not entry["pending"] for entry in consumers):
            await self.client.xgroup_delconsumer(self.stream, self.broker.consumer_group, self.broker.consumer_name)
            await self.client.hdel(*self.once[:2])


class Store:
    """The result store as the worker sees it: a word on a task outlasts an outage."""

    def __init__(self, backend: Any, ended: asyncio.Event) -> None:
        self.backend = backend
        self.ended = ended

    async def set_state(self, *words: Any) -> None:
        """Tell a task's state."""
        await patiently(lambda: self.backend.set_state(*words), self.ended)

    async def store_result(self, *words: Any) -> None:
        """Tell a task's result."""
        await patiently(lambda: self.backend.store_result(*words), self.ended)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


class App:
    """The app as the worker sees it. Tasks see the real one."""

    def __init__(self, app: Chicory, queue: Queue) -> None:
        self.app = app
        self.broker = queue
        self.backend = None if app.backend is None else Store(app.backend, queue.ended)

    async def connect(self) -> None:
        """Connect; a broker or result store that is away is waited for."""
        while True:
            try:
                await self.app.connect()
                return
            except OUTAGE as error:
                log.warning("the broker or the result store cannot be reached: %s: %s", type(error).__name__, error)
                await asyncio.sleep(RETRY_SECONDS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)


class Node(Worker):
    """Chicory's worker, which says when a task has ended."""

    async def _process_envelope(self, envelope: TaskEnvelope) -> None:
        try:
            await super()._process_envelope(envelope)
        except Exception:
            log.exception("task %s is left for another node", envelope.message.id)
        finally:
            self.app.broker.release(envelope)


async def patiently(act: Callable[[], Awaitable[Any]], ended: asyncio.Event) -> Any:
    """Do it, again and again while the broker is away; what was told to end does not wait any longer."""
    while True:
        try:
            return await act()
        except OUTAGE as error:
            if ended.is_set():
                raise
            log.warning("the broker is away: %s", error)
            await asyncio.sleep(RETRY_SECONDS)


async def told(act: Awaitable[Any]) -> bool:
    """Do what comes again soon; where it cannot be done now, say so."""
    try:
        await act
    except (*OUTAGE, ResponseError) as error:
        log.warning("the broker did not take it: %s", error)
        return False
    return True


class Heart:
    """Tells the figures to the broker, where the toolkit reads them: when they change, and in Chicory's own interval.

    Chicory tells its result store, which an app need not have, and falls silent as soon as it is told to stop.
    """

    def __init__(self, worker: Worker, queue: Queue) -> None:
        self.worker = worker
        self.queue = queue
        self.stands = asyncio.Event()

    async def beat(self) -> None:
        """Tell, for ever."""
        before, due = (-1, -1, -1), 0.0
        while True:
            stats = self.worker.get_stats()
            figures = (stats.active_tasks, stats.tasks_processed, stats.tasks_failed)
            if (figures != before or time.monotonic() >= due) and await self.tell():
                before, due = figures, time.monotonic() + self.worker.heartbeat_interval
            await asyncio.sleep(min(1.0, self.worker.heartbeat_interval))

    async def tell(self) -> bool:
        """Tell once."""
        key, value = f"chicory:heartbeat:{self.worker.worker_id}", self.worker.get_stats().model_dump_json()
        async with self.queue.client.pipeline(transaction=False) as pipe:
            pipe.setex(key, self.worker.heartbeat_ttl, value)
            pipe.hset(*self.queue.once)  # reap.yml may have taken us for dead, as it found us before our start
            if not await told(pipe.execute()):
                return False
        self.stands.set()
        return True


async def serve(options: argparse.Namespace) -> int:
    """Run until told to stop; return the exit code."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    app = load(options.app)
    config = configured(app, options)
    if options.tasks:
        print("workfleet-tasks:", json.dumps({"tasks": sorted([*app._tasks, PROBE])}))  # noqa: T201 - the answer
        return 0
    if options.check:
        return 0
    for setting in BROKER_SETTINGS:
        if f"CHICORY_BROKER_REDIS_{setting.upper()}" in os.environ:
            setattr(app.broker, setting, getattr(type(app.config.broker.redis)(), setting))
    app.broker.consumer_name = options.node
    app.task(name=PROBE, validation_mode=ValidationMode.NONE)(probe)

    once = [name for name, task in app._tasks.items() if task.options.delivery_mode == DeliveryMode.AT_MOST_ONCE]
    queue = Queue(app.broker, config.queue, config.concurrency, once)
    worker = Node(App(app, queue), config)
    worker.worker_id = options.node
    heart = Heart(worker, queue)
    told_to = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(start(worker, queue, heart))
    try:
        await either(told_to, starting)
        if not starting.done():
            workfleet_tell.stopping()
            queue.close()
            if not queue.begun.is_set():
                return 0
        helpers = [*await starting, asyncio.create_task(queue.renew()), asyncio.create_task(queue.watch())]
        await either(told_to, asyncio.create_task(queue.ended.wait()))
        workfleet_tell.stopping()
        await drain(worker, queue, options.shutdown_timeout)
        for helper in helpers:
            helper.cancel()
        if queue.error is not None:
            return 1
        await heart.tell()
        await told(queue.leave())
        return 0
    finally:
        await queue.client.aclose()


async def start(worker: Worker, queue: Queue, heart: Heart) -> list[asyncio.Task[None]]:
    """Start; the node is ready once it consumes and its heartbeat stands. Return what goes on in the background."""
    await worker.start()
    ended = asyncio.create_task(queue.ended.wait())
    await either(ended, asyncio.create_task(queue.begun.wait()))
    beating = asyncio.create_task(heart.beat())
    await either(ended, asyncio.create_task(heart.stands.wait()))
    if not queue.ended.is_set():
        workfleet_tell.ready(queue.name)
    return [beating]


async def either(*tasks: asyncio.Task[Any]) -> None:
    """Wait for the first of them."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def drain(worker: Worker, queue: Queue, timeout: float | None) -> None:
    """Let what runs end, then end the worker; after ``timeout`` seconds what still runs is cancelled."""
    log.info("stopping: %d running", len(queue.held))
    queue.close()
    try:
        await asyncio.wait_for(queue.idle(), timeout)
    except TimeoutError:
        log.warning("%d tasks are given up after %g s; other nodes run them again", len(queue.held), timeout)
    await worker.stop(timeout=0)


async def probe(value: Any = None) -> Any:
    """The canary: return what was sent."""
    return value


def load(path: str) -> Chicory:
    """Import the app as ``chicory worker`` does, from the working directory."""
    module, _, name = path.partition(":")
    sys.path[0] = os.getcwd()  # not where this file is
    try:
        app = getattr(importlib.import_module(module), name or "app")
    except Exception as error:
        logging.getLogger().exception("%s cannot be imported", path)
        raise SystemExit(f"{path} cannot be imported: {type(error).__name__}: {error}") from None
    if not isinstance(app, Chicory):
        raise SystemExit(f"{path} is a {type(app).__name__}, not a Chicory app")
    if not isinstance(app.broker, RedisBroker):
        raise SystemExit(f"{path} has a {type(app.broker).__name__}; this runner consumes Redis only")
    return app


def configured(app: Chicory, options: argparse.Namespace) -> WorkerConfig:
    """Return the worker's configuration: the app's own, and over it what the command line says."""
    said = {name: getattr(options, name) for name in WorkerConfig.model_fields if getattr(options, name, None) is not None}
    said.pop("shutdown_timeout", None)
    try:
        config = WorkerConfig(**{**app.config.worker.model_dump(), **said})
    except ValueError as error:
        raise SystemExit(f"the worker cannot be configured: {error}") from None
    if config.heartbeat_ttl <= config.heartbeat_interval:
        raise SystemExit(f"heartbeat_ttl = {config.heartbeat_ttl} must be above heartbeat_interval = {config.heartbeat_interval:g}")
    return config


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="workfleet_chicory.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("app", help="module:app")
    parser.add_argument("--node", required=True, help="name of this node, unique on the broker")
    parser.add_argument("--queue", default="default")
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--dlq", dest="use_dead_letter_queue", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--heartbeat-interval", type=float)
    parser.add_argument("--heartbeat-ttl", type=int)
    parser.add_argument("--cleanup-interval", type=float)
    parser.add_argument("--stale-workers-timeout", type=float)
    parser.add_argument("--log-level")
    parser.add_argument("--log-format", default="%(asctime)s - %(name)s - %(levelname)s - %(message)s")
    parser.add_argument("--check", action="store_true", help="import the app and end")
    parser.add_argument("--tasks", action="store_true", help="print the names of the tasks as JSON, and end")
    parser.add_argument("--shutdown-timeout", type=float, help="cancel what still runs after so many seconds (never)")
    return parser.parse_args(argv)


def flat(streams: Sequence[Any]) -> list[tuple[Any, dict[bytes, bytes]]]:
    """Return the messages in an answer of XREADGROUP, which RESP3 nests once more than RESP2."""
    found = [message for messages in streams for message in messages]
    return flat(found) if found and isinstance(found[0], list) else found


def text(value: Any) -> str:
    """Return a word of Redis as a text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def main() -> int:
    """Read the command line and run."""
    options = arguments(sys.argv[1:])
    level = options.log_level or os.environ.get("CHICORY_WORKER_LOG_LEVEL") or "INFO"
    logging.basicConfig(level=level, format=options.log_format)
    if not hasattr(Worker, "_process_envelope"):
        raise SystemExit("this release of Chicory is not known here: its worker has no _process_envelope")
    return asyncio.run(serve(options))


if __name__ == "__main__":
    sys.exit(main())
