"""Check what is declared for every host of a play at once, before any host is touched."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, asked, inventory, words


class ActionModule(actions.Action):
    """Runs on the control node alone."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the mistakes and warnings; fail where there is a mistake."""
        wrong = asked.problems(task_vars, self._loader)
        if wrong:
            raise AnsibleActionFail("\n".join(["No host was touched.", *(f"- {text}" for text in wrong)]))
        found: dict[str, list[str]] = {}
        warned: dict[str, list[str]] = {}
        names = inventory.known()
        hosts = task_vars["ansible_play_hosts_all"]
        everywhere = {"hostvars": task_vars["hostvars"]}  # what is raw lacks it, and URLs often name another host
        # All of the inventory, whatever --limit says: some mistakes only all hosts together show.
        fleet = [inventory.Host(name, {**task_vars["hostvars"].raw_get(name), **everywhere}, self._templar)
                 for name in dict.fromkeys([*hosts, *task_vars["groups"]["all"]])]
        ordered = sorted(fleet, key=lambda host: task_vars["groups"]["all"].index(host.name))
        for host in fleet[:len(hosts)]:
            for text in inventory.problems(host):
                found.setdefault(text, []).append(host.name)
            for text in inventory.warnings(host, names):
                warned.setdefault(text, []).append(host.name)
        found.update(inventory.across(fleet))
        found.update((text, []) for text in inventory.placeless(fleet))
        warned.update((text, []) for text in inventory.lonely(fleet))
        for text, where in warned.items():
            self._display.warning(f"{named(where, hosts)}: {text}" if where else text)
        absent = [host.name for host in fleet[:len(hosts)] if host.is_absent]
        if values["present"] and absent:
            found.setdefault("app_state: absent: site.yml takes this app away; nothing of it is deployed or started", []).extend(absent)
        if found:
            count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
            lines = [f"- {named(where, hosts)}: {text}" if where else f"- {text}" for text, where in found.items()]
            # No more than that: Ansible prints a failed result whole, below the message.
            return {"changed": False, "failed": True, "msg": "\n".join([f"The inventory has {count}; no host was touched.", *lines])}
        own = fleet
        if words.are_given(task_vars["hostvars"]):
            without = words.raw(task_vars["hostvars"], [host.name for host in fleet])
            own = [inventory.Host(host.name, without[host.name], self._templar) for host in fleet]
        words.keep(own, fleet)
        return {"changed": False, "problems": [], "warned": list(warned), "placement": inventory.placement(ordered),
                "declared": inventory.declared_nodes(ordered), "absent": absent}


def named(where: list[str], hosts: list[str]) -> str:
    """Return hosts as a person would say them."""
    if len(where) == len(hosts) > 1:
        return "all hosts"
    return ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else "")
