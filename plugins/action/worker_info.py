"""Check and render on the control node, so that the module can tell what is declared from what runs."""

from __future__ import annotations

from typing import Any

from ansible_collections.workfleet.core.plugins.plugin_utils import actions, queues, words


class ActionModule(actions.Action):
    """The control node's half of ``worker_info``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what the module found."""
        declared = actions.declaration(values, str(task_vars["inventory_hostname"]))
        request = actions.payload(declared)
        request.update(only=actions.only(values), release=None, timeout=values["timeout"],
                       asking=queues.asking(values, task_vars, self._templar),
                       words=words.of(declared.app.name))
        return self.module(request)
