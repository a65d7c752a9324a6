"""Gather what the hosts declare, have one of them look at the queues, and show what it found."""

from __future__ import annotations

from typing import Any

from ansible.utils.color import stringc
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import shown
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.queues.info import require_one_of
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, queues


class ActionModule(actions.Action):
    """The control node's half of ``queue_info``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what the module found, print it and write it as JSON."""
        declared = queues.declarations(values, task_vars, self._templar)
        request = {"app": declared[0].app.name, "sources": queues.sources(declared, actions.only(values)), "own": queues.own(declared),
                   "ours": queues.ours(declared, task_vars), "sample_seconds": values["sample_seconds"]}
        result = self.module(request)
        if result.get("failed"):
            return result
        name = values["queue"]
        if name:
            require_one_of(name, [queue["queue"] for queue in result["queues"]])
            result["queues"] = [queue for queue in result["queues"] if queue["queue"] == name]
        if values["show"]:
            self._display.table(queues.table(result["queues"], result["problems"], stringc))
        path = values["json"]
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(shown.json_file({"app": request["app"], "queues": result["queues"], "problems": result["problems"]}))
            self._display.table([f"queues JSON: {shown.line(path)}"])
        return result
