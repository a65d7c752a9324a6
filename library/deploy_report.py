#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Report a deploy in one line."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deploy_report
short_description: Report a deploy in one line
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Combines the results of M(workfleet.core.worker_nodes) of all hosts, and shows them in one line.
  - The task runs on the control node only.
options:
  app:
    description: The name of the app.
    type: str
    required: true
  release:
    description: The release that is current now.
    type: str
    required: true
  previous:
    description: The releases that were current before the deploy, on any host.
    type: list
    elements: str
    default: []
  done:
    description: The results of M(workfleet.core.worker_nodes), each with its C(host). The task reads C(steps) and C(ledger).
    type: list
    elements: dict
    default: []
  began:
    description: The start of the rollout, in seconds since 1970.
    type: float
    required: true
extends_documentation_fragment:
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Report the deploy
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
  description: The report.
  type: dict
  returned: always
  contains:
    from:
      description: The releases that were current before the deploy.
      type: list
      elements: str
    to:
      description: The release that is current now.
      type: str
    started:
      description: The number of started nodes.
      type: int
    replaced:
      description: The number of replaced nodes.
      type: int
    hosts:
      description: The number of hosts on which nodes were started or stopped.
      type: int
    seconds:
      description: The duration of the rollout, which starts when the release is built.
      type: float
    text:
      description: The line that is shown.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet.arguments.deploy_report import ARGUMENTS


def main() -> None:
    """Refuse to run on a host."""
    AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True).fail_json(
        msg="deploy_report works through its action plugin, on the control node: call it as workfleet.core.deploy_report")


if __name__ == "__main__":
    main()
