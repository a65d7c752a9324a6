"""Ask for the typed confirmation, have a host empty the queue, and keep the dump here."""

from __future__ import annotations

from typing import Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet import shown
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.verbs.stash import Choice
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, dumps, queues


class ActionModule(actions.Action):
    """The control node's half of ``queue_purge``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return how many tasks are in which dump, and say it."""
        declared = queues.declarations(values, task_vars, self._templar)
        app, queue = declared[0].app.name, values["queue"]
        source = queues.source_of(queues.sources(declared, actions.only(values)), queue)
        if not self._task.check_mode:
            dumps.confirmed(f"purge {app} {queue}", values["confirm"])
        choice = Choice(queue, values["priority"], values["task_name"] or None, values["older_than"])
        purge = dumps.Purge(self, task_vars, app, source, choice, queues.own(declared), force=values["force"])
        result = purge.run("" if self._task.check_mode else dumps.folder(values["dump_dir"]))
        for text in (*result.get("recovered", []), *result.get("problems", [])):
            self._display.warning(shown.line(text))
        if not result.get("failed"):
            count = result["records"]
            said = f"{count} tasks are dumped and gone: {result['dump']}" if result["dump"] else (
                f"{count} tasks would be purged" if self._task.check_mode else "nothing to purge")
            self._display.display(f"  {shown.line(queue)}: {said}")
        return result
