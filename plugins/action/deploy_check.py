"""Check and render on the control node, have the host look, and compare its clock with ours."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload
from ansible_collections.workfleet.core.plugins.plugin_utils import actions


class ActionModule(ActionBase):
    """The control node's half of ``deploy_check``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the host told."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        declared = actions.declaration(self._task.args, str(task_vars["inventory_hostname"]))
        request = {**actions.payload(declared), "release": self._task.args.get("release") or None}
        before = time.time()
        result: dict[str, Any] = self._execute_module(
            module_name="workfleet.core.deploy_check", module_args={"payload": payload.pack(request)}, task_vars=task_vars)
        after = time.time()
        if "seen" in result:
            there = result["seen"].pop("time")
            result["clock"] = [there - after, there - before]
            result["nodes"] = [[group.engine, group.nodes if group.state == "started" else 0, group.concurrency]
                               for group in declared.groups]
        return result
