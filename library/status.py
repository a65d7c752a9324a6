#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print the status of a fleet and write it as JSON."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: status
short_description: Print the status of a fleet and write it as JSON
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Combines the results of M(workfleet.core.worker_info) of all hosts.
  - Prints a table that fits the terminal, with the problems at its end, and writes the status JSON.
  - The task runs on the control node only.
options:
  app:
    description: The name of the app.
    type: str
    required: true
  hosts:
    description: The hosts whose results the task reads. A host that was not reached is listed as such.
    type: list
    elements: str
    required: true
  json:
    description: A file on the control node for the status JSON.
    type: str
    default: ""
  strict:
    description: Whether the task fails where there is a problem.
    type: bool
    default: false
extends_documentation_fragment:
  - workfleet.core.hosts
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Show the status of the fleet
  workfleet.core.status:
    app: shop
    hosts: "{{ groups.workers }}"
    register: __worker_info
"""

RETURN = r"""
status:
  description: The status JSON.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet.arguments.status import ARGUMENTS


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True).fail_json(
        msg="status works through its action plugin, on the control node: call it as workfleet.core.status")


if __name__ == "__main__":
    main()
