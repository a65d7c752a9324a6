"""Say at the end of a playbook what of the inventory it has looked at; fail where that is nothing, or less than was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import workers as spec
from ansible_collections.workfleet.core.plugins.plugin_utils import actions

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_NAMED = 5


class ActionModule(actions.Action):
    """Runs on the control node alone."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Count, say it, and judge."""
        declared, only = values["declared"], spec.selected(values["only"])
        hosts = list(dict.fromkeys(str(host) for group in values["groups"] for host in task_vars["groups"].get(group, ())))
        within = [host for host in hosts if host in task_vars["ansible_play_hosts_all"]]
        passed = [host for host in within if is_passed_over(task_vars["hostvars"].raw_get(host))]
        looked = [host for host in within if host in task_vars["ansible_play_hosts"] and host not in passed]

        def nodes(of: list[str]) -> int:
            return sum(count for host in of for group, count in declared.get(host, {}).items() if only is None or group in only)

        found = {"hosts": [len(looked), len(hosts)], "nodes": [nodes(looked), nodes(hosts)]}
        what = "{hosts[0]} of {hosts[1]} hosts, {nodes[0]} of {nodes[1]} nodes".format(**found)
        limit, tags = task_vars.get("ansible_limit"), [tag for tag in task_vars.get("ansible_run_tags") or () if tag != "all"]
        why = [f"{option} {value}" for option, value in (("--limit", limit), ("worker_only", values["only"]), ("--tags", ",".join(tags)))
               if value]
        missing = [host for host in within if host not in looked]
        if missing:
            why.append(f"not {named(missing)}")
        because = f" ({'; '.join(why)})" if why else ""
        told = "asked the broker, for" if values["broker"] else "looked at"
        self._display.display(f"  {told} {what}{because}", color=None if looked == hosts else "yellow")
        if hosts and not within:
            raise WorkfleetError(f"nothing was looked at: --limit {limit} leaves no host of {', '.join(values['groups'])}", looked=found)
        if passed:
            raise WorkfleetError(f"{len(passed)} of {len(hosts)} hosts could not be looked at: {named(passed)}", looked=found)
        return {"changed": False, "looked": found}


def is_passed_over(known: Mapping[str, Any]) -> bool:
    """Whether a task of ours could not reach a host, and the playbook went on all the same."""
    return any(name.startswith("__worker_") and isinstance(value, dict) and value.get("unreachable") for name, value in known.items())


def named(hosts: list[str]) -> str:
    """Return hosts as a person would say them."""
    return ", ".join(hosts[:MOST_NAMED]) + (f" and {len(hosts) - MOST_NAMED} more" if len(hosts) > MOST_NAMED else "")
