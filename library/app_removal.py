#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove an app from a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: app_removal
short_description: Remove an app from a host
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Removes the files of an app after its nodes are gone. These are the app's directory with its releases, its environment and its logs, its
    run directory, its supervisord, and the account and the group that were created for it.
  - Files that are not known to belong to the app stay, such as a directory without the app's mark, or an account with another home or with
    another app. Packages stay too.
  - The task refuses to run while a node of the app or a process of its account exists.
options:
  name:
    description: The name of the app.
    type: str
    required: true
  user:
    description: The account of the app. The default is O(name).
    type: str
  group:
    description: The group of the app. The default is O(name).
    type: str
  root:
    description: The directory of the app. The default is C(/opt/<name>).
    type: path
  run_directory:
    description: The directory of the run records. An empty text means that there is none.
    type: str
    default: ""
  step:
    description: V(look) lists what is on the host. V(confirm) asks for the typed confirmation where O(hosts) have found anything, and
      changes nothing. V(remove) removes it.
    type: str
    choices: [look, confirm, remove]
    default: remove
  hosts:
    description: The hosts that have done V(look), for O(step=confirm).
    type: list
    elements: str
    default: []
  register:
    description: The variable in which these hosts have registered their results, for O(step=confirm).
    type: str
    default: ""
  redis:
    description: Whether O(step=look) also looks for the app's Redis.
    type: bool
    default: false
  confirm:
    description: The typed confirmation, which is the words C(absent <name>).
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: The task predicts the steps of a real run, as if the nodes were gone.
  diff_mode:
    support: none
    description: The steps list what is removed.
extends_documentation_fragment:
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Remove the shop
  workfleet.core.app_removal:
    name: shop
    run_directory: /run/workfleet/shop
"""

RETURN = r"""
nodes:
  description: The units and programs of nodes that are on the host.
  returned: success
  type: list
  elements: str
  sample: [workfleet.shop.web.1.1]
servers:
  description: The Redis servers of the app, by their packages.
  returned: success
  type: list
  elements: str
  sample: [redis]
steps:
  description: The steps in their order, taken or, in check mode, predicted.
  returned: success
  type: list
  elements: dict
  sample:
    - host: web1
      unit: directory /opt/shop
      group: null
      slot: null
      incarnation: null
      action: remove
      reason: the app is declared absent
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.app_removal import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.host import steps
from ..module_utils.workfleet.release import removal


def main() -> None:
    """Observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        request = removal.Request.parse(payload.unpack(module.params["payload"], "app_removal"))
        found = removal.nodes(request)
        changes = removal.plan(request) if request.is_look or module.check_mode else removal.apply(request)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    told = steps.report([change.step for change in changes], request.host)
    module.exit_json(changed=bool(changes) and not request.is_look, nodes=found, servers=removal.servers(request), steps=told)


if __name__ == "__main__":
    main()
