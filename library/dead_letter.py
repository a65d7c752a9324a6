#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""List, replay or drop tasks that have failed for good."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: dead_letter
short_description: List, replay or drop tasks that have failed for good
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Chicory's dead-letter streams; the failed results of arq's jobs, for as long as arq keeps them; of Celery the queue that
    C(app_broker_options.deadletter_queue) names, where the app sends there what it rejects.
  - A task that is replayed is sent to its queue again as one that was never tried, and is no dead letter any more, in one step.
    All else of it stays as it was. Where that cannot be had for certain the replay is refused, before the first one is sent.
  - What is dropped is dumped first, as by M(workfleet.core.queue_purge), and M(workfleet.core.queue_restore) makes it dead letters again.
  - No payload is ever unpickled. Results of arq's jobs are read by a reader that runs no code of theirs.
options:
  app:
    description: The values that nodes share, the C(app_*) variables without their prefix.
    type: dict
    required: true
  groups:
    description: The worker groups, as in C(worker_groups). They tell the queue's engine.
    type: list
    elements: dict
    default: []
  manager:
    description: As C(worker_manager), for the check of O(groups).
    type: str
  hosts:
    description: Hosts of the inventory whose declared queues are known too.
    type: list
    elements: str
    default: []
  only:
    description: Names of worker groups with commas between them.
    type: str
    default: ""
  queue:
    description: The queue that the tasks failed in.
    type: str
    required: true
  letters:
    description: What to do, one of C(list), C(show ID), C(replay ID), C(replay all), C(drop ID), C(drop all). With O(task_name) C(all)
      are those of that name.
    type: str
    default: list
  task_name:
    description: Only tasks of this name.
    type: str
    default: ""
  confirm:
    description: For a drop the words C(drop <app> <queue>).
    type: str
    default: ""
  dump_dir:
    description: A directory on the control node for the dump of what is dropped.
    type: str
    default: dumps
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
    description: Tells which tasks are meant, and sends or deletes none.
  diff_mode:
    support: none
    description: There is no text to compare.
"""

EXAMPLES = r"""
- name: Send again what failed while the other side was down
  workfleet.core.dead_letter:
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    queue: events
    letters: replay all
    task_name: app.tasks.deliver
"""

RETURN = r"""
letters:
  description: The tasks that are meant, with C(id), C(task_name), C(reason), C(failed_at), C(tries) and C(age_seconds).
    What is not told is null.
  type: list
  elements: dict
  returned: success
cut:
  description: Whether there are or may be more than these. No more than 10,000 are told, replayed or dropped in one go.
  type: bool
  returned: success
problems:
  description: One sentence for each key in the broker in which something could not be read, and was left alone.
  type: list
  elements: str
  returned: success
replayed:
  description: How many were sent again.
  type: int
  returned: success
dump:
  description: The dump of what was dropped.
  type: str
  returned: for a drop
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import letters, payload, queues, resp
from ..module_utils.workfleet.engines import taskqueues
from ..module_utils.workfleet.engines.taskqueue import Source
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """List, and send again where that is asked for."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "dead_letter")
        source = Source(given["engine"], given["url"], given["declared"], given["options"])
        queues.require_known(given["app"], source, given["queue"])
        with resp.connect(given["url"]) as client:
            queue = taskqueues.named(given["engine"]).dead_letters(client, given["queue"], given["options"])
            found = letters.work(queue, given["task_name"], given["id"], replay=given["replay"], check=module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
