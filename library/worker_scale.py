#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide the number of nodes of worker groups."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_scale
short_description: Decide the number of nodes of worker groups
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Evaluates the C(autoscale) of each worker group once, by the backlog and the ages in the broker, or takes a number that was set by hand.
  - The decided totals and their figures are stored in the broker, under C(workfleet:<app>:scale:<group>). In a run on many hosts the first
    host evaluates, and the others read its decision.
  - The task neither starts nor stops nodes. RV(counts) is the O(workfleet.core.worker_nodes#module:scale) of
    M(workfleet.core.worker_nodes).
  - Where the broker or a figure is missing, the number of nodes stays, and RV(groups) has the reason.
options:
  placement:
    description: The hosts of each worker group, as M(workfleet.core.validate) returns them.
    type: dict
    required: true
  set:
    description: Whether O(group), O(nodes) and O(control) are set by hand. Otherwise the policies are evaluated.
    type: bool
    default: false
  group:
    description: The name of the worker group, for O(set).
    type: str
    default: ""
  nodes:
    description: The number of nodes of the group. For a group with C(autoscale) it is a total over all hosts within its bounds, and for any
      other group the number on each host. V(inventory) means the declared number.
    type: str
    default: ""
  control:
    description: V(pause) suspends the policy of the group, and V(resume) ends that.
    type: str
    choices: ["", pause, resume]
    default: ""
attributes:
  check_mode:
    support: full
    description: The task decides and stores nothing.
  diff_mode:
    support: none
    description: The task changes no file of a host.
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.parts
  - workfleet.core.app.only
  - workfleet.core.payload
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
  description: An entry for each group. C(nodes) and C(before) are totals. C(here) is the share of this host, null where it stays as it is.
  type: list
  elements: dict
  returned: always
  sample:
    - {"group": "reports", "nodes": 5, "before": 2, "here": 3, "reason": "47 tasks, 10 a node", "held": false, "by": "the autoscaler",
       "evaluated": true}
counts:
  description: The new numbers of nodes of this host, by the name of the group.
  type: dict
  returned: always
  sample: {"reports": {"nodes": 3, "by": "the autoscaler"}}
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.worker_scale import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.scaling import totals as fleet_scale


def main() -> None:
    """Parse, look, decide, store, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        request = fleet_scale.Request.parse(payload.unpack(module.params["payload"], "worker_scale"))
        found = fleet_scale.work(request, check=module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=any(told.evaluated and told.nodes != told.before for told in found), groups=[asdict(told) for told in found])


if __name__ == "__main__":
    main()
