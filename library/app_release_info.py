#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the releases of an app on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: app_release_info
short_description: Read the releases of an app on a host
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Returns the current release of a host, the release of a rollback, the release hold, and the release commands that were run.
  - A run that is limited to some hosts asks the other hosts of the fleet by this module.
options:
  name:
    description: The name of the app.
    type: str
    required: true
  root:
    description: The directory of the app on the host.
    type: str
    required: true
extends_documentation_fragment:
  - workfleet.core.payload
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Read the releases of the shop
  workfleet.core.app_release_info:
    name: shop
    root: /opt/shop
  register: shop_releases
"""

RETURN = r"""
known:
  description: The releases of the host. Where the host does not have the app, its values are empty.
  returned: success
  type: dict
  contains:
    current:
      description: The current release, or null.
      type: str
    previous:
      description: The release that C(rollback.yml) would activate, or null.
      type: str
    hold:
      description: The release hold of this host, or null.
      type: dict
    commands:
      description: The digests of the release commands that were run, by release.
      type: dict
    releases:
      description: The releases on the host, each with its C(source) and C(version).
      type: dict
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.app_release_info import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.host import release_choice
from ..module_utils.workfleet.release import fleet


def main() -> None:
    """Look, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "app_release_info")
        known = fleet.look(given["name"], given["root"], release_choice.Words(**given["words"]))
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, known=asdict(known))


if __name__ == "__main__":
    main()
