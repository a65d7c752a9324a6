"""Loaded into a Celery worker by ``-I workfleet_celery``: says when it consumes, and when it stops; heeds the node's mark.

Celery (5.2 or newer) has no word to systemd of its own, and at its stop keeps what it has not begun until its last task has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import logging
import time
from queue import Empty
from typing import TYPE_CHECKING, Any

import workfleet_tell
from celery import bootsteps, current_app
from celery.concurrency.thread import TaskPool
from celery.signals import worker_init, worker_ready, worker_shutting_down
from celery.worker import control, state
from celery.worker.request import Request
from kombu import pidbox
from kombu.transport.virtual import QoS

if TYPE_CHECKING:
    from concurrent.futures import Future

log = logging.getLogger(__name__)
#: Children say so at once; one that died since does not.
ACCEPT_SECONDS = 1.0
#: The exchange that the answers to questions of ours go to.
OUR_REPLIES = "reply.workfleet.pidbox"


@worker_ready.connect
def ready(sender: object = None, **_: object) -> None:
    """The consumer has declared its queues and begins to take tasks; after a HUP, in the same process, again."""
    try:
        queues = ", ".join(sender.app.amqp.queues.consume_from)  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        queues = "its queues"
    workfleet_tell.ready(queues)


@worker_shutting_down.connect
def stopping(**_: object) -> None:
    """A signal came: no more tasks are taken, those that run are waited for."""
    workfleet_tell.stopping()


class Node(pidbox.Node):
    """Answers our questions in JSON, whatever the app has for its tasks: nobody of ours unpickles. Others are answered as ever."""

    def reply(self, data: Any, exchange: str, routing_key: str, ticket: str, **options: Any) -> None:
        """Send an answer; what JSON has no form for is told as text."""
        if exchange != OUR_REPLIES:
            super().reply(data, exchange, routing_key, ticket, **options)  # type: ignore[no-untyped-call]
            return
        told = json.loads(json.dumps(data, default=repr, skipkeys=True))
        mailbox: Any = self.mailbox
        mailbox._publish_reply(told, exchange, routing_key, ticket, channel=self.channel, serializer="json")


@worker_init.connect
def answer_in_json(sender: object = None, **_: object) -> None:
    """Before the worker makes its mailbox."""
    mailbox = current_app.control.mailbox
    mailbox.node_cls = Node
    if mailbox.accept is not None:
        mailbox.accept = [*mailbox.accept, "json"]


#: What a pool of threads was given and has not ended.
WAITING: dict[Future[Any], Request] = {}


class Hold(bootsteps.StartStopStep):
    """Takes no task for as long as the node has its mark.

    It begins between the making of the task consumer and its first read, at the start and after each reconnect: so a marked
    node never takes one. Its queues are deselected in the app, so that a reconnect does not bring them back.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self.queues: list[str] | None = None  # what is to be consumed again; None: nothing is held
        self.returned = 0
        self.timer: Any = None
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """Look now, and often; Celery drops its timers when it reconnects."""
        consumer.controller.blueprint.on_close = lambda: self.end(consumer)
        note_waiting(consumer.pool)
        self.look(consumer)
        self.timer = consumer.timer.call_repeatedly(workfleet_tell.LOOK_SECONDS, self.look, (consumer,))

    def stop(self, consumer: Any) -> None:
        """Look no more."""
        if self.timer is not None:
            self.timer.cancel()

    def look(self, consumer: Any) -> None:
        """Do as the mark says."""
        held = workfleet_tell.is_held()
        if held and self.queues is None:
            self.quiesce(consumer)
        elif not held and self.queues is not None:
            self.resume(consumer)
        if self.queues is not None:
            try:
                workfleet_tell.quiesced([task(request) for request in holding(consumer)], self.returned)
            except RuntimeError as error:  # a thread of the pool took one from the set meanwhile; it is looked at again soon
                log.debug("what is held cannot be told now: %s", error)

    def quiesce(self, consumer: Any) -> None:
        """Consume nothing, and put back what has not begun as far as it can be had back."""
        queues = consumer.app.amqp.queues
        self.queues = list(queues.consume_from)
        queues.deselect(self.queues)
        cancel(consumer)
        self.returned = give_back(consumer)
        log.info("told to take no new tasks: %s; %d put back", ", ".join(self.queues), self.returned)

    def end(self, consumer: Any) -> None:
        """Put back what has not begun before the pool forgets it: the worker stops, and its running tasks may take their time.

        Called at the very beginning of a stop, by the worker's own thread behind its event loop. What cannot be put back now is, as
        ever, put back by Celery at the worker's exit.
        """
        try:
            if consumer.hub is not None and state.should_terminate in (None, False):
                returned = give_back(consumer)
                if returned:
                    log.info("told to stop: %d put back", returned)
                if consumer.pool.uses_semaphore:
                    see_accepted(consumer)
        except Exception:
            log.exception("what has not begun could not be put back, and waits until this worker has ended")
        if consumer.pool.uses_semaphore:
            # Prefork's tasks are other processes'. In this one Python would at last look for garbage among all that it has loaded:
            # two thirds of the CPU that its end takes, and takes from the node that follows it.
            atexit.register(gc.freeze)
        consumer.on_close()
        consumer.controller.on_close()  # in whose place we are called

    def resume(self, consumer: Any) -> None:
        """Consume the same queues again."""
        names = self.queues or []
        for name in names:
            queues = consumer.app.amqp.queues
            queues.select_add(queues[name])
            consumer.add_task_queue(name)
        self.queues = None  # where the broker was gone, the next look tries it again
        workfleet_tell.resumed(", ".join(names))


