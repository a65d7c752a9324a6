"""Control node's half of redis_server: check the arguments and hand them over as one opaque text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.redis import config as redis_config
from ansible_collections.workfleet.core.plugins.plugin_utils import actions
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: So many hosts or nodes are named.
SHOWN = 3
OTHERS = {"app", "state", "keep_data", "pip_environment", "wait_seconds", "old_passwords", "waits_for", "register"}


class ActionModule(actions.Action):
    """A wrong declaration never reaches the host."""

    _supports_check_mode = True

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        if values["old_passwords"] == "end":
            why = still_needed(values["waits_for"], values["register"], task_vars["hostvars"])
            if why:
                self._display.warning(f"{task_vars['inventory_hostname']}: redis_password: the password before stays valid: {why}. "
                                      "The next run of site.yml that has replaced all nodes ends it")
                return {"changed": False, "steps": [], "diff": [], "old_passwords": True}
        return self.module(request(bare(values), str(task_vars["inventory_hostname"])))


def still_needed(hosts: Sequence[str], register: str, hostvars: Mapping[str, Any]) -> str:
    """Say whose nodes may still have an old password, or nothing: of a host that was not in this run nobody knows."""
    unknown, draining = [], []
    for host in hosts:
        told = hostvars.get(host, {}).get(register) or {}
        if told.get("failed") or told.get("unreachable") or "nodes" not in told:
            unknown.append(host)
        else:
            draining += [line["node"] for line in told.get("ledger", ()) if line["state"] == "draining"]
            draining += [node["unit"] for node in told["nodes"] if node["activity"] == "stopping"]
    if unknown:
        return f"the nodes of {', '.join(unknown[:SHOWN])}{' and others' if len(unknown) > SHOWN else ''} were not replaced by this run"
    return f"{', '.join(draining[:SHOWN])} still end{'s' if len(draining) == 1 else ''} what is running" if draining else ""


def request(given: dict[str, Any], host: str) -> dict[str, Any]:
    """Check a task's arguments and return what the module gets."""
    if not given["app"]:
        raise WorkfleetError("redis_server: app is required: the name of the app that owns this Redis")
    variables = {f"redis_{name}": value for name, value in given.items() if name not in OTHERS and value is not None}
    redis_config.parse(variables)
    if given["state"] != "absent":
        for problem in redis_config.without_password(variables):
            raise WorkfleetError(problem)
    return {
        "app": given["app"], "state": given["state"], "host": host, "variables": variables,
        "pip_environment": {key: str(value) for key, value in (given["pip_environment"] or {}).items()},
        "wait_seconds": given["wait_seconds"], "keep_data": given["keep_data"], "ends_password": given["old_passwords"] == "end",
    }
