"""Check and render on the control node, then call the module until all is done, showing the progress."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import model
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.nodes import ledger
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, tasks
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare

#: One module call; short, since a killed control node leaves the call that runs to its end, though each takes CPU from starting nodes.
CALL_SECONDS = 10
#: What one call tells and the next must know.
KEPT = ("waiting", "going", "restart_since", "checked", "cleans")
#: What turns a request into that of its undoing.
UNDO = {"undo": True, "waiting": {}, "canary": "", "with_rollout": True, "cleans": []}


class ActionModule(actions.Action):
    """The control node's half of ``worker_nodes``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the result of all calls as one."""
        request = self.request(values)
        result = self.work(request, values["lock_seconds"], task_vars, {})
        for note in result.get("notes", []):
            self._display.warning(f"{self.host}: {note}")
        if not (result.get("failed") and result.get("can_undo")):
            self.tell(result)
            return result
        self._display.display(f"  {self.host}: a new node failed; what ran before is brought back")
        undone = self.work({**request, **UNDO}, values["lock_seconds"], task_vars, result)
        self.tell(undone)
        how = (f"What ran before could not be brought back either: {undone['msg']}" if undone.get("failed")
               else "What ran before on this host runs again.")
        return {**undone, "failed": True, "msg": f"{result['msg']}\n{how}", "rolled_back": not undone.get("failed"),
                "blame": result.get("blame", "")}

    def work(self, request: dict[str, Any], lock_seconds: int, task_vars: dict[str, Any], merged: dict[str, Any]) -> dict[str, Any]:
        """Call the module until it is done or has failed; its steps come behind those that are ``merged`` already."""
        said = ""
        while True:
            result = actions.call(self, "worker_nodes", request, time.monotonic() + lock_seconds, task_vars)
            merged = merge(merged, result, self.host)
            for text in result.get("warned", []):
                self._display.warning(f"{self.host}: {text}")
            if result.get("failed") or not result.get("more"):
                return merged
            request.update({key: result[key] for key in KEPT})
            if result["doing"] and result["doing"] != said:
                said = result["doing"]
                self._display.display(f"  {self.host}: {said}")

    def tell(self, result: dict[str, Any]) -> None:
        """Show the ledger in short, and whole what was cut short."""
        lines = result.get("ledger", [])
        if lines:
            self._display.display(f"  {self.host}: {ledger.short(lines)}")
        for line in lines:
            if line.get("cut_short"):
                self._display.warning(f"{self.host}: {ledger.ending(line)}")

    def request(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return what the host is asked to do."""
        declared = actions.declaration(values, self.host)
        scale = counts(values, declared)
        only = list(scale) if values["scale"] else actions.only(values)
        state = values["state"]
        if state:
            declared = dataclasses.replace(declared, groups=tuple(
                dataclasses.replace(group, state=state) if wanted(group, only) else group for group in declared.groups))
        for warning in declared.warnings:
            self._display.warning(f"{self.host}: {warning}")
        asked = tasks.meaning(values)
        follows, restarts = asked.pop("follows"), asked.pop("restart")
        request = actions.payload(declared, values["templates"] or None)
        request.update(
            asked, only=only, release=values["release"] or None,
            # In check mode the task before has foretold the rest; in a real run it has done it, and what is new is done too.
            only_rollout=follows and self._task.check_mode,
            pip_environment={str(name): str(value) for name, value in values["pip_environment"].items()},
            # What is left of nodes that drained since the task before began is the next run's to remove.
            cleans=[] if follows else None,
            restart_since=0 if restarts else None, scale=scale, deadline_seconds=CALL_SECONDS,
            kill=values["kill"], after_stop=values["after_stop"], **actions.who(),
        )
        return request


def counts(values: dict[str, Any], declared: model.Declaration) -> dict[str, Any]:
    """Return the new counts of nodes that the host is to remember, or to forget."""
    if values["nodes"] == "inventory":
        return {group.name: {"nodes": None, "by": ""} for group in declared.groups if wanted(group, actions.only(values))}
    if values["nodes"] and not values["scale"]:
        raise AnsibleActionFail(f"nodes = {values['nodes']!r}: here only nodes=inventory is taken, which forgets counts that were set; "
                                "scale.yml sets them (no node was touched)")
    return dict(bare(values["scale"]))


def wanted(group: model.Group, only: list[str] | None) -> bool:
    """Whether a state for all groups is meant for this one: what is declared absent is neither started nor stopped."""
    return group.state != "absent" and (only is None or group.name in only)


def merge(merged: dict[str, Any], result: dict[str, Any], host: str) -> dict[str, Any]:
    """Put the result of one more call behind those before: steps and the ledger add up, the first diff is that of the whole plan."""
    steps = [*merged.get("steps", []), *({**step, "host": host} for step in result.get("steps", []))]
    diff = merged.get("diff", result.get("diff", []))
    lines = {line["node"]: line for line in (*merged.get("ledger", []), *result.get("ledger", []))}
    return {**result, "steps": steps, "changed": bool(steps), "diff": diff, "ledger": list(lines.values())}
