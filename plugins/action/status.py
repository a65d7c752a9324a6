"""Print the fleet's status and write it as JSON."""

from __future__ import annotations

import json
import shutil
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.color import stringc
from ansible_collections.workfleet.core.plugins.plugin_utils import status

NARROW, WIDE = 60, 160


class ActionModule(ActionBase):
    """Runs on the control node alone."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Put together what the hosts told, print it, write it, and fail where that is asked for."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        hosts = [host for host in self._task.args["hosts"] if host in task_vars["hostvars"]]
        told = {host: dict(task_vars["hostvars"][host].get(self._task.args["register"]) or {}) for host in hosts}
        found = status.combine(str(self._task.args["app"]), told)
        width = min(max(shutil.get_terminal_size((100, 24)).columns, NARROW), WIDE)
        self._display.display("\n" + "\n".join(status.table(found, width, stringc)))
        path = self._task.args.get("json")
        if path:
            with open(path, "w", encoding="utf-8") as file:
                json.dump(found, file, indent=1)
                file.write("\n")
            self._display.display(f"\nstatus JSON: {path}")
        result.update(changed=False)
        if found["problems"] and self._task.args.get("strict"):
            count = "1 problem" if len(found["problems"]) == 1 else f"{len(found['problems'])} problems, the first"
            # Without the status: Ansible prints a failed result whole, far longer than the table above it.
            result.update(failed=True, msg=f"{count}: {found['problems'][0]}")
        else:
            result.update(status=found)
        return result
