"""Check the arguments and have the host tell what it knows of an app's releases."""

from __future__ import annotations

from typing import Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import checker
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import workers as spec
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, words


class ActionModule(actions.Action):
    """The control node's half of ``app_release_info``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what the module found."""
        problems: list[str] = []
        app = spec.parse_app({"name": values["name"], "root": values["root"]}, problems)
        if problems:
            raise checker.SpecError(problems)
        request = {"name": app.name, "root": app.root, "words": words.of(app.name)}
        return self.module(request)
