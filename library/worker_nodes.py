#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reconcile all worker nodes of an app on a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_nodes
short_description: Reconcile all worker nodes of an app on a host
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Makes the worker nodes of one app on one host be as declared. Creates, starts, stops, replaces and removes units or programs.
  - A node is replaced only when what it was really started with (command, environment, limits, release) differs from the declaration.
  - The action plugin of the same name checks the declaration and renders all texts on the control node.
    It calls the module again and again, at most five seconds each, while nodes start and drain, and shows the progress.
  - A replacement halts at the first new node that does not become ready, and with C(failure_action) V(rollback) the task then
    brings this host back to what ran before, and fails with that node's last log lines.
options:
  app:
    description: The O(app) values that nodes share, the C(app_*) variables without their prefix.
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
    description: How nodes are replaced, as in C(worker_rollout).
    type: dict
    default: {}
  log:
    description: Where nodes write, as in C(worker_log).
    type: dict
    default: {}
  templates:
    description: A directory on the control node that is searched for templates before the toolkit's own.
    type: str
    default: ""
  release:
    description: The release that nodes should run. Empty means the current one.
    type: str
    default: ""
  only:
    description: Names of worker groups with commas between them. Everything else on the host is left alone.
    type: str
    default: ""
  state:
    description: Overrides the state of the selected groups.
    type: str
    choices: ["", started, stopped, absent]
    default: ""
  restart:
    description: Replace the running nodes even where they are current.
    type: bool
    default: false
  rollout_now:
    description: Whether running nodes of another generation are replaced in this task. Their number is returned in RV(stale) in any case.
    type: bool
    default: true
  converged:
    description: Whether a task before has done, or foretold, all but the replacement of running nodes.
    type: bool
    default: false
  scale:
    description: New counts of nodes by the name of the group, each with C(nodes) and C(by). They hold on this host until C(nodes) of the
      group's entry changes. No other group is touched then. With C(follows) a group is left alone of which all nodes were stopped.
    type: dict
    default: {}
  nodes:
    description:
      - V(inventory) makes the counts of the entries hold again in place of those that were set. Others are refused without O(scale).
    type: str
    default: ""
  canary:
    description:
      - V(only) replaces one node of each group that has stale nodes and none of the declared generation, and no more.
      - V(done) says that a task before has done that. It matters in check mode, where that task has only foretold it.
    type: str
    choices: ["", only, done]
    default: ""
  singles:
    description:
      - V(later) leaves a running scheduler or dashboard of another generation for a later task, so that the workers of all hosts are
        replaced before it. V(only) is that task, and is about nothing else. They are no part of O(canary) V(only) in any case.
    type: str
    choices: ["", later, only]
    default: ""
  undoable:
    description:
      - Whether what ran before is remembered beyond the end of a rollout that goes well, since other hosts follow and one of
        them may fail. A later task without it, on a host where nothing is stale, forgets it.
      - With O(rollout_now) the host's lock stays with the run of the playbook till then, for ten minutes from its last task on this host.
    type: bool
    default: false
  undo:
    description:
      - Brings back the nodes that ran before the rollout of this run of the playbook to this very declaration, or before one that was
        cut short and that this run has gone on with. Does nothing where there was none, or where it is forgotten.
    type: bool
    default: false
  phase:
    description:
      - Touches no node. V(begin) takes the host's lock for this run of the playbook, as with O(undoable), and with O(release) takes over
        what a run that was cut short remembers there. V(end) forgets what ran before the rollout and gives the lock back; V(pause)
        gives it back and forgets nothing, so that a later run goes on.
    type: str
    choices: ["", begin, end, pause]
    default: ""
  pip_environment:
    description: Environment of the pip that installs supervisor, as C(app_pip_environment).
    type: dict
    default: {}
  kill:
    description: Do not let nodes that are to go end their tasks. What is cut short is told first, as far as the engine tells.
    type: bool
    default: false
  after_stop:
    description: In check mode, whether a task before has foretold that all nodes are stopped.
    type: bool
    default: false
  lock_seconds:
    description: How long to wait for another run that changes the same nodes.
    type: int
    default: 30
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: The same path without the last step. It predicts the steps of the real run.
  diff_mode:
    support: full
    description: Of a secret it says only whether it changes.
"""

EXAMPLES = r"""
- name: Have three nodes for the reports queue
  workfleet.core.worker_nodes:
    app:
      name: shop
      root: /opt/shop
      broker_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
    groups:
      - name: reports
        app: app.celery_app
        queues: [reports]
        nodes: 3
        concurrency: 4
        drain_seconds: 300
"""

RETURN = r"""
steps:
  description: What was done, or would be done, in the order of execution.
  type: list
  elements: dict
  returned: always
  sample:
    - {"host": "web1", "unit": "workfleet.shop.reports.1.1", "group": "reports", "slot": 1, "incarnation": 1, "action": "start",
       "reason": "it is not running"}
nodes:
  description: The nodes on the host afterwards.
  type: list
  elements: dict
  returned: always
ledger:
  description:
    - What became of the tasks of each node that a rollout or a scale-down told to go, as M(workfleet.core.worker_drain) has it. A node is
      among them from then on until its remains are removed.
    - C(state) is V(gone), V(killed) at its time, V(died), or V(draining); then only C(running_before) and the C(seconds) so far are told,
      the other figures are null, and a later run has them.
    - Nodes of engine C(process), the scheduler and the dashboard have no tasks and no line.
  type: list
  elements: dict
  returned: always
  sample:
    - {"node": "shop.reports.1.1@web1", "running_before": 1, "finished": 1, "returned": 3, "lost": 0, "duplicates": 0, "seconds": 4.2,
       "state": "gone"}
notes:
  description: Sentences for people.
  type: list
  elements: str
  returned: always
warned:
  description: What was found before nodes were started, and does not keep them from it.
  type: list
  elements: str
  returned: always
stale:
  description: How many running nodes are of another generation and not replaced yet.
  type: int
  returned: always
remembered:
  description: Whether what ran before a rollout is still remembered on the host, since that is under way or was cut short.
  type: bool
  returned: always
rolled_back:
  description: Whether what ran before the rollout of this run was brought back, since it failed or by O(undo).
  type: bool
  returned: when the module did its work, or what ran before was brought back
more:
  description: Whether the action plugin has to call again.
  type: bool
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import managers, payload
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.nodes.reconcile import Reconciler
from ..module_utils.workfleet.nodes.request import Request
from ..module_utils.workfleet.steps import report


def main() -> None:
    """Parse, observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    reconciler = None
    try:
        request = Request.parse(payload.unpack(module.params["payload"], "worker_nodes"))
        manager = managers.named(request.manager, request.app, request.root, request.run_directory)
        reconciler = Reconciler(request, manager, check=module.check_mode)
        result = {**reconciler.call().result(), "ledger": reconciler.ledger(), "rolled_back": reconciler.nodes.is_undo}
    except WorkfleetError as error:
        # A run that was refused has begun nothing here: what could be undone is another's.
        can_undo = reconciler is not None and not error.details.get("locked") and reconciler.can_undo()
        done = {"steps": report(reconciler.outcome.steps, None) if reconciler else [], "can_undo": can_undo,
                "ledger": reconciler.ledger() if reconciler else []}
        module.fail_json(msg=str(error), **{**done, **error.details})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
