#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the figures of every queue of an app."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: queue_info
short_description: Read the figures of every queue of an app
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Reads the figures of the declared queues and of all other queues in the same database, each from one consistent read. The payloads of
    tasks are not read, so the duration does not depend on the number of tasks.
  - Asks all nodes over the broker for their queues and their running tasks.
  - An unknown figure is null and never 0. C(docs/queues.md) explains each figure for each engine.
  - For Celery the task stores the next message of each queue in Redis, below C(workfleet:<app>:), so that a later task can return an age.
options:
  queue:
    description: The name of one queue. An empty text selects all queues.
    type: str
    default: ""
  sample_seconds:
    description: The time in seconds between two reads, for the rates. With 0 there is one read and no rate.
    type: float
    default: 0
  json:
    description: A file on the control node for the queues and the problems as JSON.
    type: str
    default: ""
  show:
    description: Whether the task prints a table.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: The task changes nothing in any mode, except for the messages that it stores for an age.
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.only
  - workfleet.core.hosts.declared
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Read the figures of the queues
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
  description: An entry for each queue, in the form of the status JSON, with C(in_per_second) and C(out_per_second).
  type: list
  elements: dict
  returned: always
problems:
  description: A sentence for each problem.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.queue_info import ARGUMENTS
from ..module_utils.workfleet.engines.taskqueue import Source
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.nodes import consumers
from ..module_utils.workfleet.queues import info as queues


def main() -> None:
    """Parse, look, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "queue_info")
        sources = [Source(**source) for source in given["sources"]]
        found = queues.look(given["app"], sources, given["sample_seconds"], given["own"], consumers.Ours(**given["ours"]))
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
