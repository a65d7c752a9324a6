#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""List, replay or drop tasks that have failed for good."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: dead_letter
short_description: List, replay or drop tasks that have failed for good
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Reads the dead-letter streams of Chicory, the failed results of arq's jobs for as long as arq keeps them, and for Celery the queue that
    C(app_broker_options.deadletter_queue) names, where the app sends its rejected tasks to it.
  - A replay sends a task to its queue as a task that was never tried, and removes the dead letter in the same step. All other properties of
    the task stay. A replay that could not be exact is refused before the first task is sent.
  - A drop dumps the tasks first, as M(workfleet.core.queue_purge) does. M(workfleet.core.queue_restore) restores them as dead letters.
  - No payload is unpickled. The results of arq's jobs are read by a parser that runs none of their code.
options:
  queue:
    description: The queue of the failed tasks.
    type: str
    required: true
  letters:
    description: The verb and the tasks, one of C(list), C(show ID), C(replay ID), C(replay all), C(drop ID), C(drop all). With O(task_name)
      the word C(all) means all tasks of that name.
    type: str
    default: list
  task_name:
    description: The name of the tasks. An empty text selects tasks of every name.
    type: str
    default: ""
  confirm:
    description: The typed confirmation of a drop, which is the words C(drop <app> <queue>).
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: The task lists the selected tasks. It neither sends nor deletes any.
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.only
  - workfleet.core.hosts.declared
  - workfleet.core.dump
  - workfleet.core.dump.directory
  - workfleet.core.attributes.no_diff
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Replay the tasks that failed while the receiver was down
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
  description: The selected tasks, with C(id), C(task_name), C(reason), C(failed_at), C(tries) and C(age_seconds). An unknown value is null.
  type: list
  elements: dict
  returned: success
cut:
  description: Whether there are or may be more tasks. One task of Ansible lists, replays or drops at most 10,000 tasks.
  type: bool
  returned: success
problems:
  description: A sentence for each key of the broker whose content is unreadable. Such a key stays as it is.
  type: list
  elements: str
  returned: success
replayed:
  description: The number of tasks that were sent again.
  type: int
  returned: success
dump:
  description: The dump of the dropped tasks.
  type: str
  returned: for a drop
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload, resp
from ..module_utils.workfleet.arguments.dead_letter import ARGUMENTS
from ..module_utils.workfleet.engines import taskqueues
from ..module_utils.workfleet.engines.taskqueue import Source
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.queues import info as queues
from ..module_utils.workfleet.queues import letters


def main() -> None:
    """List, and send again where that is asked for."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
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
