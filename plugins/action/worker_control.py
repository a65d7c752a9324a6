"""Check a control and its arguments on the control node; nothing is sent where one is wrong."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import engines, payload
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines import controls
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.plugin_utils import actions
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare


class ActionModule(ActionBase):
    """The control node's half of ``worker_control``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module returns, and say what the nodes answered."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        host = str(task_vars["inventory_hostname"])
        arguments = self._task.args
        declared = actions.declaration(arguments, host)
        groups = {group.name: group for group in declared.groups}
        name = str(arguments.get("group") or "")
        elsewhere = dict(bare(arguments.get("placement") or {}).get(declared.app.name, {}))
        if name not in groups and name not in elsewhere:
            known = ", ".join(dict.fromkeys([*groups, *elsewhere]))
            raise AnsibleActionFail(f"group = {name!r}: must be one of {known} (-e group=NAME)")
        if name not in groups:
            note = f"it has no nodes of {name}; nothing was sent to it"
            self._display.display(f"  {host}: {note}")
            return {"changed": False, "steps": [], "nodes": [], "notes": [note]}
        given = {key: value for key, value in bare(arguments.get("arguments") or {}).items() if value != ""}
        control = str(arguments.get("control") or "")
        try:
            checked = controls.check(engines.named(groups[name].engine), list(engines.ENGINES.values()), control, given)
        except WorkfleetError as error:
            raise AnsibleActionFail(f"{error} (nothing was sent)") from None
        order = {"group": name, "control": control, "arguments": checked, "timeout": float(arguments.get("timeout") or 5.0)}
        request = {**actions.payload(declared), "order": order}
        result: dict[str, Any] = self._execute_module(
            module_name="workfleet.core.worker_control", module_args={"payload": payload.pack(request)}, task_vars=task_vars)
        for note in result.get("notes", []):
            self._display.display(f"  {host}: {note}")
        return result
