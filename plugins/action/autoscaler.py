"""Read the inventory and render the units on the control node, and hand all of it over as one opaque text."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.plugin_utils import autoscaler
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare


class ActionModule(ActionBase):
    """The control node's half of ``autoscaler``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = {key: bare(value) for key, value in self._task.args.items()}
        try:
            packed = payload.pack(autoscaler.request(given))
        except (WorkfleetError, OSError) as error:
            return {**result, "failed": True, "msg": str(error)}
        return dict(self._execute_module(
            module_name="workfleet.core.autoscaler", module_args={"payload": packed}, task_vars=task_vars))
