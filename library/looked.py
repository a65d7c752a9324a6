#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Report the hosts and nodes that a playbook covered."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: looked
short_description: Report the hosts and nodes that a playbook covered
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Reports in one line the number of hosts and nodes that a playbook covered and the number that is declared, with the reason of a
    difference.
  - The task fails where C(--limit) leaves no host, and where the playbook went on without a host that could not be reached.
  - The task runs on the control node only.
options:
  groups:
    description: The inventory groups of the playbook's hosts.
    type: list
    elements: str
    required: true
  declared:
    description: The number of declared nodes by host and worker group, as M(workfleet.core.validate) returns it.
    type: dict
    default: {}
  only:
    description: Names of worker groups, separated by commas, to which the playbook was narrowed.
    type: str
    default: ""
  broker:
    description: Whether the playbook asked the broker only, and not each host.
    type: bool
    default: false
extends_documentation_fragment:
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Report the coverage
  workfleet.core.looked:
    groups: [workers, scheduler, dashboard]
    declared: "{{ __validated.declared }}"
  run_once: true
"""

RETURN = r"""
looked:
  description: The number of C(hosts) and C(nodes), each as a pair of the covered and the declared ones.
  type: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet.arguments.looked import ARGUMENTS


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True).fail_json(
        msg="looked works through its action plugin, on the control node: call it as workfleet.core.looked")


if __name__ == "__main__":
    main()
