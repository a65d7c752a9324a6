"""Ask for the typed confirmation, have a host empty the queue, and keep the dump here."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.stash import Choice
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, dumps, logtext, queues

ARGUMENTS: dict[str, dict[str, Any]] = {
    "app": {"type": "dict", "required": True, "no_log": True},
    "groups": {"type": "list", "elements": "dict", "no_log": True, "default": []},
    "manager": {"type": "str"}, "hosts": {"type": "list", "elements": "str", "default": []}, "only": {"type": "str", "default": ""},
    "queue": {"type": "str", "required": True}, "confirm": {"type": "str", "default": ""}, "priority": {"type": "int"},
    "task_name": {"type": "str", "default": ""}, "older_than": {"type": "float"}, "dump_dir": {"type": "str", "default": "dumps"},
    "force": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """The control node's half of ``queue_purge``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return how many tasks are in which dump, and say it."""
        super().run(tmp, task_vars)
        _, values = self.validate_argument_spec(ARGUMENTS)
        declared = queues.declarations(values, task_vars or {}, self._templar)
        app, queue = declared[0].app.name, values["queue"]
        source = queues.source_of(queues.sources(declared, actions.only(values)), queue)
        if not self._task.check_mode:
            dumps.confirmed(f"purge {app} {queue}", values["confirm"])
        choice = Choice(queue, values["priority"], values["task_name"] or None, values["older_than"])
        purge = dumps.Purge(self, task_vars or {}, app, source, choice, queues.own(declared), force=values["force"])
        result = purge.run("" if self._task.check_mode else dumps.folder(values["dump_dir"]))
        for text in (*result.get("recovered", []), *result.get("problems", [])):
            self._display.warning(logtext.line(text))
        if not result.get("failed"):
            count = result["records"]
            said = f"{count} tasks are dumped and gone: {result['dump']}" if result["dump"] else (
                f"{count} tasks would be purged" if self._task.check_mode else "nothing to purge")
            self._display.display(f"  {logtext.line(queue)}: {said}")
        return result
