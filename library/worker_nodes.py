#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reconcile all worker nodes of an app on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_nodes
short_description: Reconcile all worker nodes of an app on a host
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Creates, starts, stops, replaces and removes units or programs, until the worker nodes of one app on one host are as declared.
  - A node is replaced only where the start parameters of its process (command, environment, limits, release) differ from the declaration.
  - The action plugin checks the declaration and renders all texts on the control node. It calls the module repeatedly, for a few seconds
    each, while nodes start and drain, and shows the progress.
  - A rollout stops at the first new node that does not become ready. With C(failure_action) V(rollback) the task then restores the snapshot
    before the rollout on this host, and fails with the last log lines of that node.
options:
  templates:
    description: A directory on the control node that is searched for templates before the toolkit's own directory.
    type: str
    default: ""
  release:
    description: The release of the nodes. An empty text means the current release.
    type: str
    default: ""
  only:
    description: Names of worker groups, separated by commas. All other nodes of the host stay as they are.
    type: str
    default: ""
  state:
    description: The state of the selected groups, in place of the declared one.
    type: str
    choices: ["", started, stopped, absent]
    default: ""
  task:
    description:
      - The work of this task, in one word. Without a word the task does all of it, the replacement of running nodes too.
      - V(adjust) replaces no running node, and V(restart) all of them, also where they are current.
      - The other words are the turns of a rollout over several hosts. Each host keeps the snapshot before the rollout until the
        rollout ends, since it may fail on another host. From the first replaced node on, or from V(begin), the run keeps the lease
        of the host until then, for at most ten minutes after its last task on this host.
      - V(begin) touches no node. It takes the lease, and with O(release) takes over the snapshot of an interrupted run.
      - V(converge) does all but the replacement of running nodes. Their number is returned in RV(stale). V(replace) replaces them.
      - V(rollout) does both. In two tasks, V(canary) replaces one node of each group that has stale nodes and none of the declared
        generation, and no more, and V(rest) does the rest.
      - All of them leave a running scheduler or dashboard of another generation as it is. V(singles) replaces these, and is about
        nothing else.
      - V(undo) restores the snapshot before the rollout. It has an effect where this run, or an interrupted run that this run has
        continued, has started a rollout to the same declaration and its snapshot is still there. V(undo_singles) restores the
        scheduler and the dashboard alone.
      - V(end) and V(pause) touch no node. V(end) removes the snapshot and releases the lease. V(pause) releases the lease and keeps the
        snapshot, so that a later run can go on.
    type: str
    choices: ["", adjust, restart, begin, converge, replace, rollout, canary, rest, singles, undo_singles, undo, end, pause]
    default: ""
  scale:
    description: The new numbers of nodes by the name of the group, each with C(nodes) and C(by). They are kept on this host until C(nodes)
      of the group's entry changes. Other groups are not touched. With C(follows) a group whose nodes were all stopped is left alone.
    type: dict
    default: {}
  nodes:
    description: V(inventory) removes the numbers of nodes that were set by O(scale). Another value is refused without O(scale).
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
    description: Deprecated, use O(task=replace) or O(task=rest). Whether an earlier task has done, or predicted, all steps but the
      replacement of running nodes.
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
    description: Deprecated, use O(task=rollout) or O(task=converge). Whether the snapshot before the rollout is kept beyond the end of the
      task.
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
    description: Environment variables of the pip that installs supervisor, as C(app_pip_environment).
    type: dict
    default: {}
  kill:
    description: Whether nodes that are removed are killed without draining. The task reports the tasks that are cut short, as far as the
      engine knows them.
    type: bool
    default: false
  after_stop:
    description: Whether, in check mode, an earlier task has predicted that all nodes are stopped.
    type: bool
    default: false
  lock_seconds:
    description: The time in seconds to wait for the lease of another run on the same nodes.
    type: int
    default: 30
extends_documentation_fragment:
  - workfleet.core.app
  - workfleet.core.app.parts
  - workfleet.core.app.nodes
  - workfleet.core.app.run_directory
  - workfleet.core.payload
  - workfleet.core.attributes.steps
"""

EXAMPLES = r"""
- name: Run three nodes for the reports queue
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
  description: The steps in their order, taken or, in check mode, predicted.
  type: list
  elements: dict
  returned: always
  sample:
    - {"host": "web1", "unit": "workfleet.shop.reports.1.1", "group": "reports", "slot": 1, "incarnation": 1, "action": "start",
       "reason": "it is not running"}
nodes:
  description: The nodes on the host after the task.
  type: list
  elements: dict
  returned: always
ledger:
  description:
    - The tasks of each node that a rollout or a scale-down has told to stop, with the keys of M(workfleet.core.worker_drain). A node is
      listed until its remains are removed.
    - C(state) is V(gone), V(killed) at the end of its time, V(died), or V(draining). A draining node has C(running_before) and the
      C(seconds) so far, its other figures are null, and a later run returns them.
    - Nodes of engine C(process), the scheduler and the dashboard have no tasks and no entry.
  type: list
  elements: dict
  returned: always
  sample:
    - {"node": "shop.reports.1.1@web1", "running_before": 1, "finished": 1, "returned": 3, "lost": 0, "duplicates": 0, "seconds": 4.2,
       "state": "gone"}
notes:
  description: Notices for people.
  type: list
  elements: str
  returned: always
warned:
  description: Findings from before the start of nodes that do not prevent it.
  type: list
  elements: str
  returned: always
stale:
  description: The number of running nodes of another generation that are not replaced yet.
  type: int
  returned: always
remembered:
  description: Whether the host has a snapshot before a rollout, because the rollout is under way or was interrupted.
  type: bool
  returned: always
rolled_back:
  description: Whether the snapshot before the rollout of this run was restored, after a failure or by O(undo).
  type: bool
  returned: when the module did its work, or the snapshot was restored
more:
  description: Whether the action plugin has to call the module again.
  type: bool
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import managers, payload
from ..module_utils.workfleet.arguments.worker_nodes import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.host.steps import report
from ..module_utils.workfleet.nodes.reconcile import Reconciler
from ..module_utils.workfleet.nodes.request import Request


def main() -> None:
    """Parse, observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
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
