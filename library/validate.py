#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check the declaration of every host before any host is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: validate
short_description: Check the declaration of every host before any host is touched
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Checks the variables of the roles C(app), C(worker), C(redis) and C(postgresql) of all hosts of the play, and reports all mistakes at
    once.
  - The task runs on the control node only and opens no connection. Values that may be secret are never shown.
options:
  present:
    description: Whether an app that is declared absent is refused. Playbooks that start something set it.
    type: bool
    default: false
extends_documentation_fragment:
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Check the inventory
  workfleet.core.validate:
  run_once: true
"""

RETURN = r"""
problems:
  description: An empty list. Where there are mistakes the task fails, and its message has a line for each.
  type: list
  elements: str
  returned: success
warned:
  description: A sentence for each declaration that is valid and risky.
  type: list
  elements: str
  returned: success
absent:
  description: The hosts whose app is declared absent.
  type: list
  elements: str
  returned: success
placement:
  description: The hosts of each worker group of each app, in the order of the inventory, each with its number of declared nodes.
  type: dict
  returned: success
  sample: {"shop": {"reports": {"web1": 2, "web2": 2}}}
declared:
  description: The number of declared nodes of each worker group, of the scheduler and of the dashboard, by host.
  type: dict
  returned: success
  sample: {"web1": {"reports": 2}, "web2": {"reports": 2, "scheduler": 1}}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet.arguments.validate import ARGUMENTS


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True).fail_json(
        msg="validate works through its action plugin, on the control node: call it as workfleet.core.validate")


if __name__ == "__main__":
    main()
