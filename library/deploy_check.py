#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the facts of a host that a deploy depends on."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deploy_check
short_description: Read the facts of a host that a deploy depends on
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Without O(release) the task reads the clock, the disk space, the processors and the broker's answer to the host.
  - With O(release) the task lists the tasks that this release registers, by the release's own Python and in the environment of the nodes,
    and the tasks that wait in the broker. It also lists the tasks of the current release, and the tasks that Celery's nodes have run.
    Messages are never unpickled. Of a long queue the first thousands of messages are read.
  - The task does not judge the facts. M(workfleet.core.deploy_gate) judges those of all hosts together.
options:
  release:
    description: The release of the deploy. An empty text means that it is not built yet.
    type: str
    default: ""
  only:
    description: Names of worker groups, separated by commas. A drain mark on a node of another group is no finding.
    type: str
    default: ""
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.parts
  - workfleet.core.app.nodes
  - workfleet.core.app.run_directory
  - workfleet.core.app.only
  - workfleet.core.payload
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Read the facts of the hosts before the build
  workfleet.core.deploy_check:
    app:
      name: shop
      root: /opt/shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
  register: looked
"""

RETURN = r"""
seen:
  description: The facts. C(cpus) is always there, and C(quiesced) lists the nodes with a drain mark. Without O(release) there are
    C(free_bytes), C(needed_bytes), C(broker) and C(counts), which is the number of nodes of each group after scaling. With O(release) there
    are C(groups) and C(waiting).
  type: dict
  returned: success
clock:
  description: The lower and the upper bound of the difference between the clocks of the host and of the control node, in seconds.
  type: list
  elements: float
  returned: success
nodes:
  description: For each group of this host its engine, its number of nodes, its declared concurrency, the number of new nodes that run
    beside old ones in a rollout, and the number of old nodes that may still finish tasks after the rollout.
  type: list
  elements: list
  returned: without O(release)
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import managers, payload
from ..module_utils.workfleet.arguments.deploy_check import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.nodes import consumers
from ..module_utils.workfleet.nodes.host_nodes import HostNodes
from ..module_utils.workfleet.nodes.request import Request
from ..module_utils.workfleet.release import preflight


def main() -> None:
    """Parse, look, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "deploy_check")
        asking = given.pop("asking", None)
        request = Request.parse(given)
        manager = managers.named(request.manager, request.app, request.root, request.run_directory)
        seen = preflight.look(HostNodes(request, manager), release=request.release)
        if asking and request.release is None:
            seen["strangers"] = consumers.look(asking)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, seen=seen)


if __name__ == "__main__":
    main()
