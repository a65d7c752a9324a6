"""Check and render on the control node, have the host look, and compare its clock with ours."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet import engines
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, queues

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.workfleet.core.plugins.module_utils.workfleet import model


class ActionModule(actions.Action):
    """The control node's half of ``deploy_check``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what the host told."""
        declared = actions.declaration(values, str(task_vars["inventory_hostname"]))
        request = {**actions.payload(declared), "only": actions.only(values), "release": values["release"] or None,
                   "asking": queues.asking(values, task_vars, self._templar)}
        before = time.time()
        result = self.module(request)
        after = time.time()
        if "seen" in result:
            there = result["seen"].pop("time")
            result["clock"] = [there - after, there - before]
            result["nodes"] = nodes(declared, result["seen"].get("counts", {}))
        return result


def nodes(declared: model.Declaration, counts: Mapping[str, int]) -> list[list[Any]]:
    """Return the values of ``preflight.Nodes`` of each group that has so many nodes."""
    rollout, found = declared.rollout, []
    for group in declared.groups:
        number = counts.get(group.name, 0)
        starts_first = rollout.order == "start-first" and engines.named(group.engine).overlaps
        beside = min(number, rollout.batch(number)) if starts_first else 0
        found.append([group.engine, number, group.concurrency, beside, number if starts_first and not rollout.wait_for_drain else 0])
    return found
