"""Control node's half of redis_server_info: the URL holds a password, so it travels as one opaque text."""

from __future__ import annotations

from typing import Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet import resp
from ansible_collections.workfleet.core.plugins.plugin_utils import actions


class ActionModule(actions.Action):
    """One call of the module."""

    _supports_check_mode = True

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        resp.parse_url(values["url"])
        return self.module(values)
