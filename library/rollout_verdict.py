#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action ``rollout_verdict``, which runs on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rollout_verdict
short_description: Judge how a rollout goes on
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Puts together what the turns of a rollout came to on all hosts, as the role worker keeps them. Says what this host does next,
    whether its nodes go back, and how the rollout ends.
  - Runs on the control node alone.
options:
  playbook:
    description: Whose rollout it is. Only V(site) and V(deploy) bring hosts back.
    type: str
    choices: [site, deploy, rollback]
    required: true
  hosts:
    description: The hosts that may have a part in it. Those without a turn have none.
    type: list
    elements: str
    required: true
  task:
    description: The turn that this host would have now, a word of O(workfleet.core.worker_nodes#module:task), or V(verify) or V(current).
    type: str
    default: ""
  release:
    description: The release that is rolled out, for people.
    type: str
    default: ""
  gone:
    description: Hosts that cannot be reached at the end.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: See whether a host before this one failed
  workfleet.core.rollout_verdict:
    playbook: deploy
    hosts: "{{ groups.workers }}"
    task: rollout
  register: verdict
"""

RETURN = r"""
task:
  description: The turn of this host; empty where a host has failed, so that it has none. It is V(rest) in place of V(rollout) where
    this host had the canary.
  type: str
  returned: always
goes_back:
  description: Whether the nodes of this host go back.
  type: bool
  returned: always
goes_on:
  description: Whether the release is made current at the end.
  type: bool
  returned: always
returns_to:
  description: The release, or V(running), that is made current on this host again, where hosts go back; empty where there is none.
  type: str
  returned: always
hold:
  description: How that is held, as O(workfleet.core.app_release#module:hold).
  type: str
  returned: always
why:
  description: What failed of the release; empty where it was something around it.
  type: str
  returned: always
end:
  description: The turn that ends the rollout on this host, V(end) or V(pause).
  type: str
  returned: always
lost:
  description: What could not be brought back, or made current, on this host.
  type: str
  returned: always
outcome:
  description: What failed, and what comes of it; empty where nothing failed.
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
