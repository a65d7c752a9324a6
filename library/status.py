#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action ``status``, which runs on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: status
short_description: Print the fleet's status and write it as JSON
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Puts together what M(workfleet.core.worker_info) told on every host.
  - Prints a table that fits the terminal, problems last, and writes the status JSON.
  - Runs on the control node alone.
options:
  app:
    description: The app's name.
    type: str
    required: true
  hosts:
    description: The hosts whose results are put together. Those that were not reached are listed as such.
    type: list
    elements: str
    required: true
  register:
    description: The name under which the hosts' results are registered.
    type: str
    required: true
  json:
    description: A file on the control node for the status JSON.
    type: str
    default: ""
  strict:
    description: Whether a problem fails the task.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Changes nothing on hosts in any mode.
"""

EXAMPLES = r"""
- name: Show the fleet
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


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec={}, supports_check_mode=True).fail_json(
        msg="status works through its action plugin, on the control node: call it as workfleet.core.status")


if __name__ == "__main__":
    main()
