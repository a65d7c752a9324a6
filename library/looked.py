#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say at the end of a playbook what of the inventory it has looked at."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: looked
short_description: Say what of the inventory a playbook has looked at
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Says in one line how many hosts and nodes a playbook has looked at, of how many that are declared, and why where these are not all.
  - Fails where it has looked at none, for C(--limit) leaves none, and where it went on without a host that could not be reached.
  - Runs on the control node alone.
options:
  groups:
    description: The inventory groups whose hosts the playbook is about.
    type: list
    elements: str
    required: true
  declared:
    description: The declared nodes by host and worker group, as M(workfleet.core.validate) returns them.
    type: dict
    default: {}
  only:
    description: Names of worker groups with commas between them, to which the playbook was narrowed.
    type: str
    default: ""
  broker:
    description: Whether only the broker was asked, and not each host.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Say what was looked at
  workfleet.core.looked:
    groups: [workers, scheduler, dashboard]
    declared: "{{ __validated.declared }}"
  run_once: true
"""

RETURN = r"""
looked:
  description: How many C(hosts) and C(nodes) were looked at, and how many are declared, as two numbers each.
  type: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec={}, supports_check_mode=True).fail_json(
        msg="looked works through its action plugin, on the control node: call it as workfleet.core.looked")


if __name__ == "__main__":
    main()
