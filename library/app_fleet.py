#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action ``app_fleet``, which runs on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: app_fleet
short_description: Judge what all hosts of a fleet know of its releases
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Puts together what M(workfleet.core.app_release_info) told on the hosts of a play and on the others of the fleet, before anything is
    done. Release commands that any host has run are not run again. A host that joins gets the release of the others. Where something
    cannot be known, since a host cannot be asked or hosts do not agree, this says so, and fails where it matters.
  - Runs on the control node alone.
options:
  hosts:
    description: The hosts of the play.
    type: list
    elements: str
    required: true
  register:
    description: The name under which their results are registered.
    type: str
    required: true
  others:
    description: The hosts of the fleet that are not in the play.
    type: list
    elements: str
    default: []
  told:
    description: The results of the others, in their order.
    type: list
    elements: dict
    default: []
  source:
    description: As C(app_source).
    type: dict
    default: {}
  requirements:
    description: As C(app_requirements).
    type: list
    elements: str
    default: []
  shared_paths:
    description: As C(app_shared_paths).
    type: list
    elements: str
    default: []
  step_seconds:
    description: As C(app_step_seconds).
    type: float
    default: 3600
  release_commands:
    description: As C(app_release_commands).
    type: list
    elements: list
    default: []
  release:
    description: The release that is asked for by its id; empty means the declared one.
    type: str
    default: ""
  back:
    description: Whether the fleet goes back. Without O(release) it is to the one before.
    type: bool
    default: false
  joins:
    description: Whether hosts that have no release yet get the one of the others, where no other hosts are in the play.
    type: bool
    default: false
  word:
    description: What to do about release commands of which it is not known whether they were run.
    type: str
    default: ""
    choices: ["", run, skip]
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Judge what the hosts of the fleet know
  workfleet.core.app_fleet:
    hosts: "{{ ansible_play_hosts_all }}"
    register: known
    source: "{{ app_source }}"
  run_once: true
"""

RETURN = r"""
release:
  description: The release that this is about; null where none is declared.
  returned: success
  type: str
chooser:
  description: The host that chose it, where the fleet goes back.
  returned: success
  type: str
source:
  description: The source to build it from.
  returned: success
  type: dict
commands_done:
  description: Digests of the release commands that count as run.
  returned: success
  type: list
  elements: str
holds:
  description: What hosts outside of the play hold, each with the C(version) of the source of the release in use.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec={}, supports_check_mode=True).fail_json(
        msg="app_fleet works through its action plugin, on the control node: call it as workfleet.core.app_fleet")


if __name__ == "__main__":
    main()
