"""Celery's dead letters: it keeps none on Redis; where the app has a queue for what it rejects, these are its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import WorkfleetError
from ..verbs import figures
from ..verbs.letters import LONGEST, PAGE, Letter, Letters, moment, number
from .message import Message
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...resp import Argument

#: Headers by which an app may say of a message why and when it was rejected.
TOLD = ("reason", "failed_at")
# ARGV: the message that is there, and what is sent in its place.
_REPLAY = """
local sent = 0
for i = 1, #ARGV, 2 do
  if redis.call('LREM', KEYS[1], 1, ARGV[i]) == 1 then
    redis.call('LPUSH', KEYS[2], ARGV[i + 1])
    sent = sent + 1
  end
end
return sent
"""


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
            while page := figures.page(self.client, "LRANGE", key, -done - PAGE, -done - 1, stride=-1):
                done += len(page)
                for message in page:
                    with self.unread.entry(key):
                        told = Message(message)
                        if told.delivery.text("routing_key", None) in (self.queue, self.wire.deadletter_queue):
                            reason = told.headers.told.get("reason")
                            found.append(Letter(
                                told.headers.text("id"), told.task, None if reason is None else str(reason)[:LONGEST],
                                moment(told.headers.told.get("failed_at")), number(told.headers.told.get("retries")), key, message))
                yield from found
                found.clear()

    def again(self, letter: Letter) -> Argument:
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
            sent += int(self.client.call("EVAL", _REPLAY, 2, dead, queue, *words)) if words else 0
        return sent
