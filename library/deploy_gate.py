#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide whether a deploy may go on."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deploy_gate
short_description: Decide whether a deploy may go on
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Judges the results of M(workfleet.core.deploy_check) of all hosts, shows all findings, and fails where one of them refuses the deploy.
  - Findings before the build are a full disk, a broker that is unreachable or evicts keys, clocks that differ, and more concurrent tasks
    than the database has connections.
  - Findings after the build are a release that cannot be imported, a task that waits or has been run and that the release does not
    register, a visibility timeout below the longest task limit, and a queue without a consumer.
  - The task runs on the control node only.
options:
  built:
    description: Whether the release is built.
    type: bool
    required: true
  database_connections:
    description: The number of connections of the database, as C(app_database_connections).
    type: int
  allow_unregistered:
    description: Whether tasks that the release does not register cause a warning in place of a refusal.
    type: bool
    default: false
extends_documentation_fragment:
  - workfleet.core.hosts
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Refuse a release that does not register the waiting tasks
  workfleet.core.deploy_gate:
    hosts: "{{ ansible_play_hosts_all }}"
    register: looked
    built: true
  run_once: true
"""

RETURN = r"""
findings:
  description: The findings.
  type: list
  elements: dict
  returned: always
  contains:
    what:
      description: The fault.
      type: str
    where:
      description: The hosts of the finding. An empty list means the fleet.
      type: list
      elements: str
    todo:
      description: The remedy.
      type: str
    refuses:
      description: Whether the finding refuses the deploy.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet.arguments.deploy_gate import ARGUMENTS


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True).fail_json(
        msg="deploy_gate works through its action plugin, on the control node: call it as workfleet.core.deploy_gate")


if __name__ == "__main__":
    main()
