"""Say what a deploy did."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet.nodes import ledger, plan
from ansible_collections.workfleet.core.plugins.plugin_utils import actions
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ActionModule(actions.Action):
    """Runs on the control node alone."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Show it in a line, and return it."""
        told = report(values["app"], values["release"], values["previous"], bare(values["done"]), time.time() - values["began"])
        self._display.display(f"  {told['text']}", color="green")
        return {"changed": False, "report": told}


def report(app: str, release: str, previous: Iterable[str], done: Iterable[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """Return what was done, and the line that says so. Of a node that is told of by two tasks the later one tells more."""
    results = list(done)
    steps = [step for result in results for step in result["steps"] if step["group"]]
    gone = {(step["host"], f"{app}.{step['group']}.{step['slot']}.{step['incarnation']}") for step in steps if step["action"] == "stop"}
    # What an earlier run has told to go may still be among them.
    lines = {line["node"]: line for result in results for line in result["ledger"] if (result["host"], line["node"].split("@")[0]) in gone}
    before = sorted(set(previous))
    replaced = sum(step["action"] == "stop" and step["reason"] == plan.REPLACED for step in steps)
    started = sum(step["action"] == "start" for step in steps)
    hosts = len({step["host"] for step in steps if step["action"] in ("start", "stop")})
    told = {"from": before, "to": release, "started": started, "replaced": replaced, "hosts": hosts, "seconds": round(seconds, 1)}
    if before == [release] and not (started or replaced):
        return {**told, "text": f"{app}: release {release} is already current, and its nodes run: nothing was to do"}
    what = f"release {release} stays" if before == [release] else f"from release {' and '.join(before) or 'none'} to {release}"
    parts = [f"{app}: {what}", f"{counted(replaced, 'node')} replaced, {started} started on {counted(hosts, 'host')} in {seconds:.0f} s"]
    if lines:
        parts.append(ledger.short(list(lines.values())))
    if any(line["state"] == "draining" for line in lines.values()):
        parts.append("what becomes of the tasks of those that drain is told by the next run")
    return {**told, "text": "; ".join(parts)}


def counted(number: int, word: str) -> str:
    """Return ``1 node`` or ``n nodes``."""
    return f"{number} {word}{'' if number == 1 else 's'}"
