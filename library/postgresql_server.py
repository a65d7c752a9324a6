#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install PostgreSQL with its users and databases."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: postgresql_server
short_description: Install PostgreSQL with its users and databases
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Installs Debian's PostgreSQL where it is missing, writes a configuration file of its own, and creates users and databases.
  - A changed setting takes effect by a reload. The server is restarted only for settings that it cannot change while it runs.
  - Passwords are sent and stored as SCRAM verifiers, and set only where they differ. No user and no database is ever dropped.
options:
  app:
    description: The name of the app that owns this PostgreSQL. A run of another app refuses to change it.
    type: str
    required: true
  databases:
    description: The databases, each with its O(databases[].name) and its O(databases[].owner).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the database.
        type: str
        required: true
      owner:
        description: The user that owns the database, one of O(users). The default is the user with the name of the database.
        type: str
  users:
    description: The users that may log in.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the user.
        type: str
        required: true
      password:
        description: The password in printable ASCII.
        type: str
        required: true
      databases:
        description: The databases that the user may connect to from O(users[].networks). The default is the databases that the user owns.
        type: list
        elements: str
      networks:
        description: The networks from which the user may log in, beside the host itself.
        type: list
        elements: str
        default: []
  listen:
    description: The addresses that the server listens on.
    type: list
    elements: str
    default: [127.0.0.1]
  settings:
    description: Settings by their own names. A setting that is removed from the value gets the server's default again.
    type: dict
    default: {}
attributes:
  check_mode:
    support: partial
    description: The task predicts the steps of a real run.
    details: The steps for users and databases cannot be predicted while the server is down.
  diff_mode:
    support: full
    description: The diff shows files, and no file holds a password.
extends_documentation_fragment:
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Install a database for the worker hosts
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
  description: The steps in their order, taken or, in check mode, predicted.
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
  description: The port of the server.
  returned: success
  type: int
version:
  description: The version of the running server, null where none runs.
  returned: success
  type: str
  sample: "15.14"
"""


from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.postgresql_server import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.host import steps
from ..module_utils.workfleet.postgresql import server as postgresql_server


def main() -> None:
    """Parse, observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
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
