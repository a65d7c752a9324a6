#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Choose one release for all hosts of a fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: app_fleet
short_description: Choose one release for all hosts of a fleet
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Compares the results of M(workfleet.core.app_release_info) of the hosts of a play and of the other hosts of the fleet, before anything
    is changed.
  - A release command that one host has run is not run again. A host that joins the fleet gets the release of the other hosts.
  - The task warns where a host cannot be asked or where hosts disagree, and fails where the answer matters.
  - The task runs on the control node only.
options:
  hosts:
    description: The hosts of the play.
    type: list
    elements: str
    required: true
  others:
    description: The hosts of the fleet that are not in the play.
    type: list
    elements: str
    default: []
  told:
    description: The results of O(others), in the same order.
    type: list
    elements: dict
    default: []
  source:
    description: The source of the app, as C(app_source).
    type: dict
    default: {}
  requirements:
    description: The requirements of the app, as C(app_requirements).
    type: list
    elements: str
    default: []
  shared_paths:
    description: The paths that outlive a release, as C(app_shared_paths).
    type: list
    elements: str
    default: []
  step_seconds:
    description: The time limit of each step, as C(app_step_seconds).
    type: float
    default: 3600
  release_commands:
    description: The commands of a release, as C(app_release_commands).
    type: list
    elements: list
    default: []
  release:
    description: The id of the wanted release. An empty text means the declared release.
    type: str
    default: ""
  back:
    description: Whether the fleet goes back to an earlier release. Without O(release) that is the previous one.
    type: bool
    default: false
  joins:
    description: Whether hosts without any release get the release of the other hosts. It has an effect only in a play of new hosts.
    type: bool
    default: false
  word:
    description: The decision on release commands of which no host can say whether they were run.
    type: str
    default: ""
    choices: ["", run, skip]
extends_documentation_fragment:
  - workfleet.core.hosts
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Choose the release of the fleet
  workfleet.core.app_fleet:
    hosts: "{{ ansible_play_hosts_all }}"
    register: known
    source: "{{ app_source }}"
  run_once: true
"""

RETURN = r"""
release:
  description: The id of the chosen release, null where no release is declared.
  returned: success
  type: str
chooser:
  description: The host that chose the release of a rollback.
  returned: success
  type: str
source:
  description: The source from which the release is built.
  returned: success
  type: dict
commands_done:
  description: The digests of the release commands that count as run.
  returned: success
  type: list
  elements: str
holds:
  description: The release holds of hosts outside of the play, each with the C(version) of the source of the release in use.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet.arguments.app_fleet import ARGUMENTS


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True).fail_json(
        msg="app_fleet works through its action plugin, on the control node: call it as workfleet.core.app_fleet")


if __name__ == "__main__":
    main()
