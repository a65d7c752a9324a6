#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell what a host knows of the releases of an app."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: app_release_info
short_description: Tell what a host knows of the releases of an app
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Tells which release is current on a host, which one it would go back to, what it holds, and which release commands were run.
  - A run that is limited to some hosts asks the others of the fleet so.
options:
  name:
    description: Name of the app.
    type: str
    required: true
  root:
    description: Directory of the app on the host.
    type: str
    required: true
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Look at the releases of the shop
  workfleet.core.app_release_info:
    name: shop
    root: /opt/shop
  register: shop_releases
"""

RETURN = r"""
known:
  description: What the host knows; without the app there it is nothing.
  returned: success
  type: dict
  contains:
    current:
      description: The current release, or null.
      type: str
    previous:
      description: The release that C(rollback.yml) would go back to, or null.
      type: str
    hold:
      description: The hold of this host, or null.
      type: dict
    commands:
      description: Digests of the release commands that were run, by release.
      type: dict
    releases:
      description: The releases that are there, each with its C(source) and C(version).
      type: dict
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import fleet, payload, release_choice
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Look, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "app_release_info")
        known = fleet.look(given["name"], given["root"], release_choice.Words(**given["words"]))
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, known=asdict(known))


if __name__ == "__main__":
    main()
