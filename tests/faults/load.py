"""Numbered tasks at a steady rate, and the ledger of what became of each.

A producer speaks the engines' own messages (the toolkit's canaries are made of the same), so that it needs none of their
packages. Each execution of a task is written down by the task itself, in a Redis that no fault touches.
"""

from __future__ import annotations

import itertools
import json
import pickle
import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines.arq.queues import JOB
from plugins.module_utils.workfleet.engines.celery import wire as celery_wire
from plugins.module_utils.workfleet.engines.chicory import wire as chicory_wire
from plugins.module_utils.workfleet.engines.chicory.load import message
from plugins.module_utils.workfleet.engines.rq import keys as rq_keys
from plugins.module_utils.workfleet.engines.rq.load import job as rq_job
from tests import patience

if TYPE_CHECKING:
    from collections.abc import Callable

EXECUTIONS = "executions"
#: Tasks a second of each pair, and how long they run: most of them shortly, few for long.
RATE = 4.0
SECONDS = [0.01] * 60 + [0.1] * 25 + [0.5] * 10 + [2.0] * 4 + [10.0]
LONGEST = [20.0]


@dataclass(frozen=True)
class Pair:
    """An engine in one way of running and acknowledging tasks; ``app`` is the example that it runs."""

    name: str
    app: str
    engine: str
    acknowledges: str
    keys: dict[str, Any] = field(default_factory=dict)


#: A message that nobody acknowledges is given to another worker after these seconds.
VISIBLE_SECONDS = 40
LATE = {"task_acks_late": True, "task_reject_on_worker_lost": True, "broker_transport_options": {"visibility_timeout": VISIBLE_SECONDS}}
PAIRS = (
    Pair("prefork", "reports", "celery", "early", {"options": {"pool": "prefork", "prefetch_multiplier": 1}}),
    Pair("prefork-late", "reports", "celery", "late", {"options": {"pool": "prefork", "prefetch_multiplier": 1}, "settings": LATE}),
    Pair("threads", "reports", "celery", "early", {"options": {"pool": "threads", "prefetch_multiplier": 1}}),
    # A job of a node that died is begun again when its time is over.
    Pair("arq", "flow", "arq", "late", {"options": {"job_timeout": 60}}),
    Pair("chicory", "events", "chicory", "late"),
    # One job at a time in a node; one that dies with it fails.
    Pair("rq", "rq", "rq", "early", {"concurrency": 1}),
)


def send_celery(client: resp.Client, queue: str, name: str, seconds: float) -> None:
    """Put a task into a queue of celery's."""
    message = celery_wire.task_message("app.tasks.record", queue, [name, seconds], ignore_result=True)
    client.call("LPUSH", queue, message.text)


def send_arq(client: resp.Client, queue: str, name: str, seconds: float) -> None:
    """Put a job into a queue of arq's."""
    now, job_id = int(time.time() * 1000), uuid.uuid4().hex
    job = pickle.dumps({"t": None, "f": "record", "a": (name, seconds), "k": {}, "et": now}, protocol=4)
    client.call("PSETEX", JOB + job_id, "86400000", job)
    client.call("ZADD", queue, str(now), job_id)


def send_chicory(client: resp.Client, queue: str, name: str, seconds: float) -> None:
    """Put a message into a stream of Chicory's."""
    task_id, data = message("app.tasks.record", [name, seconds], {})
    client.call("XADD", chicory_wire.STREAM + queue, "*", "data", data, "task_id", task_id)


def send_rq(client: resp.Client, queue: str, name: str, seconds: float) -> None:
    """Put a job into a queue of rq's."""
    job_id = uuid.uuid4().hex
    client.call("HSET", rq_keys.JOB + job_id, *rq_job(queue, "app.tasks.record", (name, seconds), {}, 3600))
    client.call("RPUSH", rq_keys.QUEUE + queue, job_id)


SEND = {"celery": send_celery, "arq": send_arq, "chicory": send_chicory, "rq": send_rq}


