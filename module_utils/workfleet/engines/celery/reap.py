"""What dead Celery workers left behind: tasks that they held, their place among those that listen for questions, bindings.

Celery's ``unacked`` names no owner, and a task comes back from it by itself only after the visibility timeout, an hour by
default. A task is taken for an orphan where it was there in two looks some seconds apart, and in both no worker had it:

* every worker that is connected to the broker has answered, and so has every node that runs on a host of the inventory, for
  one that lost its connection may be at work on it all the same;
* none has it among its active, reserved and scheduled tasks;
* no worker limits the rate of its name: what waits for that is in none of these lists.

Where one of these cannot be told nothing is moved. A task goes back in one step with its removal from ``unacked``, to the
end of its list that is read next, so two runs, or Celery's own restore meanwhile, return it once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ... import decode, resp
from ...decode import Fields, Unread
from ...errors import WorkfleetError
from ..verbs import reaping
from ..verbs.figures import MOST_HELD
from . import held as celery_held
from .wire import Wire, inspect_all, queues_in

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from ..verbs.reaping import Found, Reaping
    from .held import Binding, Entry, Tables

_QUESTIONS: dict[str, dict[str, Any]] = {
    "active": {}, "reserved": {}, "scheduled": {}, "active_queues": {},
    "registered": {"taskinfoitems": ["rate_limit"], "builtins": True}}
_BINDING, _PERMANENT = "_kombu.binding.", "_kombu.binding_permanent."
#: Exchanges that every Celery app has, unless told otherwise: of what is bound there nobody can tell whose it is.
_COMMON = ("celery", "celeryev")
# KEYS: the two tables of an exchange, then the lists of the queue.
_UNBIND = """
for i = 3, #KEYS do if redis.call('EXISTS', KEYS[i]) == 1 then return 0 end end
redis.call('SREM', KEYS[2], ARGV[1])
return redis.call('SREM', KEYS[1], ARGV[1])
"""


@dataclass
class Seen:
    """One look: what is held, by tag, what was heard of the workers, and what nobody uses.

    ``lost``: id, exchange and routing key of held tasks of which cannot be told from which queue they came. ``used``: the
    queues from which tasks are held, by whatever app. ``strange``: queues that nobody uses, whose they are cannot be told.
    """

    held: dict[bytes, Entry] = field(default_factory=dict)
    lost: dict[bytes, tuple[str, str, str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    unread: Unread = field(default_factory=Unread)
    limited: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    unused: list[Binding] = field(default_factory=list)
    strange: set[str] = field(default_factory=set)


def reap(order: Reaping, found: Found, *, check: bool) -> None:
    """Return tasks, and take records away. Raises where it cannot be told who is alive; nothing was moved then."""
    wire = Wire.parse(order.options)
    with resp.connect(order.url) as client:
        look = _Look(client, wire, order)
        first = second = look.seen()
        if first.held or first.lost or first.unused:
            time.sleep(order.seconds)
            second = look.seen()
        orphans = judge(first, second, found)
        found.returned += [orphan.told() for orphan in orphans
                           if check or give_back(client, wire, order, orphan)]
        unused = [binding for binding in second.unused if binding in first.unused]
        found.unbound += [{"queue": binding.queue, "exchange": binding.exchange} for binding in unused
                          if check or unbind(client, wire, binding)]
        if second.strange:
            found.left.append(f"{', '.join(sorted(second.strange))}: queues that are bound to an exchange, and that nobody consumes, fills "
                              "or declares here; whose they are cannot be told")
        found.left += second.unread.said()
        gone = stale(client, wire, order.app, {*second.nodes, *order.running}, Unread())
        if not check:
            forget(client, wire, gone)
        found.forgotten += gone


class Answers:
    """What a worker answers to all questions, by its types; raises on what is not whole."""

    def __init__(self, told: Fields) -> None:
        tasks = [decode.fields(item) for name in ("active", "reserved", "scheduled") for item in told.items(name)]
        #: The ids of the tasks that it has.
        self.ids = {str(identity) for task in tasks if (identity := task.fields("request", task).text("id", None))}
        #: The names of tasks whose rate it limits.
        self.limited = {line.split(" [rate_limit=")[0] for line in told.texts("registered") if " [rate_limit=" in line}
        #: The queues that it consumes.
        self.queues = set(queues_in(told))


class _Look:
    """What is looked at, twice."""

    def __init__(self, client: resp.Client, wire: Wire, order: Reaping) -> None:
        self.client, self.wire, self.order = client, wire, order

    def seen(self) -> Seen:
        """Read what is held, then ask all workers: what one has taken since then is not among what is held."""
        seen = Seen()
        raw = self.raw(seen.unread)
        order = self.order
        told, expected = inspect_all(self.client, _QUESTIONS, order.timeout, self.wire)
        complete = {}
        for node, answers in told.items():
            with seen.unread.entry("answers of nodes", node):
                complete[node] = Answers(Fields(answers))
        if len(complete) < expected:
            raise WorkfleetError(f"{expected} workers listen on the broker, and {len(complete)} have answered within {order.timeout:g} s: "
                                 "one that is silent may hold any task, as a busy solo pool does. Nothing was returned")
        silent = sorted(node for node in order.running if order.names.get(node, node) not in complete)
        if silent:
            raise WorkfleetError(f"{', '.join(silent)}: runs on its host, and has not answered over the broker: it may hold any task, as a "
                                 "node that stops does, or one that lost its connection. Nothing was returned; wait for it, or stop it")
        seen.nodes = set(complete)
        seen.ids = set().union(*(answers.ids for answers in complete.values()))
        seen.limited = set().union(*(answers.limited for answers in complete.values()))
        consumed = {node: answers.queues for node, answers in complete.items()}
        # A command of one's own need not declare its queues; those of its living nodes are known.
        own = set(order.queues).union(*(consumed[order.names.get(node, node)] for node in order.running))
        tables = celery_held.tables(self.client, self.wire, seen.unread)
        for held in raw:
            with seen.unread.entry(self.wire.key(self.wire.unacked_key), held.tag):
                self.sort(seen, held, own, tables)
        self.unused(seen, own, set().union(*consumed.values()), tables)
        return seen

    def raw(self, unread: Unread) -> list[celery_held.Held]:
        """What is held of all apps."""
        key = self.wire.key(self.wire.unacked_key)
        if int(self.client.call("HLEN", key)) > MOST_HELD:
            raise WorkfleetError(f"{key}: more than {MOST_HELD} tasks are held; that many are not looked through")
        return [held for page in celery_held.read(self.client, self.wire, unread) for held in page]

    def sort(self, seen: Seen, held: celery_held.Held, own: set[str], tables: Tables) -> None:
        """Note a held task where it came from one of our queues. Another app's in the same database are left out."""
        queues = celery_held.origins(held.exchange, held.key, tables)
        seen.used.update(queues)
        if len(queues) == 1 and queues[0] in own:
            seen.held[held.tag] = held.entry(self.wire, queues[0])
        elif not queues or own.intersection(queues):
            seen.lost[held.tag] = (str(held.message.id), held.exchange, held.key)

    def unused(self, seen: Seen, own: set[str], consumed: set[str], tables: Tables) -> None:
        """Note queues that nobody declares, consumes, fills or holds something of.

        They are this app's where they share an exchange with a queue that it declares, and everything else that is
        bound there is unused as well. An exchange that every app has tells nothing.
        """
        control = (f"{self.wire.control_exchange}.pidbox", "celeryev", f"reply.{self.wire.control_exchange}.pidbox")
        for exchange, table in tables.items():
            if table is None or exchange in control or exchange.endswith(".pidbox"):
                continue
            others = [binding for binding in table if binding.queue not in own and binding.queue != self.wire.deadletter_queue]
            idle = [binding for binding in others if binding.queue not in consumed | seen.used and not self.waits(binding.queue)]
            if exchange not in _COMMON and len(others) < len(table) and len(idle) == len(others):
                seen.unused += idle
            else:
                seen.strange.update(binding.queue for binding in idle)

    def waits(self, queue: str) -> bool:
        """Whether a queue has anything in it."""
        return bool(self.client.call("EXISTS", *self.wire.lists(queue)))


