#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action ``logs``, which runs on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: logs
short_description: Show what the fleet's workers wrote
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Puts together what M(workfleet.core.worker_logs) told on every host, by time, and prints it or writes a file for each node.
  - Runs on the control node alone. Fails, after all else was shown, where a host could not be read.
options:
  hosts:
    description: The hosts whose results are put together.
    type: list
    elements: str
    required: true
  register:
    description: The name under which the hosts' results are registered.
    type: str
    required: true
  dump_dir:
    description: A directory on the control node. With it nothing is printed, and C(<dump_dir>/<host>/<unit>.log) written instead.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Changes nothing on hosts in any mode.
"""

EXAMPLES = r"""
- name: Show the logs
  workfleet.core.logs:
    hosts: "{{ groups.workers }}"
    register: __worker_logs
"""

RETURN = r"""#"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec={}, supports_check_mode=True).fail_json(
        msg="logs works through its action plugin, on the control node: call it as workfleet.core.logs")


if __name__ == "__main__":
    main()
