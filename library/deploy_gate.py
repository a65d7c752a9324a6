#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action ``deploy_gate``, which runs on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deploy_gate
short_description: Judge whether a deploy may go on
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Puts together what M(workfleet.core.deploy_check) told on every host, shows all findings, and fails where one of them refuses.
  - Before the build these are a full disk, a broker that is not reached or throws tasks away, clocks that differ, and more tasks at
    once than the database has connections.
  - With a release that is built they are a release that cannot be imported, tasks that wait, or that nodes have run, which it does not
    register, a visibility timeout that is shorter than the longest task limit, and queues that nobody consumes.
  - Runs on the control node alone.
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
  built:
    description: Whether the release is built.
    type: bool
    required: true
  database_connections:
    description: As C(app_database_connections).
    type: int
  allow_unregistered:
    description: Warn only, where tasks wait, or have been run, that the release does not register.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Go on only with a release that knows the waiting tasks
  workfleet.core.deploy_gate:
    hosts: "{{ ansible_play_hosts_all }}"
    register: looked
    built: true
  run_once: true
"""

RETURN = r"""
findings:
  description: What was found.
  type: list
  elements: dict
  returned: always
  contains:
    what:
      description: What is wrong.
      type: str
    where:
      description: On which hosts; none means the fleet.
      type: list
      elements: str
    todo:
      description: What to do about it.
      type: str
    refuses:
      description: Whether it refuses the deploy.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec={}, supports_check_mode=True).fail_json(
        msg="deploy_gate works through its action plugin, on the control node: call it as workfleet.core.deploy_gate")


if __name__ == "__main__":
    main()
