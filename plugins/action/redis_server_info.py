"""Control node's half of redis_server_info: the URL holds a password, so it travels as one opaque text."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload

ARGUMENTS = {
    "url": {"type": "str", "default": "redis://127.0.0.1:6379/0", "no_log": True},
    "timeout": {"type": "float", "default": 5.0},
}


class ActionModule(ActionBase):
    """One call of the module."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, values = self.validate_argument_spec(ARGUMENTS)
        called: dict[str, Any] = self._execute_module(
            module_name="workfleet.core.redis_server_info", module_args={"payload": payload.pack(values)},
            task_vars=task_vars,
        )
        return {**result, **called}
