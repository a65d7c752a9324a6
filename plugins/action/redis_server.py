"""Control node's half of redis_server: check the arguments and hand them over as one opaque text."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload, redis_config
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError

OTHERS = {"app", "state", "pip_environment", "wait_seconds"}
STATES = ("started", "stopped", "restarted", "reloaded", "absent")


class ActionModule(ActionBase):
    """A wrong declaration never reaches the host."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        try:
            packed = payload.pack(pack(self._task.args, str(variables.get("inventory_hostname", ""))))
        except WorkfleetError as error:
            return {**result, "failed": True, "msg": str(error), **error.details}
        called: dict[str, Any] = self._execute_module(
            module_name="workfleet.core.redis_server", module_args={"payload": packed}, task_vars=variables
        )
        return {**result, **called}


def pack(given: dict[str, Any], host: str) -> dict[str, Any]:
    """Check a task's arguments and return what the module gets."""
    known = OTHERS | {name[len("redis_"):] for name in redis_config.DEFAULTS}
    unknown = sorted(set(given) - known)
    if unknown:
        allowed = ", ".join(sorted(known))
        raise WorkfleetError(f"redis_server has no option {', '.join(unknown)}; its options are {allowed}")
    if not given.get("app"):
        raise WorkfleetError("redis_server: app is required: the name of the app that owns this Redis")
    state = given.get("state", "started")
    if state not in STATES:
        raise WorkfleetError(f"redis_server: state: given {state!r}, allowed are {', '.join(STATES)}")
    variables = {f"redis_{name}": value for name, value in given.items() if name not in OTHERS and value is not None}
    redis_config.parse(variables)
    return {
        "app": given["app"], "state": state, "host": host, "variables": variables,
        "pip_environment": {key: str(value) for key, value in (given.get("pip_environment") or {}).items()},
        "wait_seconds": float(given.get("wait_seconds", 300)),
    }
