#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take an app away from a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: app_removal
short_description: Take an app away from a host
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Removes what the toolkit has put on a host for an app, when its nodes are gone - the app's directory with releases, environment
    and logs, its run directory, its supervisord, and the account and the group that were made for it.
  - Removes nothing that is not known to be the app's - a directory that does not tell so, an account whose home is elsewhere or by
    which another app runs. Packages stay.
  - Refuses while a node or a process of the app's account is there.
options:
  name:
    description: Name of the app.
    type: str
    required: true
  user:
    description: Account of the app. Default is O(name).
    type: str
  group:
    description: Group of the app. Default is O(name).
    type: str
  root:
    description: Directory of the app. Default is C(/opt/<name>).
    type: path
  run_directory:
    description: Directory of the nodes' run records; empty where there is none.
    type: str
    default: ""
  step:
    description: V(look) only lists what is there. V(confirm) asks for the typed confirmation where O(hosts) have found something, and
      changes nothing. V(remove) removes it.
    type: str
    choices: [look, confirm, remove]
    default: remove
  hosts:
    description: With V(confirm), the hosts that have looked.
    type: list
    elements: str
    default: []
  register:
    description: With V(confirm), the variable under which these hosts have registered what they found.
    type: str
    default: ""
  redis:
    description: With V(look), tell too whether the app's Redis is on the host.
    type: bool
    default: false
  confirm:
    description: The words C(absent <name>).
    type: str
    default: ""
  payload:
    description: Set by the action plugin.
    type: str
attributes:
  check_mode:
    support: full
    description: Foretells the same steps as a run, as if the nodes were gone.
  diff_mode:
    support: none
    description: The steps tell what is removed.
"""

EXAMPLES = r"""
- name: Take the shop away
  workfleet.core.app_removal:
    name: shop
    run_directory: /run/workfleet/shop
"""

RETURN = r"""
nodes:
  description: Units and programs of nodes that are on the host.
  returned: success
  type: list
  elements: str
  sample: [workfleet.shop.web.1.1]
servers:
  description: Redis servers of the app, by their packages.
  returned: success
  type: list
  elements: str
  sample: [redis]
steps:
  description: What was removed, or would be, in this order.
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

from ..module_utils.workfleet import payload, removal, steps
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "app_removal")
        is_look = given.pop("is_look")
        request = removal.Request.parse(given)
        found = removal.nodes(request)
        changes = removal.plan(request) if is_look or module.check_mode else removal.apply(request)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    told = steps.report([change.step for change in changes], request.host)
    module.exit_json(changed=bool(changes) and not is_look, nodes=found, servers=removal.servers(request), steps=told)


if __name__ == "__main__":
    main()
