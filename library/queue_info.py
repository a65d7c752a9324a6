#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell the truth about an app's queues."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: queue_info
short_description: Tell what waits, runs and is held in every queue
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Reads the figures of the declared queues, and of all others in the same database, each look from one consistent read.
    The payloads of a queue are never read, so that a million tasks take no longer than ten.
  - Asks all nodes over the broker what they consume and run.
  - A figure that cannot be told is null, never 0. What each means for each engine stands in C(docs/queues.md).
  - Of Celery's queues it remembers in Redis which message was the next, below C(workfleet:<app>:), for a later look to know an age.
    Nothing else is changed.
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
    description: Hosts of the inventory whose declared queues are looked at too.
    type: list
    elements: str
    default: []
  only:
    description: Names of worker groups with commas between them.
    type: str
    default: ""
  queue:
    description: Tell of this queue alone.
    type: str
    default: ""
  sample_seconds:
    description: Seconds between two looks, to tell what comes and goes. 0 looks once.
    type: float
    default: 0
  json:
    description: A file on the control node for the queues and problems as JSON.
    type: str
    default: ""
  show:
    description: Whether a table is printed.
    type: bool
    default: true
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode, but for what it remembers to tell an age.
"""

EXAMPLES = r"""
- name: Look at the queues
  workfleet.core.queue_info:
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    sample_seconds: 5
  register: seen
"""

RETURN = r"""
queues:
  description: One entry a queue, in the form of the status JSON, with C(in_per_second) and C(out_per_second).
  type: list
  elements: dict
  returned: always
problems:
  description: One sentence for each thing that is wrong.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import consumers, payload, queues
from ..module_utils.workfleet.engines.taskqueue import Source
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Parse, look, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "queue_info")
        sources = [Source(**source) for source in given["sources"]]
        found = queues.look(given["app"], sources, given["sample_seconds"], given["own"], consumers.Ours(**given["ours"]))
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
