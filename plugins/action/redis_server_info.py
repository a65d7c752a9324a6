"""Control node's half of redis_server_info: the URL holds a password, so it travels as one opaque text."""

from __future__ import annotations

from typing import Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload, resp
from ansible_collections.workfleet.core.plugins.plugin_utils import actions


class ActionModule(actions.Action):
    """One call of the module."""

    _supports_check_mode = True

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        resp.parse_url(values["url"])
        result: dict[str, Any] = self._execute_module(
            module_name="workfleet.core.redis_server_info", module_args={"payload": payload.pack(values)},
            task_vars=task_vars,
        )
        return result
