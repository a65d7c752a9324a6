"""Find out on the control node what is to be scaled and where, have the broker asked, and say what was decided."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.scaling import totals
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, ourselves
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare

if TYPE_CHECKING:
    from ansible_collections.workfleet.core.plugins.module_utils.workfleet.model import Declaration, Group


class ActionModule(actions.Action):
    """The control node's half of ``worker_scale``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result with the counts for this host."""
        host = str(task_vars["inventory_hostname"])
        declared = actions.declaration(values, host)
        placement = dict(bare(values["placement"]).get(declared.app.name, {}))
        first = host == task_vars["ansible_play_hosts"][0]
        by_hand = values["set"]
        if by_hand:
            chosen, nodes, control = self.wish(declared, placement)
            if chosen is not None and chosen.autoscale is None:
                counts = {chosen.name: {"nodes": None if nodes == "inventory" else nodes, "by": whom()}}
                return {"changed": False, "groups": [], "counts": counts}
            groups = [] if chosen is None else [chosen]
        else:
            only, nodes, control = actions.only(values), "", ""
            groups = [group for group in declared.groups if group.autoscale is not None and group.state == "started"
                      and (only is None or group.name in only)]
            if not groups and first:
                self._display.display(f"  {host}: no worker group has autoscale: nothing to evaluate")
        if not groups:
            return {"changed": False, "groups": [], "counts": {}}
        result = self.module(totals.Request(
            app=declared.app.name, root=declared.app.root, host=host, nodes=nodes, control=control,
            broker_url=declared.app.broker_url, broker_options=dict(declared.app.broker_options),
            groups=[totals.Group(group.name, group.engine, list(group.queues), group.autoscale, placement[group.name])
                    for group in groups if group.autoscale],
            # The task's own name with it: a second evaluation in the same process is another one.
            run=f"{socket.gethostname()}.{os.getppid()}.{self._task._uuid}", by=whom() if by_hand else "the autoscaler"))
        told = result.get("groups", [])
        result["counts"] = {
            entry["group"]: {"nodes": entry["here"], "by": entry["by"], "follows": not by_hand} for entry in told
            if entry["here"] is not None or nodes == "inventory"}
        for entry in told:
            # In check mode nothing is stored, and every host evaluates; a host without a broker says so itself.
            if entry["nodes"] is None or (entry["evaluated"] and (first or not self._task.check_mode)):
                self._display.display(f"  {sentence(entry)}", color="yellow" if entry["held"] else None)
        return result

    def wish(self, declared: Declaration, placement: dict[str, Any]) -> tuple[Group | None, int | str, str]:
        """Return the group (None where this host does not have it), the number and the control that are asked for, or fail."""
        name, control = self.values["group"], self.values["control"]
        if name not in placement:
            what = f"group = {name!r}: no such worker group" if name else "which worker group? Give -e group=NAME"
            raise AnsibleActionFail(f"{what}; known are {', '.join(placement) or 'none'}")
        chosen = next((group for group in declared.groups if group.name == name), None)
        policy = chosen.autoscale if chosen else None
        if control and chosen and policy is None:
            raise AnsibleActionFail(f"control = {control}: the group {name} has no autoscale that could be {control}d")
        nodes = count(self.values["nodes"])
        if nodes == "" and not control:
            raise AnsibleActionFail("how many nodes? Give -e nodes=N (or nodes=inventory, or control=pause or resume)")
        if policy is not None and isinstance(nodes, int) and nodes != policy.clamp(nodes):
            raise AnsibleActionFail(f"nodes = {nodes}: autoscale of the group {name} has bounds, {policy.min} to {policy.max} over all "
                                    "hosts; change them in the inventory, or choose a number between")
        return chosen, nodes, control


def count(text: str) -> int | str:
    """Return a number of nodes, ``inventory``, or an empty text where nothing is given."""
    if text in ("", "inventory"):
        return text
    if not text.isascii() or not text.isdigit():
        raise AnsibleActionFail(f"nodes = {text!r}: must be a whole number, 0 or more, or inventory")
    return int(text)


def whom() -> str:
    """Return who sets a number by hand."""
    return f"{ourselves.user()} on {socket.gethostname()}"


def sentence(entry: dict[str, Any]) -> str:
    """Say what was decided of a group."""
    if entry["nodes"] is None:
        return f"{entry['group']}: {entry['reason']}"
    moved = "" if entry["before"] in (None, entry["nodes"]) else f"{entry['before']} → "
    return f"{entry['group']}: {moved}{entry['nodes']} {'node' if entry['nodes'] == 1 else 'nodes'}: {entry['reason']}"
