#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a PostgreSQL with its users and databases: package, configuration and service in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: postgresql_server
short_description: Have a PostgreSQL with its users and databases
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Installs Debian's PostgreSQL where it is missing, writes a configuration file of its own, and makes users and databases.
  - A changed setting takes effect by a reload; the server is restarted only for what it cannot change live.
  - Passwords are sent and kept as SCRAM verifiers, and set only where they differ. Nothing is ever dropped.
options:
  app:
    description: Name of the app that owns this PostgreSQL. Another app's run refuses to change it.
    type: str
    required: true
  databases:
    description: Databases, each with O(databases[].name) and the O(databases[].owner) it belongs to.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the database.
        type: str
        required: true
      owner:
        description: User that it belongs to, one of O(users). Default is the one with the name of the database.
        type: str
  users:
    description: Users that may log in.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      password:
        description: The password, printable ASCII.
        type: str
        required: true
      databases:
        description: Databases that the user may connect to from O(users[].networks). Default is those that belong to it.
        type: list
        elements: str
      networks:
        description: Networks from which the user may log in, beside the host itself.
        type: list
        elements: str
        default: []
  listen:
    description: Addresses to listen on.
    type: list
    elements: str
    default: [127.0.0.1]
  settings:
    description: Settings by their own names. One that is taken out again gets the value it has without us.
    type: dict
    default: {}
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: partial
    description: The same steps are predicted that a run takes; of a server that is down, those for users and databases cannot be told.
  diff_mode:
    support: full
    description: Files are shown; passwords are in none of them.
"""

EXAMPLES = r"""
- name: Have a database that the worker hosts can reach
  workfleet.core.postgresql_server:
    app: shop
    listen: [127.0.0.1, 192.0.2.5]
    users:
      - name: shop
        password: "{{ vault_database_password }}"
        networks: [192.0.2.0/24]
    databases:
      - name: shop
    settings:
      max_connections: 400
"""

RETURN = r"""
steps:
  description: What was done, or would be, in the order of execution.
  returned: success
  type: list
  elements: dict
  sample:
    - host: db1
      unit: role shop
      group: null
      slot: null
      incarnation: null
      action: live
      reason: its password differs
port:
  description: Port of the server.
  returned: success
  type: int
version:
  description: Version of the running server, null where there is none.
  returned: success
  type: str
  sample: "15.14"
"""


from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload, postgresql_server, steps
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Parse, observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "postgresql_server")
        plan, server = postgresql_server.run(given["variables"], given["app"], module.check_mode)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    for warning in plan.warnings:
        module.warn(warning)
    module.exit_json(changed=bool(plan.steps), diff=plan.diff, steps=steps.report(plan.steps, given["host"]), **server)


if __name__ == "__main__":
    main()
