#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action ``deploy_report``, which runs on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deploy_report
short_description: Say what a deploy did
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Puts together what M(workfleet.core.worker_nodes) did on all hosts, and says it in one line.
  - Runs on the control node alone.
options:
  app:
    description: The app's name.
    type: str
    required: true
  release:
    description: The release that is current now.
    type: str
    required: true
  previous:
    description: The releases that were current before, on any host.
    type: list
    elements: str
    default: []
  done:
    description: The results of M(workfleet.core.worker_nodes), of which C(steps) and C(ledger) are read, each with its C(host).
    type: list
    elements: dict
    default: []
  began:
    description: When the rollout began, in seconds since 1970.
    type: float
    required: true
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Say what was done
  workfleet.core.deploy_report:
    app: shop
    release: 1f0c8a9be2d4
    previous: [77ab10c2e9f0]
    done: "{{ results }}"
    began: "{{ began }}"
  run_once: true
"""

RETURN = r"""
report:
  description: What was done.
  type: dict
  returned: always
  contains:
    from:
      description: The releases that were current before.
      type: list
      elements: str
    to:
      description: The release that is current now.
      type: str
    started:
      description: How many nodes were started.
      type: int
    replaced:
      description: How many nodes were replaced.
      type: int
    hosts:
      description: On how many hosts anything was done to a node.
      type: int
    seconds:
      description: How long it took, from when the release was built.
      type: float
    text:
      description: The line that is shown.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec={}, supports_check_mode=True).fail_json(
        msg="deploy_report works through its action plugin, on the control node: call it as workfleet.core.deploy_report")


if __name__ == "__main__":
    main()
