"""The pattern of the play that checks the inventory: a play without a host is no failure to Ansible, and the check would not run."""

from __future__ import annotations

from typing import Any

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: all_hosts
short_description: All hosts of the inventory, of which there must be one
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Returns the pattern V(all), for the C(hosts) of a play. Fails where the inventory has no host, as with a mistyped C(-i), and where
    the check of the inventory is to be skipped.
options: {}
"""

EXAMPLES = """
- name: Check the inventory
  hosts: "{{ query('workfleet.core.all_hosts') }}"
  tags: always
  tasks:
    - name: Check what is declared for all hosts
      workfleet.core.validate:
"""

RETURN = """
_raw:
  description: V(all).
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    """Looks at what Ansible knows before the first play."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the pattern, or say why there is nothing to look at."""
        known = variables or {}
        if not context.CLIARGS.get("syntax") and not (known.get("groups") or {}).get("all"):
            sources = ", ".join(map(str, known.get("ansible_inventory_sources") or ())) or "none is given"
            raise AnsibleLookupError(f"no host was found in the inventory ({sources}), and nothing was touched: does what -i names exist, "
                                     "can it be read, and does it name a host?")
        for option, skips in (("--skip-tags always", "always" in context.CLIARGS.get("skip_tags", ())),
                              ("--start-at-task", context.CLIARGS.get("start_at_task"))):
            if skips:
                raise AnsibleLookupError(f"{option} would leave out the check of the inventory; nothing was touched")
        return ["all"]
