#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the state of the worker nodes of an app on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_info
short_description: Read the state of the worker nodes of an app on a host
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Reads the process manager and the start parameters of each process, and asks every node over the broker for its queues and running
    tasks.
  - The task ends as soon as all nodes have answered. An unknown figure is null and never 0.
options:
  timeout:
    description: The time in seconds to wait for the answers of nodes.
    type: float
    default: 2.0
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.parts
  - workfleet.core.app.nodes
  - workfleet.core.app.run_directory
  - workfleet.core.app.only
  - workfleet.core.payload
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Read the state of the nodes
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
  description: The release of the declared source, as of the last run that read the source, null where the inventory has changed since.
  type: str
  returned: always
hold:
  description: The release hold, or null. Its C(against) is V(configuration) where the hold ends with any change of what the inventory
    declares of the app, and V(release) where it ends with another release.
  type: dict
  returned: always
  sample: {"instead_of": "1f0c8a9be2d4", "use": "77ab10c2e9f0", "why": "rollback.yml", "against": "release"}
nodes:
  description: An entry for each node, in the form of the status JSON.
  type: list
  elements: dict
  returned: always
queues:
  description: The declared queues, in the form of the status JSON.
  type: list
  elements: dict
  returned: always
scaled:
  description: The groups whose number of nodes was set in place of the inventory's, by name.
  type: dict
  returned: always
  sample: {"reports": {"nodes": 5, "declared": 2, "by": "the autoscaler"}}
processes:
  description: The units of the app that have a process on the host, including a child that outlived its worker. C(name) is the name of the
    worker on the broker, where it differs from the name of the node.
  type: list
  elements: dict
  returned: always
  sample: [{"unit": "workfleet.shop.reports.1.3", "engine": "celery", "pids": [4711, 4712], "name": null}]
problems:
  description: A sentence for each problem.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import managers, payload
from ..module_utils.workfleet.arguments.worker_info import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.host.layout import Layout
from ..module_utils.workfleet.host.release_choice import Words, standing
from ..module_utils.workfleet.nodes import info
from ..module_utils.workfleet.nodes.host_nodes import HostNodes
from ..module_utils.workfleet.nodes.request import Request


def main() -> None:
    """Parse, observe, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
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
