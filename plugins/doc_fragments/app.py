# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options that name an app, its worker groups and its nodes."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``workfleet.core.app``."""

    # The app and its groups, as every module takes them that needs the declaration.
    DOCUMENTATION = r"""
options:
  app:
    description: The values that all nodes of the app share, which are the C(app_*) variables without their prefix.
    type: dict
    required: true
  groups:
    description: The worker groups, as in C(worker_groups).
    type: list
    elements: dict
    default: []
  manager:
    description: The process manager of the nodes, as C(worker_manager).
    type: str
    choices: [systemd, supervisor]
    default: systemd
"""

    # The choice of groups.
    ONLY = r"""
options:
  only:
    description: Names of worker groups, separated by commas. An empty text selects all groups.
    type: str
    default: ""
"""

    # The directory of run records.
    RUN_DIRECTORY = r"""
options:
  run_directory:
    description: The directory of the run records and of the manager's socket. An empty text means C(/run/workfleet/<app>).
    type: str
    default: ""
"""

    # The part of an app that a host has.
    PARTS = r"""
options:
  parts:
    description: The parts of the app that the host has, which are V(workers), V(scheduler) and V(dashboard). Other words are ignored, so
      that the value can be the list of the host's inventory groups. An empty list means every part that is declared.
    type: list
    elements: str
    default: []
"""

    # The rest of the declaration of a host's nodes.
    NODES = r"""
options:
  scheduler:
    description: The scheduler of the app, as in C(worker_scheduler). An empty value means that the app has none.
    type: dict
    default: {}
  dashboard:
    description: The dashboard of the app, as in C(worker_dashboard). An empty value means that the app has none.
    type: dict
    default: {}
  rollout:
    description: The way in which nodes are replaced, as in C(worker_rollout).
    type: dict
    default: {}
  log:
    description: The place and the size of the nodes' logs, as in C(worker_log).
    type: dict
    default: {}
"""
