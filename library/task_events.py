#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Follow what the nodes tell of their tasks."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: task_events
short_description: Follow what the nodes tell of their tasks
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Shows events of tasks as they happen (sent, received, started, succeeded, failed, retried, revoked, rejected), and workers that come
    and go.
  - Celery alone has events. They are published and kept by nobody; so a process of its own stays on the host while this goes on, hears all
    of them, and ends with it, 30 seconds after its last sign where it was interrupted. Where something may have been missed that is said.
  - Nodes that send no task events are told to for the time.
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
  queue:
    description: Only tasks of the nodes that consume this queue and no other, since events do not tell it; and what is sent to it.
    type: str
    default: ""
  task_name:
    description: Only tasks of this name.
    type: str
    default: ""
  level:
    description: Only events that are as grave, V(debug), V(info), V(warning) or V(error). Heartbeats are V(debug), tries and workers that
      go V(warning), failures V(error).
    type: str
    default: info
  sample_seconds:
    description: How long. 0 is without an end, with O(follow) alone.
    type: float
    default: 10
  follow:
    description: Whether to go on until it is interrupted, in a terminal, unless O(sample_seconds) says for how long.
    type: bool
    default: false
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Nodes are not told to send events; what those tell that do is shown, and which of them tell nothing.
"""

EXAMPLES = r"""
- name: Show what happens to tasks of one name for a minute
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
  description: How many events of each kind were shown.
  type: dict
  returned: always
  sample: {"received": 12, "started": 12, "succeeded": 11, "failed": 1}
missed:
  description: Whether it was said that some may be missing.
  type: bool
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import background, events, payload
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Start to listen, or take what was heard since; report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
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
