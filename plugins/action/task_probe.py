"""Check the arguments on the control node and hand them to the module as one opaque text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import engines
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.verbs.probe import Request
from ansible_collections.workfleet.core.plugins.plugin_utils import actions
from ansible_collections.workfleet.core.plugins.plugin_utils import queues as fleet

if TYPE_CHECKING:
    from ansible_collections.workfleet.core.plugins.module_utils.workfleet.model import Group

COLOURS = {"ok": "green", "not proved": "yellow", "failed": "red"}


class ActionModule(actions.Action):
    """The control node's half of ``task_probe``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what the module returns, and say it a line a queue."""
        ours = None
        if values["groups"] is not None:
            queues, ours = self.declared(values, task_vars)
        elif values["broker_url"] is None or values["queues"] is None:
            raise AnsibleActionFail("task_probe needs broker_url and queues, or app and groups")
        else:
            queues = {values["engine"]: values["queues"]}
        requests = [Request(values["broker_url"], engine, values["result_url"], list(names), values["timeout"], values["broker_options"],
                            values["task"], values["args"], values["kwargs"]) for engine, names in queues.items() if names]
        if not requests:
            return {"changed": False, "probes": []}
        sent = {"requests": requests, "must_return": values["must_return"], "must_begin": values["must_begin"],
                "ours": ours}
        result = self.module(sent)
        for probe in result.get("probes", []):
            took = "" if probe["seconds"] is None else f" in {probe['seconds']:g} s"
            self.say(probe["queue"], probe["state"], probe["reason"] or f"there and back{took}")
        return result

    def declared(self, values: dict[str, Any], task_vars: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, Any]]:
        """Return the queues of the groups that should run, by engine, and whose answers count; say of the others why they are not proved.

        Where the declared app has its queues and its results goes into ``values``.
        """
        declaration = actions.declaration(values, self.host)
        only = actions.only(values)
        queues: dict[str, list[str]] = {}
        for group in declaration.groups:
            if only is None or group.name in only:
                why = excuse(group)
                if why:
                    self.say(group.name, "not proved", why)
                else:
                    known = queues.setdefault(group.engine, [])
                    known += [queue for queue in engines.named(group.engine).queues(group) if queue not in known]
        app = declaration.app
        values.update(broker_url=app.broker_url, result_url=app.result_url, broker_options=dict(app.broker_options))
        return queues, fleet.ours([declaration], task_vars)

    def say(self, what: str, state: str, why: str) -> None:
        """Show one line."""
        self._display.display(f"  {self.host}: {what}: {state}: {why}", color=COLOURS[state])


def excuse(group: Group) -> str:
    """Return why no canary can be sent for a group, or nothing."""
    if group.state != "started" or not group.nodes:
        return f"the group is declared with {group.nodes} nodes, {group.state}"
    if not engines.named(group.engine).speaks:
        return f"engine {group.engine} has no queues"
    if group.command and not group.queues:
        return "its queues stand in its command, which is not read"
    return ""
