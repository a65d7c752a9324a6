"""Nodes of one app under a real supervisord, reconciled as the module does it, for the user who runs the tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import workers as spec
from ansible_collections.workfleet.core.plugins.plugin_utils.render import Renderer

from plugins.module_utils.workfleet import managers
from plugins.module_utils.workfleet.host import effects
from plugins.module_utils.workfleet.managers.supervisor import Supervisor
from plugins.module_utils.workfleet.nodes.host_nodes import HostNodes
from plugins.module_utils.workfleet.nodes.reconcile import Reconciler
from plugins.module_utils.workfleet.nodes.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugins.module_utils.workfleet.managers.base import Present

REPOSITORY = Path(__file__).resolve().parents[2]
ME, MY_GROUP = (effects.run(["id", word]).out.strip() for word in ("-un", "-gn"))
Group = dict[str, Any]


def sleeper(name: str = "a", nodes: int = 1, **keys: Any) -> Group:
    """Return a group of nodes that wait for their end."""
    return {"name": name, "engine": "process", "command": ["sleep", "1000"], "nodes": nodes, **keys}


@dataclass
class Result:
    """What all calls of a run did together."""

    steps: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    stale: int = 0
    ledger: dict[str, dict[str, Any]] = field(default_factory=dict)
    doing: list[str] = field(default_factory=list)


class Site:
    """An app's directory with its manager."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.run_directory = os.path.join(root, "run")
        for name in ("env", "workfleet", "state", "log", "run", "supervisor"):
            effects.directory(os.path.join(root, name))
        shutil.copy(REPOSITORY / "runners" / "launch.py", os.path.join(root, "workfleet"))
        # Supervisor is among the packages that the tests themselves need: no second installation.
        os.symlink(sys.prefix, os.path.join(root, "supervisor", "venv"))
        self.manager = managers.named("supervisor", "shop", root, self.run_directory)
        self.secrets: dict[str, str] = {}
        self.app: dict[str, Any] = {}

    def request(self, groups: list[Group], **more: Any) -> dict[str, Any]:
        """Return the payload of the action plugin, after a journey as JSON."""
        rollout = {"monitor_seconds": 0, "ready_timeout_seconds": 10, **more.pop("rollout", {})}
        singles = {name: more.pop(name, {}) for name in ("scheduler", "dashboard", "log")}
        declared = spec.parse({
            "host": "h1", "manager": "supervisor", "run_directory": self.run_directory, "groups": groups, "rollout": rollout, **singles,
            "app": {"name": "shop", "user": ME, "group": MY_GROUP, "root": self.root, "has_release": False,
                    "secrets": self.secrets, **self.app},
        })
        payload = {**Renderer(declared).payload(), "run": "run 1", "holder": "somebody", **more}
        return dict(json.loads(json.dumps(payload)))

    def reconciler(self, request: dict[str, Any], *, check: bool = False) -> Reconciler:
        """Return one call's reconciler; every call is a process of its own, so nothing is kept."""
        return Reconciler(Request.parse(request), self.manager, check=check)

    def host_nodes(self, request: dict[str, Any]) -> HostNodes:
        """Return the nodes as a call that only looks at them has them."""
        return HostNodes(Request.parse(request), self.manager)

    def work(self, groups: list[Group], *, check: bool = False, **more: Any) -> Result:
        """Call until all is done, as the action plugin does."""
        request = self.request(groups, **more)
        found = Result()
        for _ in range(50):
            reconciler = self.reconciler(request, check=check)
            told = reconciler.call().result()
            found.ledger.update((line["node"], line) for line in reconciler.ledger())
            found.doing.append(told["doing"])
            found.steps += [short(item) for item in told["steps"]]
            found.reasons += [item["reason"] for item in told["steps"]]
            found.diff = found.diff or told["diff"]
            found.warned += told["warned"]
            found.nodes, found.stale = told["nodes"], told["stale"]
            if check or not told["more"]:
                return found
            request.update({key: told[key] for key in ("waiting", "going", "restart_since", "cleans")})
        raise AssertionError(f"no end: {told['doing']}")

    def converge(self, groups: list[Group], **more: Any) -> Result:
        """Foretell, do, and see that this is what was foretold, and that nothing is left to do then."""
        foretold = self.work(groups, check=True, **more)
        done = self.work(groups, **more)
        assert (done.steps, done.reasons, done.diff) == (foretold.steps, foretold.reasons, foretold.diff)
        rest = {**more, "restart_since": None}
        # What was told to go and not waited for is removed by a later run, when it has gone.
        draining = {step.replace("stop ", "remove ") for step in done.steps if step.startswith("stop ")} - set(done.steps)
        assert set(self.work(groups, check=True, **rest).steps) <= draining
        return done

    def present(self) -> dict[str, Present]:
        """Return the nodes by ``group.slot.incarnation``."""
        return {str(node.name).split(".", 2)[2]: node for node in self.manager.present()}

    def pids(self) -> dict[str, int | None]:
        """Return the nodes' processes."""
        return {name: node.pid for name, node in self.present().items()}

    def env_file(self, where: str) -> Path:
        """Return the environment file of a node."""
        return Path(self.root, "env", f"workfleet.shop.{where}.env")

    def end(self) -> None:
        """Leave no process behind."""
        assert isinstance(self.manager, Supervisor)
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(Path(self.run_directory, "supervisord.pid").read_text()), signal.SIGKILL)
        for node in self.manager.present():
            if node.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(node.pid, signal.SIGKILL)


def short(item: dict[str, Any]) -> str:
    """Return a step of the contract as ``stop a.1.2``."""
    return f"{item['action']} {item['group']}.{item['slot']}.{item['incarnation']}" if item["group"] else item["action"]


@contextlib.contextmanager
def made() -> Iterator[Site]:
    """An app on which nothing runs yet but its supervisord, for the length of a block."""
    root = tempfile.mkdtemp(prefix="wf-", dir="/tmp")
    site = Site(root)
    try:
        site.work([])
        yield site
    finally:
        site.end()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def site() -> Iterator[Site]:
    """An app on which nothing runs yet but its supervisord."""
    with made() as fresh:
        yield fresh
