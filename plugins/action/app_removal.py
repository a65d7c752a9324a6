"""Control node's half of app_removal: ask for the typed confirmation, and say what goes."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import removal
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, dumps


class ActionModule(actions.Action):
    """Nothing is removed that was not asked for by its name."""

    _supports_check_mode = True

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what goes, or what has gone."""
        name = values["name"]
        if values["step"] == "confirm":
            return self.confirm(f"absent {name}", task_vars)
        request = removal.Request(
            self.host, name, values["user"] or name, values["group"] or name, values["root"] or f"/opt/{name}", values["run_directory"],
            redis=values["redis"], is_look=values["step"] == "look")
        result = self.module(request)
        if request.is_look and not result.get("failed"):
            # The steps are told when they are taken.
            things = [step["unit"] for step in result.pop("steps") if step["action"] == "remove"]
            things += [f"{server} with its data" for server in result["servers"]]
            if result["nodes"]:
                things.insert(0, f"{len(result['nodes'])} nodes, which drain first")
            result["found"] = bool(things)
            if things:
                self._display.display(f"  {self.host}: what goes: {', '.join(things)}")
        return result

    def confirm(self, words: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Refuse what was not typed, where there is something to be taken away."""
        told = [task_vars["hostvars"].get(host, {}).get(self.values["register"]) or {} for host in self.values["hosts"]]
        failed = next((one for one in told if one.get("failed")), None)
        if failed:
            raise AnsibleActionFail(f"{failed.get('msg')}; nothing was touched")
        found = any(one.get("found") for one in told)
        if found and not self._task.check_mode:
            dumps.confirmed(words, self.values["confirm"])
        return {"changed": False, "found": found}
