#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Return what dead workers held."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_reap
short_description: Return the tasks that dead workers held to their queues, and forget these
version_added: "0.1.0"
author: Workfleet contributors
description:
  - A worker that was killed leaves tasks that nobody sees for a while, or for ever. Celery's stay in C(unacked) until the visibility
    timeout, arq's are marked to be in progress until their C(job_timeout) is over, Chicory's are pending until another node claims
    them, if there is one. These go back to their queues, each once. Its heartbeat goes, its name among Chicory's consumers, its
    binding for Celery's questions.
  - A task goes back only where its owner is proved dead. Of arq and Chicory the broker tells the owner, who has no process on any
    host. Of Celery it does not. There a task must be there in two looks O(sample_seconds) apart, no worker has it in both, every worker
    that is connected to the broker has answered, and so has every node that runs on a host. Where that cannot be told nothing is moved
    and the task fails.
  - A Chicory task that must not run twice (at most once) does not go back. It is put among the dead letters.
  - Queues that are not declared, consumed, filled or held of are taken from an exchange of the app's own.
  - Tasks of other apps are never touched.
  - It is called twice. First without O(seen), before the hosts are looked at, for what a worker takes after that may be held by a node
    that starts after that. Then with what the first call returned.
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
    description: As C(worker_manager), for the check of O(groups).
    type: str
  hosts:
    description: All hosts of the inventory that have nodes of the app.
    type: list
    elements: str
    required: true
  register:
    description: The variable under which each of these hosts has registered what M(workfleet.core.worker_info) told of it. Required with
      O(seen).
    type: str
  seen:
    description: What RV(seen) was before the hosts were looked at. Without it only what workers hold is returned.
    type: str
  only:
    description: Must be empty. Who narrows to some groups does not know what the others hold.
    type: str
    default: ""
  sample_seconds:
    description: Seconds between the two looks at what Celery's workers hold.
    type: float
    default: 10
  force:
    description: The nodes of hosts that are not in the inventory are dead, where they have no heartbeat. Without it what they hold stays
      where it is, as nobody looked whether they run. Of Celery it makes no difference.
    type: bool
    default: false
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Looks, and lists what would go back.
"""

EXAMPLES = r"""
- name: Note what workers hold
  workfleet.core.worker_reap: &reap
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    hosts: "{{ groups.workers }}"
  register: held
  run_once: true

- name: Look at the nodes
  workfleet.core.worker_info:
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
  register: nodes

- name: Return what dead workers held
  workfleet.core.worker_reap:
    <<: *reap
    seen: "{{ held.seen }}"
    register: nodes
  run_once: true
"""

RETURN = r"""
seen:
  description: What workers hold, for the second call. Opaque.
  type: str
  returned: without O(seen)
returned:
  description: The tasks that went back, or would.
  type: list
  elements: dict
  returned: with O(seen)
  sample: [{"id": "6f1c…", "queue": "reports", "task": "app.tasks.report"}]
dead:
  description: The tasks that must not run twice, and are among the dead letters now, or would be.
  type: list
  elements: dict
  returned: with O(seen)
  sample: []
forgotten:
  description: Dead nodes of which a record was taken away, as their heartbeat, their name among consumers, their binding for questions.
  type: list
  elements: str
  returned: with O(seen)
unbound:
  description: The queues that were taken from an exchange.
  type: list
  elements: dict
  returned: with O(seen)
  sample: [{"exchange": "tasks", "queue": "reports-old"}]
left:
  description: One sentence for each thing that looks dead and was left alone all the same.
  type: list
  elements: str
  returned: with O(seen)
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload, reap
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Parse, look, return, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "worker_reap")
        engine, order = given["engine"], reap.Reaping(**given["order"])
        found = reap.note(engine, order) if given["note"] else reap.reap(engine, order, check=module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
