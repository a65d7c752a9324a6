#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Send many tasks and measure their results."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: task_load
short_description: Send many tasks and measure their results
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Sends tasks of one name to queues of one engine, at a rate or as fast as possible, and reports the number of results, their rate, and
    the time that tasks took, waited and ran.
  - The default task is the canary of M(workfleet.core.task_probe). Every Celery app has it, and the toolkit's runners register it.
  - The host needs no packages, because the module has its own client for Redis. No task is sent to a queue without a consumer.
  - Tasks that no worker took in time are removed from the queue. Results of the sent tasks and their dead letters are deleted.
options:
  group:
    description: The worker group whose queues receive the tasks, in place of O(only).
    type: str
    default: ""
  queue:
    description: The name of the queue. With an empty text all queues of the groups take turns.
    type: str
    default: ""
  task_name:
    description: The name of a task of the app, in place of the canary.
    type: str
    default: ""
  args:
    description: The positional arguments of the task.
    type: list
    elements: raw
  kwargs:
    description: The keyword arguments of the task.
    type: dict
    default: {}
  count:
    description: The number of tasks, up to 50000.
    type: int
    default: 100
  rate:
    description: The number of tasks in a second. 0 means as fast as possible. All tasks have to be sent within an hour.
    type: float
    default: 0
  sample_seconds:
    description: The time in seconds to wait for the result of the last task.
    type: float
    default: 60
attributes:
  check_mode:
    support: full
    description: The task describes the load and sends nothing.
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.only
  - workfleet.core.hosts.declared
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Send 20 tasks a second for half a minute
  workfleet.core.task_load:
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
      result_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    queue: default
    task_name: app.tasks.fetch
    args: [0.2]
    count: 600
    rate: 20
"""

RETURN = r"""
report:
  description: The results of the tasks, null in check mode. Durations are in seconds, and an unknown duration is null.
  type: dict
  returned: always
  contains:
    sent:
      description: The number of sent tasks.
      type: int
    succeeded:
      description: The number of tasks that succeeded.
      type: int
    failed:
      description: The number of tasks that ended in an error.
      type: int
    ended_untold:
      description: The number of tasks that ended with an unknown outcome.
      type: int
    unanswered:
      description: The number of tasks without a result in time.
      type: int
    ended_per_second:
      description: The rate of ended tasks, between the first sending and the last end.
      type: float
    latency:
      description: The percentiles C(p50), C(p95), C(p99) and C(max) of C(total), C(wait) and C(run).
      type: dict
    reasons:
      description: The reasons of failed and missing tasks, the most frequent first.
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.task_load import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.host import background
from ..module_utils.workfleet.queues import load


def main() -> None:
    """Start to send, or take what was told since; report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "task_load")
        if "order" in given:
            given["directory"] = background.start(lambda working: load.start(given["order"], working))
        told = background.take(given["directory"])
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, directory=given["directory"], told=told)


if __name__ == "__main__":
    main()
