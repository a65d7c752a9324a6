"""The nodes of one app on this host: what is declared, what is there, and the difference. Nothing here changes the host."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import engines
from ..engines.verbs import report
from ..errors import WorkfleetError
from ..host import effects, processes
from ..managers.base import Present
from ..model import Name
from . import plan, snapshot
from .counts import Counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..managers.base import Manager
    from .request import GroupRequest, Request

#: What runs the launcher: the system's Python, whichever interpreter Ansible happens to use today.
PYTHON = next(path for path in ("/usr/bin/python3", sys.executable) if os.path.exists(path))
#: How long answers over the broker are waited for, between two looks at the nodes.
ASK_SECONDS = 1.0


class HostNodes:
    """The declared and the present nodes of an app on this host.

    ``to`` is the declared generation of each group that is to run; ``before`` is the snapshot from before the rollout where the request
    is to bring it back, and the intents are then those of the snapshot. ``restart_since`` and ``cleans`` are as in the request; what
    it left open is filled in at the first look. ``key`` is this host's key for generations, and ``has_key`` whether the host keeps it.
    """

    def __init__(self, request: Request, manager: Manager, *, check: bool = True) -> None:
        self.request, self.manager, self.check = request, manager, check
        self.release = request.release or current_release(request.root)
        kept = host_key(request.root)
        self.has_key, self.key = kept is not None, kept or secrets.token_bytes(32)
        self.counts = Counts(request.root, request.groups, request.scale, request.only)
        self.groups = {group.name: group for group in self.counts.applied()}
        self.restart_since = uptime() if request.restart_since == 0 else request.restart_since
        self.cleans = request.cleans
        self.intents = [self.intent(group) for group in self.groups.values()]
        self.to = {one.group: one.generation for one in self.intents if one.state == "started" and snapshot.is_of(one.group, request.only)}
        self.before = self.own_snapshot() if request.undo else None
        if self.before is not None:
            # What sends tasks goes back before those that run them.
            self.intents = sorted(self.before.intents(request.app, self.intents), key=lambda one: not one.comes_last)
        self.started = {one.group for one in self.intents if one.state == "started"}

    @property
    def is_undo(self) -> bool:
        """Whether the nodes from before the rollout are brought back."""
        return self.before is not None

    def own_snapshot(self) -> snapshot.Snapshot | None:
        """Return the snapshot from before the rollout, where that is one of this very run to this very declaration."""
        before = snapshot.load(self.request.root)
        return before if before is not None and before.is_of(self.request.run, self.to, self.request.only) else None

    # -- what should be ---------------------------------------------------------------------------------------------

    def intent(self, group: GroupRequest) -> plan.Intent:
        """Return a group as the plan wants it: this host's generation, and the two texts of a node."""
        fixed = {token: f"<{word}>" for word, token in self.request.tokens.items() if word != "release"}
        values = fill(group.values, {**fixed, self.request.tokens["release"]: self.release or ""})
        generation = hmac.new(self.key, values.encode(), hashlib.sha256).hexdigest()[:16]
        overlaps = group.overlaps and self.request.rollout.order == "start-first"
        return plan.Intent(
            group.name, group.state, group.nodes, generation,
            text=lambda name: self.filled(group.unit_text, name, generation),
            env=lambda name: self.filled(group.env_text, name, generation),
            order="start-first" if overlaps else "stop-first", waits=not overlaps or self.request.rollout.wait_for_drain,
            comes_last=group.comes_last,
        )

    def filled(self, text: str, name: Name, generation: str) -> str:
        """Put what only the host knows into a text."""
        tokens = self.request.tokens
        return fill(text, {tokens["slot"]: str(name.slot), tokens["incarnation"]: str(name.incarnation),
                           tokens["generation"]: generation, tokens["release"]: self.release or "", tokens["python"]: PYTHON})

    def broker_name(self, name: Name) -> str:
        """Return a node's name on the broker."""
        return self.filled(self.groups[name.group].node_name, name, "")

    def env_path(self, name: Name) -> str:
        """Return the environment file of a node."""
        return os.path.join(self.request.root, "env", f"{name}.env")

    # -- what is ----------------------------------------------------------------------------------------------------

    @effects.one_look()
    def observe(self) -> list[plan.Seen]:
        """Return the nodes of this app on this host with their environment files.

        An environment file that no unit names, left by a run that was killed between the two, counts as a node that
        is down: so it is removed, or its slot is filled.
        """
        present = {node.name: node for node in self.manager.present()}
        for name in self.environment_files() - set(present):
            present[name] = Present(name, None, False, "stopped")
        seen = [plan.Seen(node, self.environment(name), self.quiet_since(node) is not None) for name, node in sorted(present.items())]
        if not (self.check and self.request.after_stop):
            return seen
        stopped = [intent if intent.state == "absent" else replace(intent, state="stopped") for intent in self.intents]
        return plan.stopped(self.request.app, plan.make(self.request.app, stopped, seen), stopped, seen)

    def quiet_since(self, node: Present) -> float | None:
        """Return since when a node is told to take no new tasks (Unix time), by its mark; ``None`` where it is not.

        A node that heeds no mark was told as the process that stands there.
        """
        group = self.groups.get(node.name.group)
        if group is None or not self.manager.has_mark(node.name):
            return None
        mark = self.manager.marked(node.name)
        if not group.notifies:
            here = None if node.pid is None else [node.pid, processes.start_time(node.pid)]
            # A mark that was written before they named one does for the process that is there.
            if here is None or mark.get("process", here) != here:
                return None
        since = mark.get("since")  # a person may have made it
        return float(since) if isinstance(since, (int, float)) else time.time()

    def has_heeded(self, node: Present) -> bool:
        """Whether a node that was told to take no new tasks says that it takes none; one that heeds no mark does so at once."""
        group = self.groups.get(node.name.group)
        says = group is not None and (not group.notifies or (node.record is not None and node.record.quiesced is not None))
        return says and self.quiet_since(node) is not None

    def environment(self, name: Name) -> str | None:
        """Return the text of a node's environment file. It is the app's user's: one that root cannot read is replaced."""
        try:
            return effects.read(self.env_path(name), limit=effects.LARGEST_ENVIRONMENT)
        except effects.Unreadable:
            if os.geteuid() != 0:
                raise
            return ""  # no environment is like this, so it differs from the declared one

    def environment_files(self) -> set[Name]:
        """Return the nodes of this app that have an environment file."""
        files = effects.names(os.path.join(self.request.root, "env"))
        names = (Name.parse(file[: -len(".env")]) for file in files if file.endswith(".env"))
        return {name for name in names if name is not None and name.app == self.request.app}

    def is_ready(self, node: Present) -> bool:
        """Whether a node consumes, as far as its runner tells; one without a runner is ready when it is up."""
        if node.activity != "running":
            return False
        group = self.groups.get(node.name.group)
        told = group is not None and group.notifies and node.record is not None
        return not told or (node.record is not None and node.record.ready is not None)

    def is_proved(self, node: Present, seconds: float) -> bool:
        """Whether a node has been ready for so long."""
        if not self.is_ready(node):
            return False
        age = node.uptime_seconds or 0.0
        if node.record is not None and node.record.ready is not None:
            age = min(age, time.time() - node.record.ready)
        return age >= seconds

    # -- the difference ---------------------------------------------------------------------------------------------

    def make_plan(self, seen: list[plan.Seen]) -> plan.Plan:
        """Return the difference."""
        request, since = self.request, self.restart_since
        return plan.make(
            request.app, self.intents, seen, only=request.only, batch=request.rollout.batch,
            restart_older_than=None if since is None else uptime() - since, running=self.running(seen),
            canary=request.canary, cleans=self.drained(seen), leaves_last=request.singles == "later",
        )

    def drained(self, seen: list[plan.Seen]) -> set[Name]:
        """Return the drained nodes whose remains this run removes: those that were there when it began."""
        if self.cleans is None:
            self.cleans = [str(node.name) for node in seen if node.is_drained]
        units = set(self.cleans)
        return {node.name for node in seen if str(node.name) in units}

    def running(self, seen: list[plan.Seen]) -> dict[Name, int]:
        """Return how many tasks the nodes of groups that shrink are running, where their engine tells."""
        found: dict[Name, int] = {}
        for group in self.groups.values():
            mine = [node for node in seen if node.name.group == group.name]
            here = [node.present for node in mine if node.present.is_up]
            slots = {node.name.slot for node in mine if not node.is_leaving}
            engine = engines.named(group.engine)
            if len(slots) > group.nodes and group.state == "started" and engine.speaks and self.request.broker_url:
                names = {self.broker_name(node.name): node.name for node in here if self.is_ready(node)}
                told: Mapping[str, report.Report] = {}
                with contextlib.suppress(WorkfleetError):  # nobody to ask: all count as busy, and each drains anyway
                    told = engine.inspect(self.request.broker_url, list(names), self.request.broker_options, ASK_SECONDS)
                found.update(report.tasks(names, told))
        return found


def uptime() -> float:
    """Return the seconds since boot, which nobody sets to another time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def current_release(root: str) -> str | None:
    """Return the build that is current, or None."""
    target = effects.points_to(os.path.join(root, "current"))
    return os.path.basename(target) if target else None


def key_path(root: str) -> str:
    """Return where this host keeps its key for generations."""
    return os.path.join(root, "state", "generation.key")


def host_key(root: str) -> bytes | None:
    """Return this host's key for generations, or None on a host that has none yet."""
    text = effects.read(key_path(root))
    return None if text is None else bytes.fromhex(text)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace tokens."""
    for token, value in values.items():
        text = text.replace(token, value)
    return text
