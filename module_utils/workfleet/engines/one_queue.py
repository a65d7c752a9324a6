"""What the engines share whose nodes are run by a runner of the toolkit's and consume one queue each: arq and Chicory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from .base import Engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import Group


class OneQueue(Engine):
    """Base of these engines; a command of the user's own is not run by the runner."""

    speaks = True
    schemes = ("redis", "rediss", "unix")
    overlaps = True
    beats = True
    #: The queue that the library consumes when nobody says another.
    default_queue = ""
    #: Messages call a worker so.
    worker = ""

    def notifies(self, group: Group) -> bool:
        """The runner does."""
        return not group.command

    def answers_while_busy(self, group: Group) -> bool:
        """The runner's figures come from the event loop, beside the tasks; other commands need not tell any."""
        return not group.command

    def queues(self, group: Group) -> tuple[str, ...]:
        """Return the one queue; a command of the user's own may say another than the default in it."""
        return group.queues or (() if group.command else (self.default_queue,))

    def problems(self, group: Group) -> list[str]:
        """Check what a worker with one queue and a runner cannot be."""
        found = []
        if not group.app and not group.command:
            found.append(f"app: is required for engine {self.name}: {self.app_words}")
        if len(group.queues) > 1:
            found.append(f"queues: {self.worker} consumes one queue, given are {len(group.queues)}; declare a worker group for each")
        if group.queues and not group.queues[0]:
            found.append("queues: a queue without a name is none")
        if group.command and (group.options or group.concurrency):
            found.append("command: replaces the runner that sets options and concurrency; say them in it")
        return found

    def with_log_format(self, group: Group, text: str) -> Group:
        """The runner sets logging up."""
        if group.command or "custom_log_dict" in group.options:
            raise WorkfleetError("its command or its custom_log_dict sets logging up; say it there")
        return replace(group, more={**group.more, "log_format": text})

    def trial(self, command: Sequence[str], runners: str, drain_seconds: int) -> list[str]:
        """Have the runner import the app and make the worker."""
        return [*command, "--check"] if command[1:] and command[1].endswith(f"/{self.runner}") else []

    def ask(self, command: Sequence[str], runners: str) -> list[str]:
        """Have the runner print what it would register."""
        return [*command, "--tasks"] if command[1:] and command[1].endswith(f"/{self.runner}") else []


def log_format(group: Group) -> list[str]:
    """Return the runner's option for the format of log lines, where one is declared."""
    return [f"--log-format={group.more['log_format']}"] if "log_format" in group.more else []
