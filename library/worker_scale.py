#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide how many nodes worker groups should have, by their policies or by hand."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_scale
short_description: Decide how many nodes worker groups should have
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Evaluates the C(autoscale) of each worker group once, by the backlog and ages that the broker tells, or takes a number that was
    set by hand.
  - The wanted totals and what they were decided from are kept in the broker, under C(workfleet:<app>:scale:<group>). Of many hosts
    that ask in one run of a playbook the first evaluates, and the others get its decision.
  - Starts and stops nothing. RV(counts) is what M(workfleet.core.worker_nodes) takes as O(workfleet.core.worker_nodes#module:scale).
  - Where the broker or a figure is missing the number of nodes is left as it is, and RV(groups) says so.
options:
  app:
    description: The values that nodes share, the C(app_*) variables without their prefix.
    type: dict
    required: true
  groups:
    description: The worker groups, as in C(worker_groups).
    type: list
    elements: dict
    default: []
  manager:
    description: The process manager.
    type: str
    choices: [systemd, supervisor]
    default: systemd
  parts:
    description: What of the app's processes the host is to have, as in M(workfleet.core.worker_nodes).
    type: list
    elements: str
    default: []
  only:
    description: Names of worker groups with commas between them.
    type: str
    default: ""
  placement:
    description: Which hosts have which groups, as M(workfleet.core.validate) returns it.
    type: dict
    required: true
  set:
    description: Whether O(group), O(nodes) and O(control) are taken, by hand; otherwise the policies are evaluated.
    type: bool
    default: false
  group:
    description: The worker group that is set.
    type: str
    default: ""
  nodes:
    description: How many nodes the group is to have. For a group with C(autoscale) a total over all hosts, within its bounds; for any
      other on each host. V(inventory) means as the inventory has it.
    type: str
    default: ""
  control:
    description: Whether the group's policy is to be left out of account, V(pause), or obeyed again, V(resume).
    type: str
    choices: ["", pause, resume]
    default: ""
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Decides and stores nothing.
  diff_mode:
    support: none
    description: It changes no file of a host.
"""

EXAMPLES = r"""
- name: Evaluate every policy
  workfleet.core.worker_scale:
    app:
      name: shop
      root: /opt/shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    placement: "{{ validated.placement }}"
  register: scaled
"""

RETURN = r"""
groups:
  description: One entry a group. C(nodes) and C(before) are totals, C(here) is the share of this host, null where it keeps what it has.
  type: list
  elements: dict
  returned: always
  sample:
    - {"group": "reports", "nodes": 5, "before": 2, "here": 3, "reason": "47 tasks, 10 a node", "held": false, "by": "the autoscaler",
       "evaluated": true}
counts:
  description: The new counts of this host, by the name of the group.
  type: dict
  returned: always
  sample: {"reports": {"nodes": 3, "by": "the autoscaler"}}
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import fleet_scale, payload
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Parse, look, decide, store, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        request = fleet_scale.Request.parse(payload.unpack(module.params["payload"], "worker_scale"))
        found = fleet_scale.work(request, check=module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=any(told.evaluated and told.nodes != told.before for told in found), groups=[asdict(told) for told in found])


if __name__ == "__main__":
    main()
