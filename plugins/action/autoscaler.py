"""Read the inventory and render the units on the control node, and hand all of it over as one opaque text."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, autoscaler
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare


class ActionModule(actions.Action):
    """The control node's half of ``autoscaler``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        try:
            request, notices = autoscaler.request(bare(values))
        except OSError as error:
            raise AnsibleActionFail(str(error)) from error
        for text in notices:
            self._display.warning(text)
        return self.module(request)
