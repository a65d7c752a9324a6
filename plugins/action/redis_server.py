"""Control node's half of redis_server: check the arguments and hand them over as one opaque text."""

from __future__ import annotations

from typing import Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload, redis_config
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.plugin_utils import actions
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare

OTHERS = {"app", "state", "keep_data", "pip_environment", "wait_seconds"}


class ActionModule(actions.Action):
    """A wrong declaration never reaches the host."""

    _supports_check_mode = True

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        packed = payload.pack(pack(bare(values), str(task_vars["inventory_hostname"])))
        result: dict[str, Any] = self._execute_module(
            module_name="workfleet.core.redis_server", module_args={"payload": packed}, task_vars=task_vars
        )
        return result


def pack(given: dict[str, Any], host: str) -> dict[str, Any]:
    """Check a task's arguments and return what the module gets."""
    if not given["app"]:
        raise WorkfleetError("redis_server: app is required: the name of the app that owns this Redis")
    variables = {f"redis_{name}": value for name, value in given.items() if name not in OTHERS and value is not None}
    redis_config.parse(variables)
    return {
        "app": given["app"], "state": given["state"], "host": host, "variables": variables,
        "pip_environment": {key: str(value) for key, value in (given["pip_environment"] or {}).items()},
        "wait_seconds": given["wait_seconds"], "keep_data": given["keep_data"],
    }
