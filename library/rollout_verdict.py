#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide how a rollout goes on."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rollout_verdict
short_description: Decide how a rollout goes on
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Judges the results of all hosts of a rollout, which the role worker keeps, and returns the next turn of this host, whether its nodes are
    rolled back, and the end of the rollout.
  - The task runs on the control node only.
options:
  playbook:
    description: The playbook of the rollout. Only V(site) and V(deploy) roll hosts back.
    type: str
    choices: [site, deploy, rollback]
    required: true
  hosts:
    description: The hosts that may take part in the rollout. A host without a turn takes no part.
    type: list
    elements: str
    required: true
  task:
    description: The next turn of this host, a word of O(workfleet.core.worker_nodes#module:task), or V(verify) or V(current).
    type: str
    default: ""
  release:
    description: The release of the rollout, for messages.
    type: str
    default: ""
  gone:
    description: The hosts that cannot be reached at the end.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Stop the rollout after a host that failed
  workfleet.core.rollout_verdict:
    playbook: deploy
    hosts: "{{ groups.workers }}"
    task: rollout
  register: verdict
"""

RETURN = r"""
task:
  description: The turn of this host. It is empty where a host has failed, and V(rest) in place of V(rollout) where this host had the
    canary.
  type: str
  returned: always
goes_back:
  description: Whether the nodes of this host are rolled back.
  type: bool
  returned: always
goes_on:
  description: Whether the release is activated at the end.
  type: bool
  returned: always
returns_to:
  description: The release, or V(running), that is activated on this host again in a rollback, else an empty text.
  type: str
  returned: always
hold:
  description: The kind of the release hold after a rollback, as O(workfleet.core.app_release#module:hold).
  type: str
  returned: always
why:
  description: The failure of the release. It is empty where the release is not at fault.
  type: str
  returned: always
end:
  description: The turn that ends the rollout on this host, V(end) or V(pause).
  type: str
  returned: always
lost:
  description: The nodes or the release of this host that could not be restored or activated.
  type: str
  returned: always
outcome:
  description: The failure and its consequence. It is empty where nothing failed.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet.arguments.rollout_verdict import ARGUMENTS


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True).fail_json(
        msg="rollout_verdict works through its action plugin, on the control node: call it as workfleet.core.rollout_verdict")


if __name__ == "__main__":
    main()