def judge(first: Seen, second: Seen, found: Found) -> list[Entry]:
    """Return the orphans, and say what is to be said of others."""
    orphans = []
    for tag, orphan in second.held.items():
        before = first.held.get(tag)
        if before is None or before.text != orphan.text or orphan.id in first.ids | second.ids:
            continue
        if orphan.task in first.limited | second.limited:
            found.left.append(f"{orphan.id} ({orphan.task}): no worker tells of it, but its rate is limited, "
                              "and what waits for that is told of nowhere")
        else:
            orphans.append(orphan)
    for identity, exchange, key in sorted(second.lost[tag] for tag in second.lost.keys() & first.lost.keys()):
        if identity not in first.ids | second.ids:
            found.left.append(f"{identity}: no worker tells of it, and it came through the exchange {exchange} with the routing key {key}, "
                              "which do not lead to one queue alone")
    return sorted(orphans, key=lambda orphan: (orphan.queue, str(orphan.id)))


def give_back(client: resp.Client, wire: Wire, order: Reaping, orphan: Entry) -> bool:
    """Return a task to its queue; whether it was still held."""
    key = wire.lists(orphan.queue)[wire.priority_steps.index(orphan.step)]
    return celery_held.give_back(client, wire, order.options, [(orphan, key)])[0]


def unbind(client: resp.Client, wire: Wire, binding: Binding) -> bool:
    """Take a queue from its exchange unless something has come into it; a worker that consumes it one day binds it again."""
    tables = [wire.key(start + binding.exchange) for start in (_BINDING, _PERMANENT)]
    lists = wire.lists(binding.queue)
    return bool(client.call("EVAL", _UNBIND, 2 + len(lists), *tables, *lists, binding.member))


def stale(client: resp.Client, wire: Wire, app: str, alive: Container[str], unread: Unread) -> dict[str, bytes]:
    """Return this app's nodes that are bound for questions and are not there any more, with their binding."""
    pidbox = f"{wire.control_exchange}.pidbox"
    found = {}
    for binding in celery_held.table(client, wire, pidbox, unread):
        node = binding.queue[:-len(pidbox) - 1]
        if reaping.app_of(node) == app and node not in alive:
            found[node] = binding.member
    return found


def forget(client: resp.Client, wire: Wire, gone: Mapping[str, bytes]) -> None:
    """Take their bindings away; a node that comes back binds itself again."""
    if gone:
        client.call("SREM", wire.key(f"{_BINDING}{wire.control_exchange}.pidbox"), *gone.values())
