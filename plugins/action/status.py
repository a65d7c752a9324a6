"""Print the fleet's status and write it as JSON."""

from __future__ import annotations

import shutil
from typing import Any

from ansible.utils.color import stringc
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import shown
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, status, words

NARROW, WIDE = 60, 160


class ActionModule(actions.Action):
    """Runs on the control node alone."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Put together what the hosts told, print it, write it, and fail where that is asked for."""
        hosts = [host for host in values["hosts"] if host in task_vars["hostvars"]]
        told = {host: dict(task_vars["hostvars"][host].get(values["register"]) or {}) for host in hosts}
        found = status.combine(values["app"], told, words.made_of())
        width = min(max(shutil.get_terminal_size((100, 24)).columns, NARROW), WIDE)
        self._display.table(status.table(found, width, stringc))
        path = values["json"]
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(shown.json_file(found))
            self._display.table([f"status JSON: {shown.line(path)}"])
        if found["problems"] and values["strict"]:
            count = "1 problem" if len(found["problems"]) == 1 else f"{len(found['problems'])} problems, the first"
            # Without the status: Ansible prints a failed result whole, far longer than the table above it.
            return {"changed": False, "failed": True, "msg": f"{count}: {found['problems'][0]}"}
        return {"changed": False, "status": found}
