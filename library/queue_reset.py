#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Dump and delete everything of an app in its broker."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: queue_reset
short_description: Dump and delete everything of an app in its broker
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Empties every queue of the app into a dump on the control node, as M(workfleet.core.queue_purge) does, including tasks that were
    reserved, delayed tasks and dead letters. M(workfleet.core.queue_restore) restores a dump. Keys without tasks that name a queue or a
    node of the app are deleted after that.
  - Keys of other apps in the same database and keys without a known owner stay.
  - All nodes of the app have to be stopped. The task is refused while any process consumes one of the queues.
  - The task needs the typed confirmation.
options:
  groups:
    description: The worker groups, as in C(worker_groups). Their queues are the app's queues.
    type: list
    elements: dict
    default: []
  hosts:
    description: All hosts of the inventory that have nodes of the app.
    type: list
    elements: str
    required: true
  register:
    description: The variable in which each of these hosts has registered its result of M(workfleet.core.worker_info) or, after its nodes
      were stopped, of M(workfleet.core.worker_nodes).
    type: str
    required: true
  step:
    description: V(look) asks for the confirmation and lists what would be deleted. V(delete) dumps and deletes it, after the nodes are
      stopped.
    type: str
    choices: [look, delete]
    default: look
  only:
    description: The value has to be empty, because groups may share queues and the remaining keys belong to the whole app.
    type: str
    default: ""
  confirm:
    description: The typed confirmation, which is the words C(reset <app> <host,…>), with the hosts as in O(hosts).
    type: str
    default: ""
  include_results:
    description: Whether the results of tasks are dumped and deleted too. This is refused where the database of the results has queues of
      others, because a result does not name its app. Results of arq name their queue. Without this option results expire by themselves.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: The task lists what would be deleted, and asks for no confirmation.
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.dump
  - workfleet.core.dump.directory
  - workfleet.core.attributes.no_diff
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: List what would be deleted
  workfleet.core.queue_reset:
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    hosts: "{{ groups.workers }}"
    register: seen
  run_once: true
  check_mode: true
"""

RETURN = r"""
queues:
  description: The content of each queue of the app.
  type: list
  elements: dict
  returned: with O(step=look)
  sample: [{"queue": "reports", "engine": "celery", "tasks": 12, "waiting": 9, "unacknowledged": 3, "scheduled": 0, "dead": 0}]
traces:
  description: The keys that hold no task, and the members of sets that other apps use too.
  type: list
  elements: dict
  returned: success
  sample: [{"key": "arq:health-check:shop.a.1.1@web1", "member": ""}]
result_count:
  description: The number of results that would be deleted, null without O(include_results).
  type: int
  returned: with O(step=look)
left:
  description: A sentence for each thing that stays.
  type: list
  elements: str
  returned: with O(step=look)
dumps:
  description: The dumps on the control node, each with its number of tasks.
  type: list
  elements: dict
  returned: with O(step=delete)
  sample: [{"queue": "reports", "records": 12, "dump": "/home/ann/ops/dumps/shop-reports-20261123T225746Z-54c87f21.dump"}]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.queue_reset import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.queues import reset


def main() -> None:
    """Do one step of a reset; the action plugin does them in their order, with the purges between."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "queue_reset")
        found = reset.step(given["step"], reset.Order.parse(given), check=module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
