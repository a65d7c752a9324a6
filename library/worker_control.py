#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Control running worker nodes without a restart."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_control
short_description: Control running worker nodes without a restart
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Sends a control to the running nodes of one group on one host. Celery has all of the controls, arq and Chicory have none.
  - The effect of a control ends when the node is started again.
  - An unknown control and wrong arguments are refused before anything is sent.
options:
  group:
    description: The name of the worker group.
    type: str
    required: true
  control:
    description:
      - V(add_consumer) and V(cancel_consumer) take C(queue).
      - V(pool_grow) and V(pool_shrink) take C(processes), by default 1.
      - V(autoscale) takes C(autoscale_max) and C(autoscale_min), for nodes that were started with C(options.autoscale).
      - V(rate_limit) takes C(task_name) and C(rate_limit), such as C(10/m). The limit 0 lifts it.
      - V(time_limit) takes C(task_name), C(time_limit) and optionally C(soft_time_limit), in seconds.
      - V(revoke) takes C(task_id) and optionally C(terminate), which kills the running task, and C(signal).
    type: str
    required: true
  arguments:
    description: The arguments of the control. An argument that is an empty text is ignored.
    type: dict
    default: {}
  timeout:
    description: The time in seconds to wait for the answers of nodes.
    type: float
    default: 5.0
  placement:
    description: The hosts of each worker group, as M(workfleet.core.validate) returns them. A host may lack O(group) where another host
      has it.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: The task lists the nodes that would get the control. A node's refusal cannot be predicted.
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.run_directory
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Let the nodes of reports consume another queue
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
  description: The nodes that obeyed or, in check mode, would get the control.
  type: list
  elements: dict
  returned: always
nodes:
  description: The answer of each node. C(error) is null where the node obeyed.
  type: list
  elements: dict
  returned: always
  sample: [{"node": "shop.reports.1.1@web1", "answered": true, "error": null}]
notes:
  description: Notices for people.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import managers, payload
from ..module_utils.workfleet.arguments.worker_control import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.nodes import control as live
from ..module_utils.workfleet.nodes.host_nodes import HostNodes
from ..module_utils.workfleet.nodes.request import Request


def main() -> None:
    """Parse, observe, tell, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
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
