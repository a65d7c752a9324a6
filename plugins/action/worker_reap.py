"""Gather which nodes run on all hosts, have one host return what dead workers held, and say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, queues

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN = 20
#: Spent between the looks where nothing else is said; a worker that has just taken a task tells of it long before.
SECONDS = 10.0


class ActionModule(ActionBase):
    """The control node's half of ``worker_reap``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module did, and print it."""
        super().run(tmp, task_vars)
        arguments, variables = self._task.args, task_vars or {}
        if actions.only(arguments) is not None:
            raise AnsibleActionFail("worker_only: a task may be held by any node, and all must be looked at; leave it out")
        declared = queues.declarations(arguments, variables, self._templar)
        sources = [source for source in queues.sources(declared, None) if source["engine"] == "celery"]
        if not sources:
            self._display.display("  no Celery workers are declared; arq and Chicory give back what a dead worker held themselves")
            return {"changed": False, "returned": [], "forgotten": [], "left": []}
        looked = actions.nodes_of(arguments["hosts"], str(arguments["register"]), variables, "nothing was returned")
        running = sorted(node["node"] for nodes in looked.values() for node in nodes
                         if node["engine"] == "celery" and node["pid"] is not None)
        total: dict[str, Any] = {"changed": False, "returned": [], "forgotten": [], "left": []}
        for source in sources:
            order = {"app": declared[0].app.name, "url": source["url"], "queues": source["queues"], "running": running,
                     "options": source["options"], "seconds": float(arguments.get("sample_seconds") or SECONDS)}
            result: dict[str, Any] = self._execute_module(
                module_name="workfleet.core.worker_reap", module_args={"payload": payload.pack(order)}, task_vars=variables)
            if result.get("failed"):
                return {**total, **result}
            total = {**total, "changed": total["changed"] or result["changed"],
                     **{key: total[key] + result[key] for key in ("returned", "forgotten", "left")}}
        self.show(total)
        return total

    def show(self, found: Mapping[str, Any]) -> None:
        """Print what went back, or would."""
        would = "would go" if self._task.check_mode else "went"
        for task in found["returned"][:SHOWN]:
            self._display.display(f"  {task['queue']}: {task['id']} ({task['task']}) {would} back")
        self._display.display(f"  {len(found['returned'])} tasks of dead workers {would} back to their queues; "
                              f"{len(found['forgotten'])} dead nodes {'would be ' if self._task.check_mode else ''}forgotten")
        for text in found["left"]:
            self._display.warning(text)
