#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Send many tasks and measure how they come back."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: task_load
short_description: Send many tasks and measure how they come back
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Sends tasks of one name to queues of one engine, at a rate or as fast as it goes, and tells how many came back, how many a second,
    and how long they took, waited and ran.
  - By default the task is the canary of M(workfleet.core.task_probe), which every Celery app has, and the toolkit's runners register.
  - Speaks to Redis itself and needs no packages on the host it runs on. Nothing is sent to a queue that no node consumes.
  - What no worker took in time is removed from its queue again; results, and dead letters of what failed, are deleted.
options:
  app:
    description: The values that nodes share, the C(app_*) variables without their prefix. The broker is among them.
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
    description: Hosts whose groups are looked at too.
    type: list
    elements: str
    default: []
  only:
    description: Names of worker groups with commas between them.
    type: str
    default: ""
  group:
    description: The worker group to whose queues it is sent, in place of O(only).
    type: str
    default: ""
  queue:
    description: The queue. Without it all queues of the groups take turns.
    type: str
    default: ""
  task_name:
    description: The name of a task of the app's own.
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
    description: How many tasks, up to 50000.
    type: int
    default: 100
  rate:
    description: How many a second. 0 is as fast as it goes. All must be sent within an hour.
    type: float
    default: 0
  sample_seconds:
    description: How long the last of them may take.
    type: float
    default: 60
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Sends nothing, and says what would be sent.
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
  description: What became of them. Durations are in seconds, and null where they cannot be told; null in check mode.
  type: dict
  returned: always
  contains:
    sent:
      description: How many were sent.
      type: int
    succeeded:
      description: How many came back.
      type: int
    failed:
      description: How many ended in an error.
      type: int
    ended_untold:
      description: How many ended, of which nobody tells how.
      type: int
    unanswered:
      description: How many did not come back in time.
      type: int
    ended_per_second:
      description: Those that ended, over the time from the first that was sent to the last that ended.
      type: float
    latency:
      description: For C(total), C(wait) and C(run) the percentiles C(p50), C(p95), C(p99) and C(max).
      type: dict
    reasons:
      description: Why tasks failed or did not come back, the most frequent first.
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import background, load, payload
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Start to send, or take what was told since; report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
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
