"""Celery's words on Redis: pidbox questions, queue keys, task messages and results, as kombu writes them.

``reports`` asks nodes about themselves and returns the moment the last of them has answered. ``waiting`` counts what
waits in each queue. The layout was read off celery 5.2 to 5.7 and kombu 5.2 to 5.7, and is tested against real workers.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ... import decode, resp
from ...decode import BadEntry, Fields, Unread
from ...errors import WorkfleetError
from .. import local
from ..verbs.report import Report
from .message import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What the figures of a :class:`Report` are made of; one question each.
METHODS = ("stats", "active", "reserved", "active_queues")

#: Transport options of kombu and settings of celery that change where things stand in Redis.
WIRE_OPTIONS = ("global_keyprefix", "sep", "priority_steps", "fanout_prefix", "control_exchange", "event_exchange",
                "unacked_key", "result_global_keyprefix", "deadletter_queue")
#: Known, and of no consequence to what is asked here.
_OTHER_OPTIONS = ("visibility_timeout", "queue_order_strategy", "unacked_index_key", "unacked_mutex_key",
                  "fanout_patterns", "socket_timeout", "socket_connect_timeout", "socket_keepalive", "max_connections",
                  "health_check_interval", "retry_on_timeout", "client_name",
                  "consumer_group")  # Chicory's, whose groups an app may have beside Celery's

# Replies go to an exchange of our own rather than kombu's `reply.celery.pidbox`: its binding table may have a time to
# live, so that a killed inspection leaves nothing for good. One fixed name, for a worker remembers each that it meets.
_REPLY_EXCHANGE = "reply.workfleet.pidbox"
_REPLIES_LIVE = 30  # seconds
#: Replies that are read in one go, and of one round of questions; more would be nobody's answers.
_REPLIES_A_LOOK, _MOST_REPLIES = 20, 20_000
_ANSWERS = "answers of nodes"
_SHORTEST_WAIT, _LONGEST_WAIT = 0.002, 0.02  # seconds between looks at the replies
# A node that never bound its pidbox queue does not listen: it is starting, or dead. It gets this long beyond the last
# of the others, and not nothing, for kombu may sweep away a table that workers of an older one are still bound in.
_WAIT_FOR_UNBOUND = 0.15


@dataclass(frozen=True)
class Wire:
    """How this app's kombu lays things out in Redis; the defaults are kombu's own."""

    global_keyprefix: str = ""
    sep: str = "\x06\x16"
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    fanout_prefix: bool | str = True
    control_exchange: str = "celery"
    event_exchange: str = "celeryev"
    unacked_key: str = "unacked"
    result_global_keyprefix: str = ""
    #: Where kombu puts what has no queue to go to; an app may put there what it rejects.
    deadletter_queue: str = ""

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Wire:
        """Read ``app_broker_options``; raises on a name that is no transport option or a value of another type."""
        unknown = sorted(set(options) - {*WIRE_OPTIONS, *_OTHER_OPTIONS})
        if unknown:
            known = ", ".join(WIRE_OPTIONS + _OTHER_OPTIONS)
            raise WorkfleetError(f"app_broker_options: unknown {', '.join(unknown)}; known are {known}")
        given = {name: value for name, value in options.items() if name in WIRE_OPTIONS}
        for name, value in given.items():
            if name != "priority_steps" and not isinstance(value, (str, bool) if name == "fanout_prefix" else str):
                raise WorkfleetError(f"app_broker_options: {name} must be a text, given is {value!r}")
        if "priority_steps" in given:
            given["priority_steps"] = _steps(given["priority_steps"])
        return cls(**given)

    def key(self, name: str) -> str:
        """The Redis key of one of kombu's own names."""
        return self.global_keyprefix + name

    def lists(self, queue: str) -> list[str]:
        """The Redis lists that together are one queue, the most urgent first."""
        return [self.key(f"{queue}{self.sep}{step}" if step else queue) for step in self.priority_steps]

    def channel(self, db: int) -> str:
        """The pub/sub channel on which this app's nodes listen for questions."""
        return self._fanout(db, f"{self.control_exchange}.pidbox")

    def event_channels(self, db: int) -> tuple[str, str]:
        """Patterns of the channels on which nodes tell of their tasks: a channel a kind, unless ``fanout_patterns`` is off."""
        channel = re.sub(r"([*?\[\]\\])", r"\\\1", self._fanout(db, self.event_exchange))
        return channel, f"{channel}/*"

    def _fanout(self, db: int, exchange: str) -> str:
        prefix = f"/{db}." if self.fanout_prefix is True else (self.fanout_prefix or "")
        return self.key(f"{prefix.format(db=db)}{exchange}")

    def result(self, task_id: str) -> str:
        """The key under which the result backend keeps a task's result; it joins its own prefix by ``_``."""
        prefix = self.result_global_keyprefix
        joint = "_" if prefix and prefix[-1] not in ":_-." else ""
        return f"{prefix}{joint}celery-task-meta-{task_id}"


