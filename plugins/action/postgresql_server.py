"""Control node's half of postgresql_server: check the arguments and hand them over as one opaque text."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload, postgresql_config
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare

PREFIX = "postgresql_"


class ActionModule(ActionBase):
    """A wrong declaration never reaches the host."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        try:
            packed = payload.pack(pack(bare(self._task.args), str(variables.get("inventory_hostname", ""))))
        except WorkfleetError as error:
            return {**result, "failed": True, "msg": str(error), **error.details}
        called: dict[str, Any] = self._execute_module(
            module_name="workfleet.core.postgresql_server", module_args={"payload": packed}, task_vars=variables
        )
        return {**result, **called}


def pack(given: dict[str, Any], host: str) -> dict[str, Any]:
    """Check a task's arguments and return what the module gets."""
    known = ["app", *(name[len(PREFIX):] for name in postgresql_config.DEFAULTS)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise WorkfleetError(f"postgresql_server has no option {', '.join(unknown)}; its options are {', '.join(known)}")
    if not given.get("app"):
        raise WorkfleetError("postgresql_server: app is required: the name of the app that owns this PostgreSQL")
    variables = {f"{PREFIX}{name}": value for name, value in given.items() if name != "app"}
    postgresql_config.parse(variables)
    return {"app": given["app"], "host": host, "variables": variables}
