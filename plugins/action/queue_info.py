"""Gather what the hosts declare, have one of them look at the queues, and show what it found."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.color import stringc
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, queues


class ActionModule(ActionBase):
    """The control node's half of ``queue_info``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module found, print it and write it as JSON."""
        super().run(tmp, task_vars)
        arguments = self._task.args
        declared = queues.declarations(arguments, task_vars or {}, self._templar)
        request = {"app": declared[0].app.name, "sources": queues.sources(declared, actions.only(arguments)), "own": queues.own(declared),
                   "sample_seconds": float(arguments.get("sample_seconds") or 0)}
        result: dict[str, Any] = self._execute_module(
            module_name="workfleet.core.queue_info", module_args={"payload": payload.pack(request)}, task_vars=task_vars)
        if result.get("failed"):
            return result
        name = arguments.get("queue")
        if name:
            result["queues"] = [queue for queue in result["queues"] if queue["queue"] == name]
        if arguments.get("show", True):
            self._display.display("\n" + "\n".join(queues.table(result["queues"], result["problems"], stringc)))
        path = arguments.get("json")
        if path:
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"app": request["app"], "queues": result["queues"], "problems": result["problems"]}, file, indent=1)
                file.write("\n")
            self._display.display(f"\nqueues JSON: {path}")
        return result
