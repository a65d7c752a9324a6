#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Return what dead workers held."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_reap
short_description: Return the tasks that dead Celery workers held to their queues
version_added: "0.1.0"
author: Workfleet contributors
description:
  - A Celery worker that was killed leaves the tasks that it held in C(unacked), where nobody sees them until the visibility timeout
    has passed. These go back to their queues, each once, and its binding for questions is taken away.
  - A task goes back only where its owner is proved dead. It is there in two looks O(sample_seconds) apart, no worker has it in
    both, every worker that is connected to the broker has answered, and so has every node that runs on a host. Where that cannot be
    told nothing is moved and the task fails.
  - Tasks of other apps' queues are never touched.
  - Of arq and Chicory nothing is done. arq frees the jobs of a dead worker when their C(job_timeout) is over, Chicory's nodes
    claim its messages.
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
    description: The variable under which each of these hosts has registered what M(workfleet.core.worker_info) told of it.
    type: str
    required: true
  only:
    description: Must be empty. Who narrows to some groups does not know what the others hold.
    type: str
    default: ""
  sample_seconds:
    description: Seconds between the two looks.
    type: float
    default: 10
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Looks twice, and lists what would go back.
"""

EXAMPLES = r"""
- name: Look at the nodes
  workfleet.core.worker_info:
    app:
      name: shop
      broker_url: redis://:{{ vault_redis_password }}@redis1:6379/0
    groups: "{{ worker_groups }}"
  register: seen

- name: Return what dead workers held
  workfleet.core.worker_reap:
    app:
      name: shop
      broker_url: redis://:{{ vault_redis_password }}@redis1:6379/0
    groups: "{{ worker_groups }}"
    hosts: "{{ groups.workers }}"
    register: seen
  run_once: true
"""

RETURN = r"""
returned:
  description: The tasks that went back, or would.
  type: list
  elements: dict
  returned: success
  sample: [{"id": "6f1c…", "queue": "reports", "task": "app.tasks.report"}]
forgotten:
  description: Dead nodes whose binding for questions was taken away.
  type: list
  elements: str
  returned: success
left:
  description: One sentence for each task that no worker tells of and that was left alone all the same.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload, reap
from ..module_utils.workfleet.errors import WorkfleetError

ARGUMENTS = {
    "app": {"type": "dict"}, "groups": {"type": "list", "elements": "dict"}, "manager": {"type": "str"},
    "hosts": {"type": "list", "elements": "str"}, "register": {"type": "str"}, "only": {"type": "str"}, "sample_seconds": {"type": "float"},
    "payload": {"type": "str", "no_log": True},
}


def main() -> None:
    """Parse, look twice, return, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "worker_reap")
        found = reap.reap(reap.Order(**given), check=module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
