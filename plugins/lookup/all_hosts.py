# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host pattern of the play that checks the inventory: Ansible skips a play without a host, and the check with it."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: all_hosts
short_description: Pattern of all hosts, for an inventory that has one
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Returns the pattern V(all), for the C(hosts) of a play. The lookup fails where the inventory has no host, such as after a mistyped
    C(-i), and where the check of the inventory would be skipped.
options: {}
"""

EXAMPLES = r"""
- name: Check the inventory
  hosts: "{{ query('workfleet.core.all_hosts') }}"
  tags: always
  tasks:
    - name: Check the declarations of all hosts
      workfleet.core.validate:
"""

RETURN = r"""
_raw:
  description: V(all).
  type: list
  elements: str
"""

from typing import Any

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase


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
