"""What would make every start of a group fail, found out before a node is touched."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from .. import engines, shown
from ..errors import WorkfleetError
from ..host import foreign, limits
from ..host.layout import Layout
from ..postgresql import login as postgresql_login
from . import stores
from .host_nodes import fill

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .host_nodes import HostNodes
    from .request import GroupRequest

#: How much of what a trial said is told.
SAID = 2000
#: Begins a line of a trial's output that is for people.
TRIAL_WARNING = "workfleet-warning:"


def preflight(nodes: HostNodes, starting: Iterable[str]) -> list[str]:
    """Refuse where nodes of these groups could not start; return sentences about what may only hurt."""
    groups = sorted(set(starting))
    warned: dict[str, None] = {}
    if groups and nodes.request.has_release:
        check_release(nodes)
    for name in groups:
        try:
            check_broker(nodes, nodes.groups[name])
            values = json.loads(fill(nodes.groups[name].values, {nodes.request.tokens["release"]: nodes.release or ""}))
            warned.update(dict.fromkeys(postgresql_login.check(values["environment"])))
            warned.update(dict.fromkeys(check_start(nodes, nodes.groups[name], values)))
        except WorkfleetError as error:
            what = f"nodes of {name} were not started, and none was stopped for them"
            raise WorkfleetError(f"{what}: {error}", **error.details) from error
    return list(warned)


def check_broker(nodes: HostNodes, group: GroupRequest) -> None:
    """Refuse to start nodes on a broker or result store that this host does not reach, or on a key that is no queue of theirs."""
    engine, request = engines.named(group.engine), nodes.request
    if engine.schemes:  # a command of the user's may need neither
        stores.require_reached(request.broker_url, request.result_url)
    if request.broker_url:
        engine.waiting(request.broker_url, group.queues, request.broker_options)


def check_start(nodes: HostNodes, group: GroupRequest, values: Mapping[str, Any]) -> list[str]:
    """Have the engine make a worker without running it, as the node would be made; return what it warns of."""
    request = nodes.request
    trial = engines.named(group.engine).trial(values["command"], Layout(request.root).workfleet, group.drain_seconds)
    if not trial:
        return []
    done = foreign.run(values["user"], trial, check=False, env=values["environment"], cwd=values["directory"],
                       timeout=limits.of_import(request.rollout.ready_timeout_seconds))
    if done.rc:
        raise WorkfleetError(f"a worker cannot be made: {shown.end(done.err, SAID)}",
                             blame=f"a worker of {group.name} cannot be made of it")
    return [f"{group.name}: {line[len(TRIAL_WARNING):].strip()}" for line in done.out.splitlines() if line.startswith(TRIAL_WARNING)]


def check_release(nodes: HostNodes) -> None:
    """Refuse to start nodes on a release that is not there."""
    root = nodes.request.root
    if not nodes.release:
        raise WorkfleetError(f"no node was touched: {root}/current names no release; run site.yml, which builds one")
    python = os.path.join(root, "releases", nodes.release, "venv", "bin", "python")
    if not os.path.exists(python):
        raise WorkfleetError(f"no node was touched: the virtualenv of release {nodes.release} is missing ({python}); "
                             "remove that release's directory and run site.yml, which builds it again")
