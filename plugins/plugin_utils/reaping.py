"""What the hosts of an app told of its processes, put together for whoever has to know that none was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail

if TYPE_CHECKING:
    from collections.abc import Mapping


def processes(hosts: list[str], register: str, variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the nodes that have a process on one of the hosts, by their names on the broker; a host that did not tell fails the task."""
    found = {}
    for host in hosts:
        told = variables["hostvars"].get(host, {}).get(register) or {}
        if "processes" not in told:
            why = str(told.get("msg") or "it was not looked at: leave --limit out")
            raise AnsibleActionFail(f"{host}: {why}. A worker may run there, so nothing was returned")
        unread = [f"{node['unit']}: {node['reason']}" for node in told["nodes"] if node["state"] == "unknown"]
        if unread:
            raise AnsibleActionFail(f"{host}: {'; '.join(unread)}. It may be at work, so nothing was returned")
        found.update({f"{entry['unit'].partition('.')[2]}@{host}": entry for entry in told["processes"]})
    return found
