"""Check a control and its arguments on the control node; nothing is sent where one is wrong."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import engines
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.verbs import controls
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.nodes import control as live
from ansible_collections.workfleet.core.plugins.plugin_utils import actions
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare


class ActionModule(actions.Action):
    """The control node's half of ``worker_control``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what the module returns, and say what the nodes answered."""
        host = str(task_vars["inventory_hostname"])
        declared = actions.declaration(values, host)
        groups = {group.name: group for group in declared.groups}
        name = values["group"]
        elsewhere = dict(bare(values["placement"]).get(declared.app.name, {}))
        if name not in groups and name not in elsewhere:
            known = ", ".join(dict.fromkeys([*groups, *elsewhere]))
            raise AnsibleActionFail(f"group = {name!r}: must be one of {known} (-e group=NAME)")
        if name not in groups:
            note = f"it has no nodes of {name}; nothing was sent to it"
            self._display.display(f"  {host}: {note}")
            return {"changed": False, "steps": [], "nodes": [], "notes": [note]}
        given = {key: value for key, value in bare(values["arguments"]).items() if value != ""}
        control = values["control"]
        try:
            takes = {engine.name: engine.controls for engine in engines.ENGINES.values()}
            checked = controls.check(groups[name].engine, takes, control, given)
        except WorkfleetError as error:
            raise AnsibleActionFail(f"{error} (nothing was sent)") from None
        result = self.module({**actions.payload(declared), "order": live.Order(name, control, checked, values["timeout"])})
        for note in result.get("notes", []):
            self._display.display(f"  {host}: {note}")
        return result