def _steps(given: Any) -> tuple[int, ...]:
    steps = tuple(given) if isinstance(given, (list, tuple)) else ()
    if not steps or any(type(step) is not int or not 0 <= step <= 9 for step in steps):
        raise WorkfleetError(f"app_broker_options: priority_steps must be numbers from 0 to 9, given is {given!r}")
    return tuple(sorted(set(steps)))


# What a node tells


def reports(url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float = 1.0) -> dict[str, Report]:
    """Ask ``nodes`` about themselves; those that did not answer within ``timeout`` seconds are left out."""
    wire = Wire.parse(options)
    if not nodes:
        return {}
    with resp.connect(url) as client:
        inspection = _Inspection(client, nodes, METHODS, timeout, wire)
        many = doubts(inspection.hear())
    return {node: Report(doubt=many[node]) if node in many else report(answers) for node, answers in inspection.told.items() if answers}


def everybody(url: str, options: Mapping[str, Any], timeout: float = 1.0) -> tuple[dict[str, Report], bool]:
    """Ask all that listen what they consume; return also whether all have answered."""
    with resp.connect(url) as client:
        inspection = _Inspection(client, None, ("active_queues",), timeout, Wire.parse(options))
        heard = inspection.hear()
    many = doubts(heard)
    told = {node: report(answers) for node, answers in inspection.told.items()}
    return {node: replace(found, doubt=many.get(node, found.doubt)) for node, found in told.items()}, len(heard) >= inspection.listening


def doubts(heard: Sequence[tuple[str, str, Any]]) -> dict[str, str]:
    """Return the names that several workers have, with what that means."""
    answers = Counter((node, method) for node, method, _ in heard)
    return {node: f"{count} workers answer under this name, and each answer may be the other's: does the inventory of another control "
                  "node have a host of the same name? Name hosts by what they are called everywhere"
            for (node, _), count in answers.items() if count > 1}


def strangers(url: str, nodes: Sequence[str], options: Mapping[str, Any], timeout: float = 1.0) -> dict[str, Report]:
    """Ask the workers that ``nodes`` started under names of their own, as a command of the user's may.

    All that listen are asked who they are; those that prove to be a process of one of the nodes count. Of a name that
    two workers have, only the process is told: each figure may be the other's.
    """
    wire = Wire.parse(options)
    before = local.of_nodes(nodes)
    if not before:
        return {}
    with resp.connect(url) as client:
        heard = _Inspection(client, None, ("stats",), timeout, wire).hear()
        stats = [(name, pid, answer) for name, _, answer in heard for pid in _process(answer) if pid in before]
        after = local.of_nodes(nodes, {pid for _, pid, _ in stats})
        mine = [(name, pid, answer) for name, pid, answer in stats if local.is_same(before[pid], usage_in(answer), after.get(pid))]
        names = Counter(name for name, _, _ in heard)
        told = inspect(client, [name for name, _, _ in mine if names[name] == 1], timeout=timeout, wire=wire)
    found = {}
    for name, pid, answer in mine:
        node = before[pid].node
        found[node] = replace(report(told.get(name) or {"stats": answer}), name=name)
        if names[name] > 1:
            doubt = (f"the broker knows another worker by the name {name}, and neither can be asked "
                     "alone: have the command give each worker a name of its own")
            found[node] = Report(pid=pid, doubt=doubt)
    return found


