"""Following the events of a fleet's tasks, from the background of one host."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import resp
from ..engines import taskqueues
from ..engines.verbs.events import Wish
from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..engines.verbs.events import Event
    from ..host.background import Background

#: How often it is made sure that nodes send: one that was started since does not, and somebody else may have told it not to.
_AGAIN_SECONDS = 10.0
#: How often a node that did not answer is told again: one that has just come tells so before it listens.
_DEAF_SECONDS = 3.0
_LOOK_SECONDS = 0.25
_MOST_NODES = 10_000


@dataclass(frozen=True)
class Order:
    """What to follow. ``url`` is secret; ``groups``: beginnings of the names of the app's nodes; ``seconds``: 0 is without an end."""

    engine: str
    url: str
    groups: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0
    wish: Wish = field(default_factory=Wish)
    #: Whether nodes that send nothing are told to, for the time.
    switch: bool = True


class Follower:
    """Tells all that is heard, and what may have been missed."""

    def __init__(self, order: Order, background: Background) -> None:
        self.order, self.background = order, background
        queue = taskqueues.named(order.engine)
        self.listener = queue.listener(order.url, order.options)
        self.switch = queue.switch(order.url, order.options, order.groups)
        self.nodes: list[str] = []
        self.looked = self.tried = 0.0
        #: Nodes that were told to send and did not answer.
        self.deaf: set[str] = set()
        #: By node: the first and the last count of a heartbeat, and whether it told of a task.
        self.beats: dict[str, tuple[int, int]] = {}
        self.telling: set[str] = set()
        self.complaints = 0

    def follow(self) -> None:
        """Do it; raises where the broker cannot be reached at first."""
        self.listener.open()
        try:
            self.greet()
            until = time.monotonic() + self.order.seconds if self.order.seconds else float("inf")
            while self.background.wanted and (left := until - time.monotonic()) > 0:
                try:
                    self.hear(self.listener.read(min(_LOOK_SECONDS, left)))
                    self.complain()
                    if self.order.switch and time.monotonic() - self.looked > _AGAIN_SECONDS:
                        self.make_sure()
                    elif self.deaf and time.monotonic() - self.tried > _DEAF_SECONDS:
                        self.welcome(sorted(self.deaf))
                except resp.RespConnectionError as error:
                    self.come_back(error, until)
            self.background.tell(*({"note": note} for note in (*self.mute(), *self.listener.unread.said())))
        finally:
            self.listener.close()
            self.leave()

    def leave(self) -> None:
        """Leave nodes as they were; they need not be there any more."""
        try:
            self.switch.off()
        except WorkfleetError as error:
            self.background.tell({"note": "nodes that sent no events before could not be told to stop, and go on until their next start: "
                                          f"{error}"})

    def greet(self) -> None:
        """Learn who is there and what runs; what began before would have no name otherwise."""
        names, self.nodes = self.switch.look()
        self.listener.know(names)
        began, silent = self.have_send(self.nodes) if self.order.switch else ([], [])
        self.looked = time.monotonic()
        self.background.tell({"listening": {"nodes": self.nodes, "began": began, "silent": silent}})

    def hear(self, events: Sequence[Event]) -> None:
        """Tell what is wanted; have nodes that are new send too."""
        for event in events:
            if len(self.telling) + len(self.beats) >= _MOST_NODES and event.node not in self.beats:
                continue  # so many nodes there are not: somebody makes names up
            if event.is_of_task:
                self.telling.add(event.node)
            elif event.processed is not None:
                first, _ = self.beats.get(event.node, (event.processed, 0))
                self.beats[event.node] = (first, event.processed)
        self.background.tell(*({"event": event.entry()} for event in events if self.order.wish.fits(event)))
        new = {event.node for event in events if event.node.startswith(tuple(self.order.groups))} - {*self.nodes}
        again = {event.node for event in events if event.event == "online" and event.node in self.nodes}
        gone = {event.node for event in events if event.event == "offline"}
        self.nodes = [node for node in (*self.nodes, *sorted(new)) if node not in gone][:_MOST_NODES]
        self.deaf -= gone
        if self.order.switch and (new | again) - gone:
            self.welcome(sorted((new | again) - gone))

    def complain(self) -> None:
        """Say it when the first bad entry of a kind comes."""
        said = self.listener.unread.said()
        self.background.tell(*({"note": note} for note in said[self.complaints:]))
        self.complaints = len(said)

    def have_send(self, nodes: Sequence[str]) -> tuple[list[str], list[str]]:
        """Tell nodes to send; return which began to, and which did not answer."""
        began, silent = self.switch.on(nodes)
        self.deaf = (self.deaf - {*nodes}) | {*silent}
        self.tried = time.monotonic()
        return began, silent

    def welcome(self, nodes: Sequence[str]) -> None:
        """Have nodes send that have come, or did not answer before."""
        began, _ = self.have_send(nodes)
        self.background.tell(*({"note": f"{node} has come, and sends task events now"} for node in began))

    def make_sure(self) -> None:
        """Have all nodes send that were heard of; who had stopped may have been missed."""
        self.looked = time.monotonic()
        began, _ = self.have_send(self.nodes)
        self.background.tell(*({"note": f"{node} sent no task events and does now: those of up to {_AGAIN_SECONDS:g} s are missing"}
                               for node in began))

    def come_back(self, why: WorkfleetError, until: float) -> None:
        """Subscribe again, however long that takes, and say that something is missing."""
        lost = time.monotonic()
        self.background.tell({"note": f"{why}; events from now on are missing, until it is there again"})
        while self.background.wanted and time.monotonic() < until:
            try:
                self.listener.open()
            except WorkfleetError:
                time.sleep(0.5)
                continue
            self.looked = 0.0
            self.background.tell({"note": f"the broker is there again: events of {time.monotonic() - lost:.1f} s are missing"})
            return

    def mute(self) -> list[str]:
        """Name the nodes that have begun tasks, by their heartbeats, and told of none."""
        return [f"{node} has begun {last - first} tasks and told of none: it sends no task events"
                for node, (first, last) in sorted(self.beats.items()) if last > first and node not in self.telling]


def start(order: Mapping[str, Any], background: Background) -> None:
    """Follow as a payload has it."""
    Follower(Order(**{**order, "wish": Wish.parse(order["wish"])}), background).follow()
