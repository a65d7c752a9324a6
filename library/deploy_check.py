#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at a host before a deploy."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deploy_check
short_description: Look at a host before a deploy
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Without O(release) it looks at the host itself, which are its clock, its disk, its processors and what it sees of the broker.
  - With O(release) it has that release's own Python tell what tasks it registers, in the environment of the nodes, and reads from the
    broker what tasks wait. Messages are never unpickled, and of a long queue the first thousands are read. It asks the current release
    too, and Celery's nodes what tasks they have run.
  - It judges nothing. M(workfleet.core.deploy_gate) puts what all hosts told together.
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
    description: The app's scheduler, as in C(worker_scheduler).
    type: dict
    default: {}
  dashboard:
    description: The app's dashboard, as in C(worker_dashboard).
    type: dict
    default: {}
  parts:
    description: What of these the host has, as for M(workfleet.core.worker_nodes).
    type: list
    elements: str
    default: []
  manager:
    description: The process manager.
    type: str
    choices: [systemd, supervisor]
    default: systemd
  run_directory:
    description: As C(worker_run_directory).
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
    description: As C(worker_only). Drained nodes of other groups are nothing to the deploy.
    type: str
    default: ""
  release:
    description: The release that is to be rolled out. Empty means that there is none yet.
    type: str
    default: ""
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Look at the hosts before anything is built
  workfleet.core.deploy_check:
    app:
      name: shop
      root: /opt/shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups: "{{ worker_groups }}"
  register: looked
"""

RETURN = r"""
seen:
  description: What the host told. C(cpus), and in C(quiesced) the nodes that were told to take no new tasks. Without O(release)
    C(free_bytes), C(needed_bytes), C(broker) and C(counts), the nodes of each group as they were scaled; with it C(groups) and C(waiting).
  type: dict
  returned: success
clock:
  description: How far the host's clock is ahead of the control node's at least and at most, in seconds.
  type: list
  elements: float
  returned: success
nodes:
  description: Of each group on this host the engine, the number of nodes, the declared concurrency, how many new ones work beside old
    ones in a rollout, and how many old ones may still end tasks after it.
  type: list
  elements: list
  returned: without O(release)
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import consumers, managers, payload, preflight
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.nodes.host_nodes import HostNodes
from ..module_utils.workfleet.nodes.request import Request


def main() -> None:
    """Parse, look, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "deploy_check")
        asking = given.pop("asking", None)
        request = Request.parse(given)
        manager = managers.named(request.manager, request.app, request.root, request.run_directory)
        seen = preflight.look(HostNodes(request, manager), release=request.release)
        if asking and request.release is None:
            seen["strangers"] = consumers.look(asking)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, seen=seen)


if __name__ == "__main__":
    main()