class Producer:
    """Sends tasks of one pair until it is told to end; ``uncertain`` are those of which nobody knows whether they were sent."""

    def __init__(self, pair: Pair, url: str, case: str, seconds: list[float], rate: float = RATE) -> None:
        self.pair, self.url, self.rate = pair, url, rate
        self.prefix = f"{case} {pair.name} {uuid.uuid4().hex[:6]}"
        self.seconds = random.Random(7).choices(seconds, k=5000)
        self.sent: list[str] = []
        self.uncertain: set[str] = set()
        self.more = itertools.count()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Send at the rate; while the broker is away the tasks that are due wait here."""
        numbers, due = itertools.count(), time.monotonic()
        client: resp.Client | None = None
        while not self.ended.is_set():
            due += 1 / self.rate
            self.ended.wait(max(0.0, due - time.monotonic()))
            name, seconds = f"{self.prefix} {next(numbers)}", self.seconds[len(self.sent) % len(self.seconds)]
            try:
                client = client or resp.connect(self.url, timeout=3.0)
                SEND[self.pair.engine](client, self.pair.name, name, seconds)
                self.sent.append(name)
            except (resp.RespConnectionError, resp.RespError):
                if client is not None:
                    self.uncertain.add(name)
                    client.close()
                client = None

    def send_at_once(self, tasks: int, seconds: float) -> None:
        """Send so many more, so that some are waiting for a while."""
        with resp.connect(self.url) as client:
            for _ in range(tasks):
                name = f"{self.prefix} more {next(self.more)}"
                SEND[self.pair.engine](client, self.pair.name, name, seconds)
                self.sent.append(name)

    def end(self) -> None:
        """Send no more."""
        self.ended.set()
        self.thread.join()


@dataclass(frozen=True)
class Ledger:
    """What became of the tasks of one pair under one fault; ``seconds`` from the last one sent to the last one done.

    ``repeated`` are those that were begun more than once, even where only one of them came to its end.
    """

    fault: str
    pair: str
    acknowledges: str
    sent: int
    once: int
    repeated: int
    lost: int
    seconds: float


class Load:
    """Producers for some pairs, and the ledger of their tasks."""

    def __init__(self, fault: str, pairs: tuple[Pair, ...], urls: dict[str, str], ledger_url: str, *, long: bool) -> None:
        self.fault, self.ledger_url = fault, ledger_url
        with resp.connect(ledger_url) as client:
            client.call("DEL", EXECUTIONS)
        seconds = SECONDS + (LONGEST if long else [])
        self.producers = [Producer(pair, urls[pair.app], fault, seconds) for pair in pairs]

    def done(self, producer: Producer, what: str = "end") -> Counter[str]:
        """Return how often each task of a producer has come to its end, or to its begin."""
        with resp.connect(self.ledger_url) as client:
            told = [json.loads(entry) for entry in client.call("LRANGE", EXECUTIONS, "0", "-1")]
        return Counter(entry["task"] for entry in told if entry["what"] == what and entry["task"].startswith(producer.prefix))

    def occupy(self, tasks: int = 24, seconds: float = 6.0, begun: int = 12) -> None:
        """Send so many more of every pair, and wait until most of its places are taken by them: what comes next meets busy nodes."""
        for producer in self.producers:
            producer.send_at_once(tasks, seconds)
        until(lambda: all(sum(" more " in name for name in self.done(producer, "begin")) >= begun for producer in self.producers),
              seconds, "tasks have begun")

    def await_work(self, seconds: float = 60) -> None:
        """Wait until tasks of every pair are done: the fault is to meet a fleet at work."""
        until(lambda: all(len(self.done(producer)) >= 5 for producer in self.producers), seconds, "tasks are done")

    def settle(self, patience: float) -> list[Ledger]:
        """End the producers; return the ledgers when all tasks are done, or when nothing has happened for so long."""
        for producer in self.producers:
            producer.end()
        begun, found = time.monotonic(), []
        last = {id(producer): 0.0 for producer in self.producers}
        counts = {id(producer): Counter[str]() for producer in self.producers}
        quiet = time.monotonic()
        while time.monotonic() - quiet < patience and any(set(producer.sent) - set(counts[id(producer)]) for producer in self.producers):
            for producer in self.producers:
                now = self.done(producer)
                if now != counts[id(producer)]:
                    counts[id(producer)], last[id(producer)], quiet = now, time.monotonic() - begun, time.monotonic()
            time.sleep(0.5)
        for producer in self.producers:
            count, starts = self.done(producer), self.done(producer, "begin")
            sent = [name for name in producer.sent if name not in producer.uncertain]
            found.append(Ledger(
                self.fault, producer.pair.name, producer.pair.acknowledges, len(sent),
                sum(count[name] == starts[name] == 1 for name in sent), sum(count[name] > 0 and starts[name] > 1 for name in sent),
                sum(count[name] == 0 for name in sent), round(last[id(producer)], 1)))
        return found


def until(holds: Callable[[], Any], seconds: float, what: str) -> None:
    """Wait until something holds."""
    patience.until(holds, seconds, pause=0.3, why=lambda: what)
