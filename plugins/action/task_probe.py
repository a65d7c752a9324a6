"""Check the arguments on the control node and hand them to the module as one opaque text."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload

ARGUMENTS = {
    "broker_url": {"type": "str", "required": True, "no_log": True},
    "result_url": {"type": "str", "default": "", "no_log": True},
    "queues": {"type": "list", "elements": "str", "required": True},
    "timeout": {"type": "float", "default": 30},
    "broker_options": {"type": "dict", "default": {}},
    "task": {"type": "str", "default": "celery.accumulate"},
    "args": {"type": "list", "elements": "raw"},
    "kwargs": {"type": "dict", "default": {}},
    "must_return": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """The control node's half of ``task_probe``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module returns."""
        super().run(tmp, task_vars)
        _, values = self.validate_argument_spec(ARGUMENTS)
        if values["args"] is None:
            # The built-in task returns what it is given; a task of the app's own is called without arguments.
            values["args"] = ["workfleet"] if values["task"] == ARGUMENTS["task"]["default"] else []
        result: dict[str, Any] = self._execute_module(
            module_name="workfleet.core.task_probe", module_args={"payload": payload.pack(values)}, task_vars=task_vars)
        return result
