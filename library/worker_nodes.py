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
    It calls the module again and again, for a few seconds each, while nodes start and drain, and shows the progress.
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
  task:
    description:
      - What is to be done, in a word. Without one all is done at once, the replacement of running nodes too.
      - V(adjust) replaces no running node, and V(restart) all of them, also where they are current.
      - The other words are the turns of a rollout over several hosts. What ran before is remembered on each host till the rollout
        ends, since it may fail on another one. From the first replaced node on, or from V(begin), the host's lease is the run's till
        then, for ten minutes from its last task on this host.
      - V(begin) touches no node. It takes the lease, and with O(release) takes over what a run that was cut short remembers there.
      - V(converge) does all but the replacement of running nodes. Their number is returned in RV(stale). V(replace) replaces them.
      - V(rollout) does both. In two tasks, V(canary) replaces one node of each group that has stale nodes and none of the declared
        generation, and no more, and V(rest) does the rest.
      - All of them leave a running scheduler or dashboard of another generation as it is. V(singles) replaces these, and is about
        nothing else.
      - V(undo) brings back the nodes that ran before the rollout of this run of the playbook to this very declaration, or before one
        that was cut short and that this run has gone on with. It does nothing where there was none, or where it is forgotten.
        V(undo_singles) brings back the scheduler and the dashboard alone.
      - V(end) and V(pause) touch no node. V(end) forgets what ran before and gives the lease back; V(pause) gives it back and forgets
        nothing, so that a later run goes on.
    type: str
    choices: ["", adjust, restart, begin, converge, replace, rollout, canary, rest, singles, undo_singles, undo, end, pause]
    default: ""
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
  restart:
    description: Deprecated, use O(task=restart). It is read only where there is no O(task), as all of the deprecated options.
    type: bool
    default: false
  rollout_now:
    description: Deprecated, use O(task=adjust) or O(task=converge) in place of V(false).
    type: bool
    default: true
  converged:
    description: Deprecated, use O(task=replace) or O(task=rest). Whether a task before has done, or foretold, all but the replacement of
      running nodes.
    type: bool
    default: false
  canary:
    description: Deprecated, use O(task=canary) in place of V(only), and O(task=rest) in place of V(done).
    type: str
    choices: ["", only, done]
    default: ""
  singles:
    description: Deprecated, use O(task=rollout) in place of V(later), and O(task=singles) in place of V(only).
    type: str
    choices: ["", later, only]
    default: ""
  undoable:
    description: Deprecated, use O(task=rollout) or O(task=converge). Whether what ran before is remembered beyond the end of the task.
    type: bool
    default: false
  undo:
    description: Deprecated, use O(task=undo).
    type: bool
    default: false
  phase:
    description: Deprecated, use O(task) with the same words.
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
  description: Whether what ran before the rollout of this run was brought back, since it failed or by V(undo).
  type: bool
  returned: when the module did its work, or what ran before was brought back
more:
  description: Whether the action plugin has to call again.
  type: bool
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import managers, payload, reconcile
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.steps import report


def main() -> None:
    """Parse, observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    reconciler = None
    try:
        request = reconcile.Request.parse(payload.unpack(module.params["payload"], "worker_nodes"))
        manager = managers.named(request.manager, request.app, request.root, request.run_directory)
        reconciler = reconcile.Reconciler(request, manager, check=module.check_mode)
        result = {**reconcile.outcome_result(reconciler.call()), "ledger": reconciler.ledger(), "rolled_back": reconciler.is_undo}
    except WorkfleetError as error:
        # A run that was refused has begun nothing here: what could be undone is another's.
        can_undo = reconciler is not None and not error.details.get("locked") and reconciler.can_undo()
        done = {"steps": report(reconciler.outcome.steps, None) if reconciler else [], "can_undo": can_undo,
                "ledger": reconciler.ledger() if reconciler else []}
        module.fail_json(msg=str(error), **{**done, **error.details})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
