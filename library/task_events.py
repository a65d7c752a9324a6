#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Follow the task events of worker nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: task_events
short_description: Follow the task events of worker nodes
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Shows the events of tasks while they happen (sent, received, started, succeeded, failed, retried, revoked, rejected), and workers that
    start and end.
  - Celery is the only engine with events. The broker publishes them and keeps none. A process on the host therefore receives all of them
    until the task ends, or until 30 seconds after an interruption. The output says where events may be missing.
  - Nodes that send no task events are told to send them for the duration of the task.
options:
  queue:
    description: The name of a queue. The output is narrowed to tasks that are sent to it, and to tasks of nodes that consume this queue and
      no other, because events do not name their queue.
    type: str
    default: ""
  task_name:
    description: The name of the tasks. An empty text selects tasks of every name.
    type: str
    default: ""
  level:
    description: The lowest level of the events, V(debug), V(info), V(warning) or V(error). A heartbeat is V(debug), a retry or the end of a
      worker is V(warning), and a failure is V(error).
    type: str
    default: info
  sample_seconds:
    description: The duration in seconds. 0 means no end, which needs O(follow).
    type: float
    default: 10
  follow:
    description: Whether the task goes on in a terminal until it is interrupted, unless O(sample_seconds) sets its end.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: No node is told to send events. The output shows the events of nodes that send them already, and names the other nodes.
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.only
  - workfleet.core.hosts.declared
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Follow the tasks of one name for a minute
  workfleet.core.task_events:
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    task_name: app.tasks.build_report
    sample_seconds: 60
"""

RETURN = r"""
counts:
  description: The number of events that were shown, by kind.
  type: dict
  returned: always
  sample: {"received": 12, "started": 12, "succeeded": 11, "failed": 1}
missed:
  description: Whether some events may be missing.
  type: bool
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.task_events import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.host import background
from ..module_utils.workfleet.queues import events


def main() -> None:
    """Start to listen, or take what was heard since; report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "task_events")
        if "order" in given:
            given["directory"] = background.start(lambda working: events.start(given["order"], working))
        told = background.take(given["directory"])
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, directory=given["directory"], told=told)


if __name__ == "__main__":
    main()
