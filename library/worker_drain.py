#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Set or remove the drain mark of worker nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_drain
short_description: Set or remove the drain mark of worker nodes
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Sets a drain mark on the nodes of one app on one host. A node with a drain mark takes no new tasks, stays up and finishes the tasks
    that it has begun. Tasks that it had reserved go back to the queue, or are finished too.
  - The task ends as soon as all nodes are proved idle. It reports nodes that take longer than the C(drain_seconds) of their group, and
    goes on waiting. With C(drain_timeout_action) V(kill) in O(rollout) it kills them, and their manager starts them again with their drain
    mark.
  - A drain mark outlives a crash of the node and a reboot of the host.
  - The action plugin calls the module repeatedly, for a few seconds each, and shows which nodes still run tasks.
options:
  state:
    description: Whether the nodes get a drain mark (V(drained)) or lose it (V(resumed)).
    type: str
    choices: [drained, resumed]
    default: drained
  wait:
    description: Whether the task waits until the nodes are idle or consume again. Without it the ledger is empty.
    type: bool
    default: true
  rollout:
    description: The rollout settings, as in C(worker_rollout). Only C(drain_timeout_action) has an effect.
    type: dict
    default: {}
  lock_seconds:
    description: The time in seconds to wait for the lease of another run on the same nodes.
    type: int
    default: 30
attributes:
  check_mode:
    support: full
    description: The task predicts the steps of a real run, and does not wait.
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.parts
  - workfleet.core.app.run_directory
  - workfleet.core.app.only
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Drain the nodes of the reports group
  workfleet.core.worker_drain:
    app:
      name: shop
      root: /opt/shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    only: reports
"""

RETURN = r"""
steps:
  description: The nodes whose drain mark changed or, in check mode, would change.
  type: list
  elements: dict
  returned: always
ledger:
  description:
    - The tasks of each node since its drain mark was set.
    - C(running_before) had begun when the node stopped taking tasks. C(finished) ended on the node since, including tasks that it had
      reserved. C(returned) went back to the queue, or will, because the broker still has them. C(lost) were on a node that died, and the
      broker had forgotten them. C(duplicates) had begun on a node that died, and will be run again.
    - An unknown figure, such as that of a busy solo pool, is null.
    - C(cut_short) lists the tasks that ran on a node that died or was killed, with C(id), name (C(task)) and age (C(seconds)) of each, and
      C(lost), which says that it will not be run again.
  type: list
  elements: dict
  returned: always
  sample:
    - {"node": "shop.reports.1.1@web1", "running_before": 1, "finished": 1, "returned": 3, "lost": 0, "duplicates": 0, "seconds": 4.2,
       "state": "idle"}
notes:
  description: Notices for people.
  type: list
  elements: str
  returned: always
unfinished:
  description: A sentence for each node that did not become idle in time.
  type: list
  elements: str
  returned: always
more:
  description: Whether the action plugin has to call the module again.
  type: bool
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import managers, payload
from ..module_utils.workfleet.arguments.worker_drain import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.nodes import drain
from ..module_utils.workfleet.nodes.host_nodes import HostNodes
from ..module_utils.workfleet.nodes.request import Request


def main() -> None:
    """Parse, observe, tell, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "worker_drain")
        order = drain.Order(**given.pop("order"))
        request = Request.parse(given)
        manager = managers.named(request.manager, request.app, request.root, request.run_directory)
        host_nodes = HostNodes(request, manager)
        result = drain.Drain(host_nodes, order, check=module.check_mode).call()
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
