#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Return the tasks of dead workers to their queues."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_reap
short_description: Return the tasks of dead workers to their queues
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - A worker that was killed leaves reserved and running tasks that no other worker sees for a while, or for ever. Celery keeps them in
    C(unacked) until the visibility timeout, arq marks them as in progress until C(job_timeout), and in Chicory they are pending until
    another node claims them. The task returns each of them to its queue once. It also removes the heartbeat of the dead worker, its name
    among the consumers of Chicory, and its binding for Celery's remote control.
  - A task goes back only where its owner is proved dead. For arq and Chicory the broker names the owner, which has no process on any host.
    For Celery it does not. There a task has to be the same in two reads O(sample_seconds) apart, every connected worker and every running
    node has to answer, and none of them may have it in both reads. Where that is unknown, no task is moved and the task of Ansible fails.
  - A Chicory task with at-most-once delivery does not go back. It becomes a dead letter.
  - A queue that is not declared, and has neither consumers nor tasks, is unbound from the app's own exchange.
  - Tasks of other apps are never touched.
  - The module is called twice. The first call without O(seen) comes before the hosts are read, because a node that starts later may reserve
    tasks. The second call gets the result of the first.
options:
  hosts:
    description: All hosts of the inventory that have nodes of the app.
    type: list
    elements: str
    required: true
  register:
    description: The variable in which each of these hosts has registered its result of M(workfleet.core.worker_info). It is required with
      O(seen).
    type: str
  seen:
    description: The RV(seen) of the first call. Without it the task only returns the tasks that workers have.
    type: str
  only:
    description: The value has to be empty, because any node may have a task.
    type: str
    default: ""
  sample_seconds:
    description: The time in seconds between the two reads of the tasks of Celery's workers.
    type: float
    default: 10
  force:
    description: Whether nodes of hosts outside of the inventory count as dead where they have no heartbeat. Without this option their tasks
      stay, because their processes are unknown. It has no effect for Celery.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: The task lists the tasks that would go back.
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Record the tasks that workers have
  workfleet.core.worker_reap: &reap
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    hosts: "{{ groups.workers }}"
  register: held
  run_once: true

- name: Read the state of the nodes
  workfleet.core.worker_info:
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
  register: nodes

- name: Return the tasks of dead workers
  workfleet.core.worker_reap:
    <<: *reap
    seen: "{{ held.seen }}"
    register: nodes
  run_once: true
"""

RETURN = r"""
seen:
  description: The tasks that workers have, as an opaque text for the second call.
  type: str
  returned: without O(seen)
returned:
  description: The tasks that went back or, in check mode, would.
  type: list
  elements: dict
  returned: with O(seen)
  sample: [{"id": "6f1c…", "queue": "reports", "task": "app.tasks.report"}]
dead:
  description: The tasks with at-most-once delivery that became dead letters or, in check mode, would.
  type: list
  elements: dict
  returned: with O(seen)
  sample: []
forgotten:
  description: The dead nodes of which a heartbeat, a consumer name or a binding was removed.
  type: list
  elements: str
  returned: with O(seen)
unbound:
  description: The queues that were unbound from an exchange.
  type: list
  elements: dict
  returned: with O(seen)
  sample: [{"exchange": "tasks", "queue": "reports-old"}]
left:
  description: A sentence for each thing that looks dead and was left alone.
  type: list
  elements: str
  returned: with O(seen)
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.worker_reap import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.queues import reap


def main() -> None:
    """Parse, look, return, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "worker_reap")
        engine, order = given["engine"], reap.Reaping(**given["order"])
        found = reap.note(engine, order) if given["note"] else reap.reap(engine, order, check=module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
