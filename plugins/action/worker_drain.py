"""Check on the control node, then call the module until all is done, showing who still runs what."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet.nodes import drain, ledger
from ansible_collections.workfleet.core.plugins.plugin_utils import actions

#: One module call; short, since a killed control node leaves the call that runs to its end.
CALL_SECONDS = 5


class ActionModule(actions.Action):
    """The control node's half of ``worker_drain``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the result of all calls as one."""
        declared = actions.declaration(values, self.host)
        order = drain.Order(resume=values["state"] == "resumed", wait=values["wait"],
                            patience={group.name: group.drain_seconds for group in declared.groups})
        request = {
            **actions.payload(declared), **actions.who(), "only": actions.only(values), "release": None,
            "deadline_seconds": CALL_SECONDS, "order": order,
        }
        until = time.monotonic() + values["lock_seconds"]
        steps: list[dict[str, Any]] = []
        said: list[str] = []
        while True:
            result = actions.call(self, "worker_drain", request, until, task_vars)
            if result.get("failed") or "steps" not in result:
                return result
            steps += [{**step, "host": self.host} for step in result["steps"]]
            if not result["more"]:
                return self.ended({**result, "steps": steps, "changed": bool(steps)})
            said = self.say(result["progress"], said)
            request["order"] = order = replace(order, since=result["since"], known=result["known"])

    def say(self, lines: list[str], said: list[str]) -> list[str]:
        """Show lines that were not shown just before."""
        for line in lines:
            if line not in said:
                self._display.display(f"  {self.host}: {line}")
        return lines

    def ended(self, result: dict[str, Any]) -> dict[str, Any]:
        """Fail where a node is not as asked, or died and lost a task; a kill was asked for. What only served the calls is left out."""
        lost = [line for line in result["ledger"] if line["lost"] and line["state"] == "died"]
        died = [f"{line['node']} died while it drained: {line['lost']} tasks are lost, {line['duplicates']} had begun and will "
                f"be run again, {line['returned']} go back into the queue" for line in result["ledger"] if line["state"] == "died"]
        self.say([*result["notes"], *died], [])
        for line in result["ledger"]:
            if line["state"] == "killed":
                running = ledger.said(line.get("cut_short", [])) or "nobody knows what"
                self._display.warning(f"{self.host}: {line['node']} was killed, for it drained too long, while it ran {running}")
        if result["unfinished"] or lost:
            result.update(failed=True, msg="; ".join([*result["unfinished"], *died])
                          + (". Run this again to wait on" if result["unfinished"] else ""))
        return {name: value for name, value in result.items() if name not in ("known", "since", "progress")}
