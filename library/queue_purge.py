#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Empty a queue into a dump on the control node."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: queue_purge
short_description: Empty a queue into a dump on the control node
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Takes the waiting tasks of a queue to keys of its own, where no worker finds them, so that none is both dumped and run.
    Writes them to a file on the control node, looks at it there, and only then deletes them.
    M(workfleet.core.queue_restore) puts them back.
  - What workers hold already is not touched; see C(docs/queues.md).
  - A run that was killed is ended by the next one. What it had dumped safely is deleted, all else is put back.
  - Does nothing without the typed confirmation.
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
    description: The queue.
    type: str
    required: true
  confirm:
    description: The words C(purge <app> <queue>).
    type: str
    default: ""
  priority:
    description: Only what waits in the list of this priority (Celery).
    type: int
  task_name:
    description: Only tasks of this name.
    type: str
    default: ""
  older_than:
    description: Only tasks that have waited for so many seconds. Of Celery's only those that say when they were sent, by a header
      C(sent_at) or C(timestamp); refused where none does.
    type: float
  dump_dir:
    description: A directory on the control node for the dump. It is made where it is not there.
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
    description: Tells how many tasks would be purged, and takes none.
  diff_mode:
    support: none
    description: There is no text to compare.
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
  description: The dump on the control node. Null where there was nothing to purge.
  type: str
  returned: success
records:
  description: How many tasks were purged, or in check mode would be.
  type: int
  returned: success
sha256:
  description: The dump's checksum.
  type: str
  returned: when there is a dump
problems:
  description: One sentence for each key in which something could not be read or is not the queue's, and was left alone.
  type: list
  elements: str
  returned: success
recovered:
  description: What an earlier run left, and what became of it.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload, purge, queues, resp
from ..module_utils.workfleet.engines.taskqueue import Source
from ..module_utils.workfleet.engines.verbs.stash import Choice
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Do one step of a purge; the action plugin does them in their order."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
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
