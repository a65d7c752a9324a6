#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell the truth about the worker nodes of an app on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_info
short_description: Tell what the worker nodes of an app on a host really do
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Looks at the process manager, at what each process was started with, and asks every node over the broker what it consumes and runs.
  - It returns as soon as all nodes have answered. A figure that cannot be told is null, never 0.
  - Changes nothing.
options:
  app:
    description: The values that nodes share, the C(app_*) variables without their prefix.
    type: dict
    required: true
  groups:
    description: The worker groups, as in C(worker_groups).
    type: list
    elements: dict
    default: []
  scheduler:
    description: The app's scheduler, as in C(worker_scheduler). Empty means that there is none.
    type: dict
    default: {}
  dashboard:
    description: The app's dashboard, as in C(worker_dashboard). Empty means that there is none.
    type: dict
    default: {}
  parts:
    description: What of these the host is to have, of C(workers), C(scheduler) and C(dashboard). Other words are passed over, so that
      it may be the host's inventory groups. Empty means all that is declared.
    type: list
    elements: str
    default: []
  manager:
    description: The process manager.
    type: str
    choices: [systemd, supervisor]
    default: systemd
  run_directory:
    description: Where run records and the manager's socket are. Empty means C(/run/workfleet/<app>).
    type: str
    default: ""
  rollout:
    description: As in C(worker_rollout).
    type: dict
    default: {}
  log:
    description: As in C(worker_log).
    type: dict
    default: {}
  only:
    description: Names of worker groups with commas between them.
    type: str
    default: ""
  timeout:
    description: Seconds to wait for the answer of nodes.
    type: float
    default: 2.0
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Look at the nodes
  workfleet.core.worker_info:
    app:
      name: shop
      root: /opt/shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
  register: fleet
"""

RETURN = r"""
manager:
  description: The process manager.
  type: str
  returned: always
release:
  description: The current release on this host, or null.
  type: str
  returned: always
declared_release:
  description: The release that the inventory gives, as the last run knew that looked at the source; null where the inventory has been
    changed since.
  type: str
  returned: always
hold:
  description: What is held in place of the declared release, or null. C(against) is V(configuration) where it ends with any change of
    what the inventory declares of the app, and V(release) where another release ends it.
  type: dict
  returned: always
  sample: {"instead_of": "1f0c8a9be2d4", "use": "77ab10c2e9f0", "why": "rollback.yml", "against": "release"}
nodes:
  description: One entry a node, in the form of the status JSON.
  type: list
  elements: dict
  returned: always
queues:
  description: The declared queues, in the form of the status JSON.
  type: list
  elements: dict
  returned: always
scaled:
  description: Groups whose number of nodes was set in place of the inventory's, by name.
  type: dict
  returned: always
  sample: {"reports": {"nodes": 5, "declared": 2, "by": "the autoscaler"}}
processes:
  description: The units of the app that have any process on the host, also a child that outlived its worker. C(name) is the worker's
    name on the broker, where it gave itself another than its node's.
  type: list
  elements: dict
  returned: always
  sample: [{"unit": "workfleet.shop.reports.1.3", "engine": "celery", "pids": [4711, 4712], "name": null}]
problems:
  description: One sentence for each thing that is wrong.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import info, managers, payload
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.layout import Layout
from ..module_utils.workfleet.nodes.host_nodes import HostNodes
from ..module_utils.workfleet.nodes.request import Request
from ..module_utils.workfleet.release_choice import Words, standing


def main() -> None:
    """Parse, observe, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "worker_info")
        timeout, words, asking = given.pop("timeout"), Words(**given.pop("words")), given.pop("asking", None)
        request = Request.parse(given)
        manager = managers.named(request.manager, request.app, request.root, request.run_directory)
        found = info.look(HostNodes(request, manager), timeout, asking)
        hold, declared, wrong = standing(Layout(request.root), found["release"] if request.has_release else None, words)
        found.update(declared_release=declared, hold=hold.told if hold else None)
        found["problems"] += [wrong] if wrong else []
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