def waiting(url: str, queues: Sequence[str], options: Mapping[str, Any]) -> dict[str, int]:
    """How many tasks wait in each queue, over the lists of all priorities."""
    wire = Wire.parse(options)
    with resp.connect(url) as client:
        return queue_depths(client, queues, wire)


def inspect(
    client: resp.Client, nodes: Sequence[str] | None, methods: Sequence[str] | Mapping[str, Mapping[str, Any]] = METHODS,
    timeout: float = 1.0, wire: Wire | None = None,
) -> dict[str, dict[str, Any]]:
    """Ask nodes each of celery's inspect or control ``methods``, a mapping gives their arguments; return ``{node: {method: answer}}``.

    Ends as soon as every node that listens has answered every question; else after ``timeout``
    seconds, with what there is: a node that is silent has ``{}``, as a busy one of the solo pool is. An answer is what
    the method returns, or ``{"error": …}`` for one that the node does not know. ``nodes=None`` asks all that listen;
    a subscriber that is no node makes it wait for the whole time. Raises where nodes do not answer in JSON.
    """
    if nodes is not None and not nodes:
        return {}
    return _Inspection(client, nodes, methods, timeout, wire or Wire()).answers()


def inspect_all(
    client: resp.Client, methods: Mapping[str, Mapping[str, Any]], timeout: float, wire: Wire,
) -> tuple[dict[str, dict[str, Any]], int]:
    """Ask all that listen, as :func:`inspect` does; return also how many connections the questions went to, one a worker."""
    inspection = _Inspection(client, None, methods, timeout, wire)
    return inspection.answers(), inspection.listening


class _Inspection:
    """One round of questions, and the address for their answers."""

    def __init__(
        self, client: resp.Client, nodes: Sequence[str] | None, methods: Sequence[str] | Mapping[str, Mapping[str, Any]],
        timeout: float, wire: Wire,
    ) -> None:
        self.arguments = dict(methods) if isinstance(methods, dict) else {}
        self.client, self.nodes, self.methods, self.wire, self.timeout = client, nodes, methods, wire, timeout
        self.deadline = time.monotonic() + timeout
        self.oid = uuid.uuid4().hex
        self.replies = wire.key(f"{self.oid}.{_REPLY_EXCHANGE}")
        self.bindings = wire.key(f"_kombu.binding.{_REPLY_EXCHANGE}")
        self.member = wire.sep.join([self.oid, "", f"{self.oid}.{_REPLY_EXCHANGE}"])
        self.heard: list[tuple[str, str, Any]] = []
        self.told: dict[str, dict[str, Any]] = {node: {} for node in nodes or ()}
        self.listening = 0
        self.unread = Unread()

    def answers(self) -> dict[str, dict[str, Any]]:
        """Return what was heard, by node."""
        self.hear()
        return self.told

    def hear(self) -> list[tuple[str, str, Any]]:
        """Ask, collect, and leave nothing behind. Return ``(node, method, answer)`` of every worker: two may have one name."""
        complete = False
        try:
            bound, listening = self._ask()
            complete = self._collect(bound, listening)
            if not self.heard and self.unread.found:
                raise WorkfleetError("; ".join(self.unread.said()))
            return self.heard
        finally:
            # Unbound first: what comes later has no address and is dropped by the worker that sends it. Where an answer
            # may be on its way this very moment, the list is left to its time to live: a push would make one without.
            forget = ("DEL", self.replies) if complete else ("EXPIRE", self.replies, "2")
            with contextlib.suppress(WorkfleetError):
                self.client.pipeline([("SREM", self.bindings, self.member), forget])

    def _ask(self) -> tuple[set[str], int]:
        """Publish the questions; return which nodes have a bound pidbox queue, and how many subscribers listen."""
        pidbox = f"{self.wire.control_exchange}.pidbox"
        channel = self.wire.channel(self.client.address.db)
        members = {node: self.wire.sep.join(["", "", f"{node}.{pidbox}"]) for node in self.told}
        told = self.client.pipeline([
            # The first element stays: a list that is never empty keeps its time to live, however we end.
            ("LPUSH", self.replies, ""), ("EXPIRE", self.replies, str(_REPLIES_LIVE)),
            ("SADD", self.bindings, self.member), ("EXPIRE", self.bindings, str(_REPLIES_LIVE)),
            *(("SISMEMBER", self.wire.key(f"_kombu.binding.{pidbox}"), member) for member in members.values()),
            *(("PUBLISH", channel, self._question(method)) for method in self.methods),
        ])[4:]
        listening = told[len(members):]
        self.listening = max(listening, default=0)
        return {node for node, is_bound in zip(members, told) if is_bound}, min(listening, default=0)

    def _question(self, method: str) -> str:
        body = {
            "method": method, "arguments": self.arguments.get(method, {}), "pattern": None, "matcher": None,
            "destination": None if self.nodes is None else list(self.nodes),
            # The ticket comes back beside the answer: it tells which question this was.
            "ticket": method, "reply_to": {"exchange": _REPLY_EXCHANGE, "routing_key": self.oid},
        }
        return _envelope(body, headers={"clock": 1, "expires": time.time() + self.timeout})

    def _collect(self, bound: set[str], listening: int) -> bool:
        """Gather answers until there can be no more of them or the time is over; return whether all are there."""
        expected = listening if self.nodes is None else min(listening, len(self.told))
        seen, pause, only_unbound_left = 0, _SHORTEST_WAIT, self.nodes is None
        while not self._is_complete(expected):
            if not only_unbound_left and bound <= self._done():
                only_unbound_left = True
                self.deadline = min(self.deadline, time.monotonic() + _WAIT_FOR_UNBOUND)
            left = self.deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            # Replies are pushed in front, so positions from the end stay what they are; the last element is our own.
            found = self.client.call("LRANGE", self.replies, str(-1 - seen - _REPLIES_A_LOOK), str(-2 - seen))
            pause = _SHORTEST_WAIT if found else min(pause * 1.5, _LONGEST_WAIT)
            seen += len(found)
            if seen > _MOST_REPLIES:
                raise WorkfleetError(f"more than {_MOST_REPLIES} replies came to a question to the nodes: somebody else writes there")
            for reply in reversed(found):
                with self.unread.entry(_ANSWERS):
                    self._take(_answers(reply))
        return True

    def _take(self, answers: Sequence[tuple[str, str, Any]]) -> None:
        for node, method, answer in answers:
            if method in self.methods and (self.nodes is None or node in self.told):
                self.heard.append((node, method, answer))
                self.told.setdefault(node, {})[method] = answer

    def _is_complete(self, expected: int) -> bool:
        if self.nodes is None:
            return len(self.heard) >= expected * len(self.methods)
        return len(self._done()) >= expected

    def _done(self) -> set[str]:
        return {node for node, told in self.told.items() if len(told) >= len(self.methods)}


