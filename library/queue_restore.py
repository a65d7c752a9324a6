#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Restore a dump to its queue."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: queue_restore
short_description: Restore a dump to its queue
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Restores all tasks of a dump of M(workfleet.core.queue_purge) in their order, ahead of tasks that were sent later.
  - A dump that is truncated or altered is refused before the first write.
  - A second run with the same dump changes nothing, and the next run completes one that was killed. The progress is stored in Redis below
    C(workfleet:<app>:).
options:
  dump:
    description: The dump on the control node. Without a dump the task only completes interrupted purges, as every purge and restore does
      first, and fails where there are none.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: The task reads and verifies the dump on the control node, counts its tasks that are not restored yet, and writes nothing.
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.only
  - workfleet.core.hosts.declared
  - workfleet.core.dump
  - workfleet.core.attributes.no_diff
  - workfleet.core.payload
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
  description: The queue, null without a dump.
  type: str
  returned: success
records:
  description: The number of tasks in the dump.
  type: int
  returned: success
restored:
  description: The number of tasks that this run restored.
  type: int
  returned: success
problems:
  description: A sentence for each key or part of the dump that is unreadable. Such a part stays as it is.
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
from ..module_utils.workfleet.arguments.queue_restore import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.queues import purge


def main() -> None:
    """Parse, restore, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
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
