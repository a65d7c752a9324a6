#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have the worker nodes of an app on a host take no new tasks, or take them again."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_drain
short_description: Have worker nodes take no new tasks, or take them again
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Tells the nodes of one app on one host to take no new tasks. They stay up and finish what they have.
  - It ends the moment all of them are proved idle. Of nodes that take longer than C(drain_seconds) of their group it says so and waits
    on. With V(kill) as C(drain_timeout_action) of O(rollout) it kills them; their manager starts them again, as quiet as before.
  - A node takes no tasks until it is told to, also when it crashes and is started again, and after a reboot.
  - The action plugin of the same name calls the module again and again, at most five seconds each, and shows who still runs what.
options:
  state:
    description: Whether the nodes are to take tasks.
    type: str
    choices: [drained, resumed]
    default: drained
  wait:
    description: Whether to wait until the nodes are idle, or consume again. Without it the ledger is empty.
    type: bool
    default: true
  app:
    description: The values that nodes share, the C(app_*) variables without their prefix.
    type: dict
    required: true
  groups:
    description: The worker groups, as in C(worker_groups).
    type: list
    elements: dict
    default: []
  parts:
    description: What of the app the host has, of C(workers), C(scheduler) and C(dashboard). Other words are passed over, so that
      it may be the host's inventory groups. Empty means all that is declared.
    type: list
    elements: str
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
  rollout:
    description: As in C(worker_rollout); C(drain_timeout_action) is of interest here.
    type: dict
    default: {}
  only:
    description: Names of worker groups with commas between them. The others go on.
    type: str
    default: ""
  lock_seconds:
    description: How long to wait for another run that changes the same nodes.
    type: int
    default: 30
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: The same path without the last step. It predicts the steps of the real run, and waits for nothing.
"""

EXAMPLES = r"""
- name: Let the nodes of the reports group finish
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
  description: The nodes that were told, or would be told. One that was told before is not among them.
  type: list
  elements: dict
  returned: always
ledger:
  description:
    - What became of the tasks of each node since it was told.
    - C(running_before) had begun when it stopped taking tasks; C(finished) ended on it since, those that it had taken and not begun among
      them; C(returned) were put back into the queue, or come back there since the broker still has them; C(lost) are those of a
      node that died, where the broker had forgotten them; C(duplicates) had begun on a node that died and will be run again.
    - A figure that cannot be told, such as of a busy solo pool, is null.
    - C(cut_short) is there where tasks were running on a node that died or was killed, with the C(id), the name (C(task)) and the age
      (C(seconds)) of each, and whether it is C(lost); if not, it is run again.
  type: list
  elements: dict
  returned: always
  sample:
    - {"node": "shop.reports.1.1@web1", "running_before": 1, "finished": 1, "returned": 3, "lost": 0, "duplicates": 0, "seconds": 4.2,
       "state": "idle"}
notes:
  description: Sentences for people.
  type: list
  elements: str
  returned: always
unfinished:
  description: What the nodes that did not become idle in time still do, one sentence each.
  type: list
  elements: str
  returned: always
more:
  description: Whether the action plugin has to call again.
  type: bool
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import drain, managers, payload
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.nodes.host_nodes import HostNodes
from ..module_utils.workfleet.nodes.request import Request


def main() -> None:
    """Parse, observe, tell, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
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
