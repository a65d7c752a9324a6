#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a timer on a control host that evaluates policies again and again."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: autoscaler
short_description: Have a timer that runs autoscale.yml
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Writes a copy of what Ansible reads of the inventory, its secrets, a configuration for Ansible and two systemd units, and has the
    timer run.
  - The toolkit and an ansible-core are put below O(root) by M(workfleet.core.app_release); the role C(autoscaler) does both.
options:
  app:
    description: Name of the app whose workers are scaled.
    type: str
    required: true
  name:
    description: Name of the units.
    type: str
    required: true
  user:
    description: Account that runs it, and its group.
    type: str
    required: true
  root:
    description: Its directory.
    type: str
    required: true
  state:
    description: V(stopped) keeps everything but does not run it, V(absent) removes the units and all secrets.
    type: str
    choices: [started, stopped, absent]
    default: started
  interval_seconds:
    description: Pause between the end of one evaluation and the next.
    type: int
    default: 30
  dry_run:
    description: Whether it only tells what it would do.
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
    description: Private ssh key.
    type: str
    default: ""
  known_hosts:
    description: Lines of C(known_hosts).
    type: str
    default: ""
  vault_password:
    description: Password of the inventory's vault.
    type: str
    default: ""
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: The same path without the last step. It predicts the steps of the real run.
  diff_mode:
    support: full
    description: Of files that may hold secrets it says only that they change.
"""

EXAMPLES = r"""
- name: Have the timer
  workfleet.core.autoscaler:
    app: shop
    name: shop-autoscaler
    user: shop-autoscaler
    root: /opt/shop-autoscaler
    inventory: "{{ ansible_inventory_sources }}"
"""

RETURN = r"""
steps:
  description: What was done, or would be done, in the order of execution.
  type: list
  elements: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import autoscaler, payload, system
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.steps import Step, report


def main() -> None:
    """Parse, observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
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
