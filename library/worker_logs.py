#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the logs of the worker nodes of an app on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_logs
short_description: Read the logs of the worker nodes of an app on a host
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Reads journals and log files, joins the lines of a traceback to the entry that they belong to, and merges all nodes by time.
  - The task reads the last 1 MB of a file, and of a journal the last 1000 lines or 20 times O(lines). With O(level) or O(since) it reads
    8 MB and 20000 lines.
options:
  lines:
    description: The number of the last entries of each node. 0 means all entries that are read.
    type: int
    default: 100
  level:
    description: The lowest level of the entries, one of C(debug), C(info), C(warning), C(error), C(critical). Lines without a level are
      left out then, and a traceback counts as an error. An empty text selects all entries.
    type: str
    default: ""
  since:
    description: The start of the time range. It is an age such as C(90s), C(10m), C(2h), C(1d), a time of today such as C(12:30), or a date
      with a time, by the clock of the control node.
    type: str
    default: ""
  follow:
    description: Whether the task shows new entries until it is interrupted.
    type: bool
    default: false
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.parts
  - workfleet.core.app.nodes
  - workfleet.core.app.run_directory
  - workfleet.core.app.only
  - workfleet.core.payload
  - workfleet.core.attributes
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
  description: The entries, the oldest first.
  type: list
  elements: dict
  returned: always
  contains:
    unit:
      description: The unit of the node.
      type: str
      returned: always
    at:
      description: The Unix time of the entry. A line without a time has that of its neighbour.
      type: float
      returned: always
    level:
      description: One of C(debug), C(info), C(warning), C(error), C(critical), or null where the line has no level.
      type: str
      returned: always
    text:
      description: The line of the log, with the lines that belong to it.
      type: str
      returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import managers, payload
from ..module_utils.workfleet.arguments.worker_logs import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.managers import logs


def main() -> None:
    """Read, put together, choose, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
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
