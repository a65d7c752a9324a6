"""Control node's half of postgresql_server: check the arguments and hand them over as one opaque text."""

from __future__ import annotations

from typing import Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.postgresql import config as postgresql_config
from ansible_collections.workfleet.core.plugins.plugin_utils import actions
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare

PREFIX = "postgresql_"


class ActionModule(actions.Action):
    """A wrong declaration never reaches the host."""

    _supports_check_mode = True

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        return self.module(request(bare(values), str(task_vars["inventory_hostname"])))


def request(given: dict[str, Any], host: str) -> dict[str, Any]:
    """Check a task's arguments and return what the module gets."""
    if not given["app"]:
        raise WorkfleetError("postgresql_server: app is required: the name of the app that owns this PostgreSQL")
    variables = {f"{PREFIX}{name}": value for name, value in given.items() if name != "app"}
    postgresql_config.parse(variables)
    return {"app": given["app"], "host": host, "variables": variables}
