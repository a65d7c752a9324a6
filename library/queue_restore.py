#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put a dump back into its queue."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: queue_restore
short_description: Put a dump back into its queue
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Puts the tasks of a dump of M(workfleet.core.queue_purge) back, all of them and in their order, behind nothing that was sent later.
  - A dump that is cut or was altered is refused before the first write.
  - A second run of the same dump does nothing, and one that was killed is finished by the next. What was done is kept in
    Redis below C(workfleet:<app>:).
options:
  app:
    description: The values that nodes share, the C(app_*) variables without their prefix.
    type: dict
    required: true
  groups:
    description: The worker groups, as in C(worker_groups). They tell where the dump's engine has its broker.
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
  dump:
    description: The dump on the control node. Without one only what interrupted purges left is ended, as every purge and restore does
      it first; where there is nothing of that kind it fails.
    type: str
    default: ""
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
    description: Reads and checks the dump on the control node, tells how many of its tasks are not there yet, and writes nothing.
  diff_mode:
    support: none
    description: There is no text to compare.
"""

EXAMPLES = r"""
- name: Undo a purge
  workfleet.core.queue_restore:
    app:
      name: shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
    dump: /srv/dumps/shop-reports-20261123T101500Z-1f0c9a2b.dump
"""

RETURN = r"""
queue:
  description: The queue. Null without a dump.
  type: str
  returned: success
records:
  description: How many tasks are in the dump.
  type: int
  returned: success
restored:
  description: How many of them this run has put back.
  type: int
  returned: success
problems:
  description: One sentence for each key or part of the dump in which something could not be read, and was left alone.
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

from ..module_utils.workfleet import payload, purge, resp
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Parse, restore, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "queue_restore")
        with resp.connect(given["url"]) as client:
            run = purge.Run(client, given["app"], given["engine"], given["options"], given["holder"], given["queues"])
            if module.check_mode:
                found = purge.foresee(run, given["header"])
            else:
                found = purge.restore(run, given["path"], given["dump"], force=given["force"])
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
