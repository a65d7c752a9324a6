#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show the logs of a fleet's nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: logs
short_description: Show the logs of a fleet's nodes
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Merges the results of M(workfleet.core.worker_logs) of all hosts by time, and prints the entries or writes a file for each node.
  - The task runs on the control node only. It fails at its end where the logs of a host could not be read.
options:
  dump_dir:
    description: A directory on the control node. With it the task writes C(<dump_dir>/<host>/<unit>.log) and prints no entry.
    type: str
    default: ""
extends_documentation_fragment:
  - workfleet.core.hosts
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Show the logs
  workfleet.core.logs:
    hosts: "{{ groups.workers }}"
    register: __worker_logs
"""

RETURN = r"""#"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet.arguments.logs import ARGUMENTS


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True).fail_json(
        msg="logs works through its action plugin, on the control node: call it as workfleet.core.logs")


if __name__ == "__main__":
    main()
