#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Return what the worker nodes of an app on a host wrote."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_logs
short_description: Return what the worker nodes of an app on a host wrote
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Reads journals and log files, puts the lines of a traceback to the line that they belong to, and merges all nodes by time.
  - Of a file the last 1 MB is looked at, of a journal the last 1000 lines or 20 times what is wanted; with O(level) or O(since), 8 MB and
    20000 lines.
  - Changes nothing.
options:
  app:
    description: The values that nodes share, the C(app_*) variables without their prefix.
    type: dict
    required: true
  groups:
    description: The worker groups, as in C(worker_groups).
    type: list
    elements: dict
    default: []
  scheduler:
    description: The app's scheduler, as in C(worker_scheduler). Empty means that there is none.
    type: dict
    default: {}
  dashboard:
    description: The app's dashboard, as in C(worker_dashboard). Empty means that there is none.
    type: dict
    default: {}
  parts:
    description: What of these the host is to have, of C(workers), C(scheduler) and C(dashboard). Other words are passed over, so that
      it may be the host's inventory groups. Empty means all that is declared.
    type: list
    elements: str
    default: []
  manager:
    description: The process manager.
    type: str
    choices: [systemd, supervisor]
    default: systemd
  run_directory:
    description: Where run records and the manager's socket are. Empty means C(/run/workfleet/<app>).
    type: str
    default: ""
  rollout:
    description: As in C(worker_rollout).
    type: dict
    default: {}
  log:
    description: As in C(worker_log).
    type: dict
    default: {}
  only:
    description: Names of worker groups with commas between them.
    type: str
    default: ""
  lines:
    description: How many entries of each node, the last ones. 0 means all that is looked at.
    type: int
    default: 100
  level:
    description: Only entries of this level and above, one of C(debug), C(info), C(warning), C(error), C(critical). Lines that do not say
      their level are left out then; tracebacks count as errors.
    type: str
    default: ""
  since:
    description: Only entries since then. An age such as C(90s), C(10m), C(2h), C(1d), a time of today such as C(12:30), or a date and
      time. Times are those of the control node.
    type: str
    default: ""
  follow:
    description: Whether to show entries as they come, until it is interrupted.
    type: bool
    default: false
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Read the errors of the last ten minutes
  workfleet.core.worker_logs:
    app:
      name: shop
      root: /opt/shop
    groups: "{{ worker_groups }}"
    level: error
    since: 10m
  register: written
"""

RETURN = r"""
entries:
  description: What was written, oldest first.
  type: list
  elements: dict
  returned: always
  contains:
    unit:
      description: The node's unit.
      type: str
      returned: always
    at:
      description: Unix time. Where a line does not tell it, that of its neighbour.
      type: float
      returned: always
    level:
      description: One of C(debug), C(info), C(warning), C(error), C(critical), or null where the line does not tell.
      type: str
      returned: always
    text:
      description: The line as it was written, with those that belong to it.
      type: str
      returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import logs, managers, payload
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Read, put together, choose, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "worker_logs")
        manager = managers.named(given["manager"], given["app"], given["root"], given["run_directory"])
        wish, only = logs.Wish(**given["wish"]), given["only"]
        names = [node.name for node in manager.present() if only is None or node.name.group in only]
        found = [logs.result(str(name), entry) for name in names for entry in wish.of(logs.read(manager.streams(name, wish)))]
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, entries=sorted(found, key=lambda entry: entry["at"] or 0.0))


if __name__ == "__main__":
    main()
