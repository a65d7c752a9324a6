#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Empty a queue into a dump on the control node."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: queue_purge
short_description: Empty a queue into a dump on the control node
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Moves the waiting tasks of a queue to keys that no worker reads, so that no task is both dumped and run. Writes them to a file on the
    control node, verifies the file, and deletes the tasks after that. M(workfleet.core.queue_restore) restores them.
  - Tasks that a worker has reserved or runs are not touched. C(docs/queues.md) has the details.
  - A purge that was killed is completed by the next one. Tasks that were dumped safely are deleted, and all others go back to the queue.
  - The task needs the typed confirmation.
options:
  queue:
    description: The name of the queue.
    type: str
    required: true
  confirm:
    description: The typed confirmation, which is the words C(purge <app> <queue>).
    type: str
    default: ""
  priority:
    description: The priority of the tasks, for Celery only.
    type: int
  task_name:
    description: The name of the tasks. An empty text selects tasks of every name.
    type: str
    default: ""
  older_than:
    description: The minimal time in seconds for which the tasks have waited. For Celery only tasks with a header C(sent_at) or C(timestamp)
      have an age, and the task is refused where no task has one.
    type: float
attributes:
  check_mode:
    support: full
    description: The task counts the tasks that a purge would delete, and moves none.
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
- name: Empty the queue reports
  workfleet.core.queue_purge:
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    queue: reports
    confirm: purge shop reports
    dump_dir: /srv/dumps
  register: purged
"""

RETURN = r"""
dump:
  description: The dump on the control node, null where there was nothing to purge.
  type: str
  returned: success
records:
  description: The number of tasks that were purged or, in check mode, would be.
  type: int
  returned: success
sha256:
  description: The checksum of the dump.
  type: str
  returned: when there is a dump
problems:
  description: A sentence for each key that is unreadable or is not the queue's. Such a key stays as it is.
  type: list
  elements: str
  returned: success
recovered:
  description: The remains of an interrupted run, and what was done with them.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload, resp
from ..module_utils.workfleet.arguments.queue_purge import ARGUMENTS
from ..module_utils.workfleet.engines.taskqueue import Source
from ..module_utils.workfleet.engines.verbs.stash import Choice
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.queues import info as queues
from ..module_utils.workfleet.queues import purge


def main() -> None:
    """Do one step of a purge; the action plugin does them in their order."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "queue_purge")
        choice = Choice.parse(given["choice"])
        with resp.connect(given["url"]) as client:
            run = purge.Run(client, given["app"], given["engine"], given["options"], given["holder"], given["queues"])
            if given["step"] == "write" and not choice.results:
                queues.require_known(given["app"], Source(given["engine"], given["url"], given["declared"], given["options"]),
                                     choice.queue)
            found = purge.step(run, given, choice, check=module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
