"""Have one host note what workers hold; once all hosts told what runs there, have it return what dead ones held, and say it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import payload
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.verbs.reaping import Reaping
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, queues, reaping

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN = 20
LISTS = ("returned", "dead", "forgotten", "unbound", "left")


class ActionModule(actions.Action):
    """The control node's half of ``worker_reap``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what the module did, and print it."""
        if actions.only(values) is not None:
            raise AnsibleActionFail("worker_only: a task may be held by any node, and all must be looked at; leave it out")
        declared = queues.declarations(values, task_vars, self._templar)
        app = declared[0].app
        orders = [(source["engine"], Reaping(app.name, source["url"], source["queues"], source["options"], app.result_url))
                  for source in queues.sources(declared, None)]
        if values["seen"] is None:
            return self.note(orders)
        running = reaping.processes(values["hosts"], values["register"], task_vars)
        told = [payload.unpack(text, "worker_reap") for text in values["seen"].split()]
        if len(told) != len(orders):
            raise AnsibleActionFail("seen: is not what this module returned of these groups")
        total: dict[str, Any] = {"changed": False, **{key: [] for key in LISTS}}
        for (engine, order), seen in zip(orders, told):
            result = self.module({"engine": engine, "note": False, "order": replace(
                order, seen=seen, hosts=values["hosts"], force=values["force"], seconds=values["sample_seconds"],
                processes={node: entry["pids"] for node, entry in running.items()},
                # What runs of a group that is not declared any more may be Celery's.
                running=[node for node, entry in running.items() if entry["engine"] in (engine, None)],
                names={node: entry["name"] for node, entry in running.items() if entry["name"]})})
            if result.get("failed"):
                return {**total, **result}
            total = {"changed": total["changed"] or result["changed"], **{key: total[key] + result[key] for key in LISTS}}
        self.show(total)
        return total

    def note(self, orders: list[tuple[str, Reaping]]) -> dict[str, Any]:
        """Return what workers hold, as one opaque text."""
        seen = []
        for engine, order in orders:
            result = self.module({"engine": engine, "note": True, "order": order})
            if "seen" not in result:
                return result
            seen.append(result["seen"])
        return {"changed": False, "seen": " ".join(seen)}

    def show(self, found: Mapping[str, Any]) -> None:
        """Print what went back, or would."""
        would, be = ("would go", "would be ") if self._task.check_mode else ("went", "")
        for task in found["returned"][:SHOWN]:
            self._display.display(f"  {task['queue']}: {task['id']} ({task['task']}) {would} back")
        for task in found["dead"][:SHOWN]:
            self._display.display(f"  {task['queue']}: {task['id']} ({task['task']}) must not run twice, and {would} to the dead letters")
        for binding in found["unbound"][:SHOWN]:
            self._display.display(f"  {binding['queue']}: used by nobody, {be}taken from the exchange {binding['exchange']}")
        self._display.display(f"  {len(found['returned'])} tasks of dead workers {would} back to their queues; "
                              f"{len(found['forgotten'])} dead nodes {be}forgotten")
        for text in found["left"]:
            self._display.warning(text)