def note_waiting(pool: Any) -> None:
    """Have a pool of threads note what it is given: it hands that on to an executor, which takes back only what one can name."""
    if not isinstance(pool, TaskPool) or "on_apply" in vars(pool):
        return
    on_apply = pool.on_apply

    def noting(*args: Any, **options: Any) -> Any:
        result = on_apply(*args, **options)
        request = getattr(options.get("accept_callback"), "__self__", None)
        if isinstance(request, Request):
            WAITING[result.f] = request
            result.f.add_done_callback(lambda future: WAITING.pop(future, None))
        return result

    pool.on_apply = noting


def cancel(consumer: Any) -> None:
    """Consume nothing more."""
    for queue in list(consumer.task_consumer.queues):
        consumer.task_consumer.cancel_by_queue(queue.name)


def give_back(consumer: Any) -> int:
    """Put what has not begun back into its queues, and consume these no more if that is anything; return how many tasks it was."""
    requests = taken_back(consumer)
    if not requests:
        return 0
    cancel(consumer)
    for request in reversed(requests):  # the last one first: each is put ahead of all
        put_back(request.message)
        request.acknowledged = True
        state.requests.pop(request.id, None)
        state.reserved_requests.discard(request)
    if consumer.hub is not None:
        read_out(consumer.task_consumer.channel)
    return len(requests)


def see_accepted(consumer: Any) -> None:
    """Wait until the children have said of all that they were handed that they have begun it, for a second at most.

    At a stop Celery forgets a task of which that has not been read yet, though its child runs it all the same: it would be put
    back at the worker's exit, and run twice.
    """
    cancel(consumer)
    loop, until = consumer.hub.create_loop(), time.monotonic() + ACCEPT_SECONDS
    while any(not job._accepted for job in consumer.pool._pool._cache.values()) and time.monotonic() < until:
        next(loop)


def put_back(message: Any) -> None:
    """Put a task to that end of its queue that is read next, now.

    Celery's own ``reject`` leaves it to a later round of the event loop, in no order, and kombu's uses the other end.
    """
    qos: Any = getattr(message.channel, "qos", None)
    if hasattr(qos, "restore_by_tag"):
        qos.restore_by_tag(message.delivery_tag)
        # For this worker only: by the same tag another one may hold it in Redis already.
        QoS.ack(qos, message.delivery_tag)  # type: ignore[no-untyped-call]
    else:  # no Redis
        message.requeue()


def read_out(channel: Any) -> None:
    """Read the answer that Redis still owes to the transport: it may be one of the tasks that went back.

    Without a consumer kombu puts its task back too, to the end where it belongs: Redis gave it the first that came back, which is
    to be read last. It waits for the answer a second at most.
    """
    if getattr(channel, "_in_poll", None):
        with contextlib.suppress(Empty):
            channel._brpop_read()


def taken_back(consumer: Any) -> list[Any]:
    """Return what this worker was given and has not begun, in the order of its coming, and forget it.

    That is what waits for its time, for its rate limit, for a free child of the prefork pool or a free thread.
    """
    found = [request for future, request in list(WAITING.items()) if future.cancel()]
    waiting = getattr(getattr(consumer.controller, "semaphore", None), "_waiting", None)
    if waiting is not None:
        found += [args[0] for _, args, _ in waiting if args and isinstance(args[0], Request)]
        others = [entry for entry in waiting if not (entry[1] and isinstance(entry[1][0], Request))]
        waiting.clear()
        waiting.extend(others)
    for bucket in filter(None, consumer.task_buckets.values()):
        found += [request for request, _ in bucket.contents]
        bucket.contents.clear()
    for entry, request in scheduled(consumer):
        consumer.timer.cancel(entry)
        entry.args = ()  # it stays in the timer until its time, and `inspect scheduled` would name the task till then
        consumer.qos.decrement_eventually()
        found.append(request)
    return found


def scheduled(consumer: Any) -> list[tuple[Any, Any]]:
    """Return the timer's entries of tasks whose time has not come, with these, as ``inspect scheduled`` finds them."""
    entries = [waiting.entry for waiting in consumer.timer.schedule.queue]
    return [(entry, entry.args[0]) for entry in entries if entry.args and isinstance(entry.args[0], Request) and not entry.canceled]


def holding(consumer: Any) -> list[Any]:
    """Return all that this worker was given and has not finished, those that run first."""
    limited = [request for bucket in filter(None, consumer.task_buckets.values()) for request, _ in bucket.contents]
    found = [*state.active_requests, *state.reserved_requests, *limited, *(request for _, request in scheduled(consumer))]
    return list({request.id: request for request in found}.values())


def task(request: Any) -> dict[str, Any]:
    """Return what is told of a task."""
    since = request.time_start if request in state.active_requests else None
    return {"id": request.id, "task": request.name, "since": since, "acked": bool(request.acknowledged)}


celerys_time_limit = control.Panel.data["time_limit"]


def time_limit(panel: Any, **arguments: Any) -> Any:
    """Celery's own control, made to work: it sets the task's limits, but what makes requests has taken a copy of the old ones."""
    answer = celerys_time_limit(panel, **arguments)
    panel.consumer.update_strategies()
    return answer


control.Panel.data["time_limit"] = time_limit
current_app.steps["consumer"].add(Hold)
