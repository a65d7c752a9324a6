#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action ``validate``, which runs on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: validate
short_description: Check what is declared for every host before any host is touched
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Checks the variables of the roles C(app), C(worker), C(redis) and C(postgresql) of all hosts of the play, and reports
    every mistake at once.
  - Runs on the control node alone and opens no connection. Values that may be secret are never shown.
options:
  present:
    description: Refuse apps that are declared absent. Playbooks that start something set it.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Check the inventory
  workfleet.core.validate:
  run_once: true
"""

RETURN = r"""
problems:
  description: Always empty; where there are mistakes the task fails, and its message has a line for each.
  type: list
  elements: str
  returned: success
warned:
  description: What will probably hurt, as sentences.
  type: list
  elements: str
  returned: success
absent:
  description: The hosts whose app is declared absent.
  type: list
  elements: str
  returned: success
placement:
  description: Which hosts have which worker groups of which app, in the inventory's order, and how many nodes they declare.
  type: dict
  returned: success
  sample: {"shop": {"reports": {"web1": 2, "web2": 2}}}
declared:
  description: How many nodes of each worker group, of the scheduler and of the dashboard are declared for each host.
  type: dict
  returned: success
  sample: {"web1": {"reports": 2}, "web2": {"reports": 2, "scheduler": 1}}
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec={}, supports_check_mode=True).fail_json(
        msg="validate works through its action plugin, on the control node: call it as workfleet.core.validate")


if __name__ == "__main__":
    main()
