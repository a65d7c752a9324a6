#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Control running worker nodes without a restart."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_control
short_description: Control running worker nodes without a restart
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Tells the running nodes of one group on one host to do something at once, where their engine can. Celery has all of these controls;
    arq and Chicory have none.
  - What is changed so is lost when a node is started again.
  - The action plugin of the same name refuses an unknown control and wrong arguments before anything is sent.
options:
  group:
    description: Name of the worker group.
    type: str
    required: true
  control:
    description:
      - V(add_consumer), V(cancel_consumer) take C(queue).
      - V(pool_grow), V(pool_shrink) take C(processes), 1 without it.
      - V(autoscale) takes C(autoscale_max) and C(autoscale_min), for nodes that were started with C(options.autoscale).
      - V(rate_limit) takes C(task_name) and C(rate_limit), such as C(10/m); 0 lifts it.
      - V(time_limit) takes C(task_name), C(time_limit) and, if wanted, C(soft_time_limit), in seconds.
      - V(revoke) takes C(task_id) and, if wanted, C(terminate) (kill it where it runs) and C(signal).
    type: str
    required: true
  arguments:
    description: The control's arguments. An empty text counts as not given.
    type: dict
    default: {}
  timeout:
    description: Seconds to wait for the answer of nodes.
    type: float
    default: 5.0
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
  run_directory:
    description: Where run records and the manager's socket are. Empty means C(/run/workfleet/<app>).
    type: str
    default: ""
  placement:
    description: Which hosts have which groups, as M(workfleet.core.validate) returns it. A host need not have O(group) where another one
      has it.
    type: dict
    default: {}
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Names the nodes that would be told. Whether they would refuse is not known before.
"""

EXAMPLES = r"""
- name: Let the nodes of reports help out with another queue
  workfleet.core.worker_control:
    app:
      name: shop
      root: /opt/shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    group: reports
    control: add_consumer
    arguments: {queue: default}
"""

RETURN = r"""
steps:
  description: The nodes that did it, or would be told.
  type: list
  elements: dict
  returned: always
nodes:
  description: What each node answered; C(error) is null where it did it.
  type: list
  elements: dict
  returned: always
  sample: [{"node": "shop.reports.1.1@web1", "answered": true, "error": null}]
notes:
  description: Sentences for people.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import live, managers, payload
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.nodes.host_nodes import HostNodes
from ..module_utils.workfleet.nodes.request import Request


def main() -> None:
    """Parse, observe, tell, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "worker_control")
        order = live.Order(**given.pop("order"))
        request = Request.parse(given)
        manager = managers.named(request.manager, request.app, request.root, request.run_directory)
        result = live.control(HostNodes(request, manager), order, check=module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
