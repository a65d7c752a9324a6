#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run autoscale.yml by a timer on a control host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: autoscaler
short_description: Run autoscale.yml by a timer on a control host
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Writes a copy of what Ansible reads of the inventory, its secrets, a configuration of Ansible and two systemd units, and starts
    the timer.
  - The role C(autoscaler) installs the toolkit and an ansible-core below O(root) by M(workfleet.core.app_release) before.
options:
  app:
    description: The name of the app whose workers are scaled.
    type: str
    required: true
  name:
    description: The name of the units.
    type: str
    required: true
  user:
    description: The account of the autoscaler, and its group.
    type: str
    required: true
  root:
    description: The directory of the autoscaler.
    type: str
    required: true
  state:
    description: V(stopped) keeps all files and does not run the timer. V(absent) removes the units and all secrets.
    type: str
    choices: [started, stopped, absent]
    default: started
  interval_seconds:
    description: The pause in seconds between the end of an evaluation and the next one.
    type: int
    default: 30
  dry_run:
    description: Whether an evaluation only reports its decision.
    type: bool
    default: false
  inventory:
    description:
      - Sources of the inventory on the control node, as C(-i) names them. They are copied with the C(group_vars) and C(host_vars)
        beside them.
      - A program is copied only where it is named itself; a directory that holds one is refused.
    type: list
    elements: path
    required: true
  secret_key:
    description: The private ssh key.
    type: str
    default: ""
  known_hosts:
    description: The lines of C(known_hosts).
    type: str
    default: ""
  vault_password:
    description: The password of the inventory's vault.
    type: str
    default: ""
extends_documentation_fragment:
  - workfleet.core.payload
  - workfleet.core.attributes.steps
"""

EXAMPLES = r"""
- name: Install the timer
  workfleet.core.autoscaler:
    app: shop
    name: shop-autoscaler
    user: shop-autoscaler
    root: /opt/shop-autoscaler
    inventory: "{{ ansible_inventory_sources }}"
"""

RETURN = r"""
steps:
  description: The steps in their order, taken or, in check mode, predicted.
  type: list
  elements: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.autoscaler import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.host import system
from ..module_utils.workfleet.host.steps import Step, report
from ..module_utils.workfleet.scaling import timer as autoscaler


def main() -> None:
    """Parse, observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    done: list[Step] = []
    try:
        request = autoscaler.Request.parse(payload.unpack(module.params["payload"], "autoscaler"))
        system.here()
        planned = autoscaler.plan(request)
        for change in planned:
            if not module.check_mode:
                change.carry_out()
            done.append(change.step)
        if not module.check_mode:
            autoscaler.prove(request, changed=bool(planned))
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **{"steps": report(done, None), **error.details})
    module.exit_json(changed=bool(planned), steps=report(done, None), diff=[change.diff for change in planned if change.diff])


if __name__ == "__main__":
    main()
