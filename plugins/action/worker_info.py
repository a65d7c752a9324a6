"""Check and render on the control node, so that the module can tell what is declared from what runs."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload
from ansible_collections.workfleet.core.plugins.plugin_utils import actions


class ActionModule(ActionBase):
    """The control node's half of ``worker_info``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module found."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        declared = actions.declaration(self._task.args, str(task_vars["inventory_hostname"]))
        request = actions.payload(declared)
        request.update(only=actions.only(self._task.args), release=None, timeout=float(self._task.args.get("timeout") or 2.0))
        result: dict[str, Any] = self._execute_module(
            module_name="workfleet.core.worker_info", module_args={"payload": payload.pack(request)}, task_vars=task_vars)
        return result