def _envelope(body: Any, headers: Mapping[str, Any], routing_key: str = "", **properties: Any) -> str:
    """One message as kombu's virtual transports store and publish it."""
    return json.dumps({
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8", "content-type": "application/json", "headers": headers,
        "properties": {
            "delivery_mode": 2, "priority": 0, "body_encoding": "base64", "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": routing_key}, **properties,
        },
    })


def _answers(reply: bytes) -> list[tuple[str, str, Any]]:
    """``(node, method, answer)`` of one reply; raises on what is none."""
    message = Message(reply, 2 * decode.LARGEST_ANSWER)  # base64 takes a third more
    kind = message.fields.text("content-type")
    if kind != "application/json":
        raise BadEntry(f"the nodes answer in {kind}, only JSON is read: their app sets task_serializer, and the worker was not "
                       "started by a group without a command, which answers in JSON all the same")
    method = message.headers.text("ticket")
    body = decode.fields(message.body(decode.LARGEST_ANSWER, decode.MOST_MARKS_OF_ANSWER))
    return [(decode.text(node), method, answer) for node, answer in body.told.items()]


def _process(answer: Any) -> list[int]:
    """The process that answers; none where it does not say."""
    try:
        return [decode.fields(answer).count("pid")]
    except BadEntry:
        return []


def usage_in(answer: Any) -> dict[str, float]:
    """Return a process's counters as it tells them; nothing where it does not."""
    try:
        usage = decode.fields(answer).fields("rusage")
        return {name: usage.number(name) for name in ("minflt", "utime")}
    except BadEntry:
        return {}


