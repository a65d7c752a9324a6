#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Dump everything of an app in its broker, and delete it."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: queue_reset
short_description: Dump everything of an app in its broker, and delete it
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Empties every queue of the app into a dump on the control node, as M(workfleet.core.queue_purge) does, but also of what workers
    held, what is delayed and what is dead. M(workfleet.core.queue_restore) puts a dump back. Then deletes what holds no task and
    names a queue or a node of the app.
  - Deletes nothing of another app in the same database, and nothing that does not tell whose it is.
  - Needs all nodes of the app to be stopped. Refuses where somebody consumes one of its queues.
  - Does nothing without the typed confirmation.
options:
  app:
    description: The values that nodes share, the C(app_*) variables without their prefix.
    type: dict
    required: true
  groups:
    description: The worker groups, as in C(worker_groups). Their queues are the app's.
    type: list
    elements: dict
    default: []
  manager:
    description: As C(worker_manager), for the check of O(groups).
    type: str
  hosts:
    description: All hosts of the inventory that have nodes of the app.
    type: list
    elements: str
    required: true
  register:
    description: The variable under which each of these hosts has registered what M(workfleet.core.worker_info) told of it, or, once its
      nodes were stopped, what M(workfleet.core.worker_nodes) did.
    type: str
    required: true
  step:
    description: V(look) asks for the confirmation and lists what goes. V(delete) dumps and deletes it, when the nodes are stopped.
    type: str
    choices: [look, delete]
    default: look
  only:
    description: Must be empty. Groups may share queues, and what is no queue's is the whole app's.
    type: str
    default: ""
  confirm:
    description: The words C(reset <app> <host,…>), with the hosts as in O(hosts).
    type: str
    default: ""
  dump_dir:
    description: A directory on the control node for the dumps, one for each queue that holds tasks. It is made where it is not there.
    type: str
    default: dumps
  include_results:
    description: Dump and delete the results of tasks too. Refused where the results' database has queues of others, whose results are told
      from ours by nothing; those of arq name their queue. Else they are left to their time to live.
    type: bool
    default: false
  force:
    description: Do not wait for another purge or restore of the app that was killed.
    type: bool
    default: false
  payload:
    description: Set by the action plugin. One opaque text, so that no password is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Lists what would go, and asks for no confirmation.
  diff_mode:
    support: none
    description: There is no text to compare.
"""

EXAMPLES = r"""
- name: List what would go
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
  description: What each queue of the app holds.
  type: list
  elements: dict
  returned: for a look
  sample: [{"queue": "reports", "engine": "celery", "tasks": 12, "waiting": 9, "unacknowledged": 3, "scheduled": 0, "dead": 0}]
traces:
  description: What holds no task. A key, or a member of a set that others use too.
  type: list
  elements: dict
  returned: success
  sample: [{"key": "arq:health-check:shop.a.1.1@web1", "member": ""}]
result_count:
  description: How many results go. Null where they are left to their time to live.
  type: int
  returned: for a look
left:
  description: What stays, and why.
  type: list
  elements: str
  returned: for a look
dumps:
  description: The dumps on the control node, and how many tasks each holds.
  type: list
  elements: dict
  returned: when it deletes
  sample: [{"queue": "reports", "records": 12, "dump": "/home/ann/ops/dumps/shop-reports-20261123T225746Z-54c87f21.dump"}]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload, reset
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Do one step of a reset; the action plugin does them in their order, with the purges between."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "queue_reset")
        found = reset.step(given["step"], reset.Order.parse(given), check=module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
