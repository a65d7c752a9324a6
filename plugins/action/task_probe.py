"""Check the arguments on the control node and hand them to the module as one opaque text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import engines, payload
from ansible_collections.workfleet.core.plugins.plugin_utils import actions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import Declaration, Group

ARGUMENTS: dict[str, dict[str, Any]] = {
    "broker_url": {"type": "str", "no_log": True},
    "result_url": {"type": "str", "default": "", "no_log": True},
    "queues": {"type": "list", "elements": "str"},
    "timeout": {"type": "float", "default": 30},
    "broker_options": {"type": "dict", "default": {}},
    "task": {"type": "str", "default": "celery.accumulate"},
    "args": {"type": "list", "elements": "raw"},
    "kwargs": {"type": "dict", "default": {}},
    "must_return": {"type": "bool", "default": True},
    "app": {"type": "dict", "no_log": True},
    "groups": {"type": "list", "elements": "dict", "no_log": True},
    "manager": {"type": "str"},
    "only": {"type": "str", "default": ""},
}
#: What stands for the queues in the arguments and is of no use to the module.
DECLARATION = ("app", "groups", "manager", "only")
COLOURS = {"ok": "green", "not proved": "yellow", "failed": "red"}


class ActionModule(ActionBase):
    """The control node's half of ``task_probe``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module returns, and say it a line a queue."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, values = self.validate_argument_spec(ARGUMENTS)
        self.host = str((task_vars or {})["inventory_hostname"])
        if values["groups"] is not None:
            values.update(self.declared(values))
        if values["broker_url"] is None or values["queues"] is None:
            raise AnsibleActionFail("task_probe needs broker_url and queues, or app and groups")
        if values["args"] is None:
            # The built-in task returns what it is given; a task of the app's own is called without arguments.
            values["args"] = ["workfleet"] if values["task"] == ARGUMENTS["task"]["default"] else []
        if not values["queues"]:
            result.update(changed=False, probes=[])
            return result
        sent = {name: value for name, value in values.items() if name not in DECLARATION}
        result = self._execute_module(
            module_name="workfleet.core.task_probe", module_args={"payload": payload.pack(sent)}, task_vars=task_vars)
        for probe in result.get("probes", []):
            took = "" if probe["seconds"] is None else f" in {probe['seconds']:g} s"
            self.say(probe["queue"], probe["state"], probe["reason"] or f"there and back{took}")
        return result

    def declared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the broker and the queues of the groups that should run; say of the others why they are not proved."""
        declaration = actions.declaration(values, self.host)
        only = actions.only(values, declaration)
        queues: dict[str, None] = {}
        for group in declaration.groups:
            if only is None or group.name in only:
                why = excuse(group)
                if why:
                    self.say(group.name, "not proved", why)
                else:
                    queues.update(dict.fromkeys(engines.named(group.engine).queues(group)))
        return {"queues": list(queues), **dict(stores(declaration))}

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


def stores(declaration: Declaration) -> Iterator[tuple[str, Any]]:
    """Yield where the declared app has its queues and its results."""
    app = declaration.app
    yield "broker_url", app.broker_url
    yield "result_url", app.result_url
    yield "broker_options", dict(app.broker_options)