def report(answers: Mapping[str, Any]) -> Report:
    """The figures in a node's answers. Celery counts no failures, so ``failed`` stays ``None``."""
    try:
        return _report(Fields(dict(answers)))
    except BadEntry as error:
        return Report(doubt=f"what it answers cannot be read: {error}")


def _report(told: Fields) -> Report:
    stats = _unless_error(told, "stats")
    pool = stats.told.get("pool")
    total = stats.fields("total", None)
    active = told.told.get("active")
    return Report(
        pid=stats.count("pid", None),
        concurrency=Fields(pool).count("max-concurrency", None) if isinstance(pool, dict) else None,
        running=_count(active),
        reserved=_count(told.told.get("reserved")),
        processed=None if total is None else sum(map(decode.count, total.told.values())),
        queues=tuple(queues_in(told)) if isinstance(told.told.get("active_queues"), list) else None,
        busy=_busy(active),
    )


def _unless_error(told: Fields, method: str) -> Fields:
    """What a method answers; nothing where it is an error, or nothing."""
    answer: Fields = told.fields(method, Fields({}))
    return Fields({}) if "error" in answer.told else answer


def queues_in(answers: Fields) -> list[str]:
    """Return the queues that a node consumes."""
    return [str(decode.fields(queue).text("name")) for queue in answers.items("active_queues")]


def _busy(active: Any) -> dict[str, int] | None:
    """How many tasks run, by the routing key they came by, which is their queue unless the app routes otherwise."""
    if not isinstance(active, list):
        return None
    try:
        return dict(Counter(str(decode.fields(task).fields("delivery_info").text("routing_key")) for task in active))
    except BadEntry:
        return None


def _count(answer: Any) -> int | None:
    return len(answer) if isinstance(answer, list) else None


# Queues, tasks, results


def queue_depths(client: resp.Client, queues: Sequence[str], wire: Wire | None = None) -> dict[str, int]:
    """What waits in each queue: the lengths of its lists of all priorities, summed. Raises where a key is no list."""
    wire = wire or Wire()
    lists = [(queue, key) for queue in dict.fromkeys(queues) for key in wire.lists(queue)]
    depths = dict.fromkeys(queues, 0)
    for (queue, key), length in zip(lists, client.pipeline([("LLEN", key) for _, key in lists], raise_errors=False)):
        if isinstance(length, resp.RespError):
            raise WorkfleetError(foreign(queue, key, length), queue=queue)
        depths[queue] += length
    return depths


def foreign(queue: str, key: str, error: resp.RespError) -> str:
    """Say that a queue's key is of another kind; any other error is raised."""
    if error.code != "WRONGTYPE":
        raise error
    return (f"queue {queue}: the key {key!r} in Redis is no queue of Celery's (a list): does something else use the name "
            "in this database?")


@dataclass(frozen=True)
class TaskMessage:
    """A task as it lies in a queue: ``text`` is the list's element, ``tag`` its name in ``unacked`` once taken."""

    id: str
    tag: str
    queue: str
    text: str


def task_message(
    task: str, queue: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
    expires: float | None = None, ignore_result: bool = False,
) -> TaskMessage:
    """Make a message of celery's task protocol 2, for ``LPUSH`` to ``Wire.lists(queue)[0]``.

    ``expires``: seconds from now after which a worker drops the task instead of running it. ``ignore_result`` holds
    whatever the app's own ``task_ignore_result`` says (since celery 5.7; before it the app's has the last word).
    """
    task_id, tag = str(uuid.uuid4()), str(uuid.uuid4())
    until = None if expires is None else (datetime.now(timezone.utc) + timedelta(seconds=expires)).isoformat()
    headers: dict[str, Any] = {
        "lang": "py", "task": task, "id": task_id, "root_id": task_id, "parent_id": None, "group": None,
        "group_index": None, "shadow": None, "eta": None, "expires": until, "retries": 0, "timelimit": [None, None],
        "origin": "workfleet", "argsrepr": repr(tuple(args)), "kwargsrepr": repr(dict(kwargs or {})),
        "ignore_result": ignore_result,
        "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }
    body = [list(args), dict(kwargs or {}), {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    text = _envelope(body, headers, queue, correlation_id=task_id, reply_to="", delivery_tag=tag)
    return TaskMessage(task_id, tag, queue, text)
