#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Send a canary task through queues and back."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: task_probe
short_description: Send a canary task through queues and back
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Puts a task into each queue, all at once, and waits until its result is in the result store.
  - By default the task is one that returns its arguments. For Celery it is C(celery.accumulate), which every app has.
    For the other engines it is C(workfleet.probe), which the toolkit's runner registers. Nothing needs to be added to an app.
  - Speaks to Redis itself and needs no packages on the host it runs on. Broker and result store may be different.
  - A canary that no worker took is removed from its queue again.
    One that a busy worker holds is dropped by that worker, since it carries an expiry.
options:
  broker_url:
    description:
      - The broker, as C(app_broker_url). Queues of a broker that is not Redis are returned as C(not proved).
      - Required without O(groups).
    type: str
  result_url:
    description: The result store, as C(app_result_url). Without one that is Redis the answer is C(not proved) at best.
    type: str
    default: ""
  engine:
    description: The engine of O(queues). With O(groups) each group tells its own.
    type: str
    default: celery
  queues:
    description: The queues. Required without O(groups).
    type: list
    elements: str
  timeout:
    description: Seconds that a canary may take from being sent to its result being read.
    type: float
    default: 30
  broker_options:
    description: Transport options that the app sets in its own code, as C(app_broker_options).
    type: dict
    default: {}
  task:
    description: The name of a task of the app's own, in place of the canary.
    type: str
    default: ""
  args:
    description: The positional arguments of O(task).
    type: list
    elements: raw
  kwargs:
    description: The keyword arguments of O(task).
    type: dict
    default: {}
  must_return:
    description: Whether the task fails where a canary did not come back.
    type: bool
    default: true
  must_begin:
    description: Whether a canary that no worker has begun in time counts as one that did not come back. Where V(false), busy workers
      are no failure.
    type: bool
    default: true
  app:
    description: The C(app_*) variables without their prefix. With O(groups) it tells the broker and the result store.
    type: dict
  groups:
    description: Worker groups, as in C(worker_groups). Their queues are probed, in place of O(queues).
    type: list
    elements: dict
  manager:
    description: As C(worker_manager), for the check of O(groups).
    type: str
  only:
    description: Names of worker groups with commas between them.
    type: str
    default: ""
  payload:
    description: Set by the action plugin. One opaque text, so that no password is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Sends nothing, and returns every queue as C(not proved).
  diff_mode:
    support: none
    description: Nothing is changed.
"""

EXAMPLES = r"""
- name: Prove that both queues are worked on
  workfleet.core.task_probe:
    broker_url: "{{ app_broker_url }}"
    result_url: "{{ app_result_url }}"
    queues: [reports, default]
    timeout: 10

- name: Prove it by a task of the app
  workfleet.core.task_probe:
    broker_url: "{{ app_broker_url }}"
    result_url: "{{ app_result_url }}"
    queues: [default]
    task: app.celery_app.health_check
"""

RETURN = r"""
probes:
  description: What became of each queue's canary, in the order of O(queues).
  type: list
  elements: dict
  returned: always
  contains:
    queue:
      description: The queue.
      type: str
    ok:
      description: Whether the canary came back as it should. V(null) where that can neither be proved nor denied.
      type: bool
    state:
      description: One of V(ok), V(not proved), V(failed).
      type: str
    seconds:
      description: From sending to the last word. V(null) where nothing was sent.
      type: float
    reason:
      description: What was observed. V(null) where all is well.
      type: str
    begun:
      description: Whether a worker has begun it in time, as far as that can be told.
      type: bool
  sample: [{"queue": "reports", "ok": true, "state": "ok", "seconds": 0.01, "reason": null, "begun": true}]
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import consumers, payload
from ..module_utils.workfleet.engines import taskqueues
from ..module_utils.workfleet.engines.verbs import probe
from ..module_utils.workfleet.errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterable


def prove(request: probe.Request, ours: dict[str, Any] | None) -> Iterable[probe.Proof]:
    """Send the canaries; of an app's nodes only their own answers prove anything."""
    proofs = taskqueues.named(request.engine).probe(request)
    return consumers.judged(proofs, request, consumers.Ours(**ours)) if ours else proofs


def main() -> None:
    """Parse, probe, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        values = payload.unpack(module.params["payload"], "task_probe")
        must_return = values.pop("must_return", True)
        ours = values.pop("ours", None)
        must_begin = values.pop("must_begin", True)
        requests = [probe.parse(entry) for entry in values["requests"]]
        if module.check_mode:
            proofs = [proof for request in requests for proof in probe.not_proved(request.queues, "check mode: nothing was sent")]
        else:
            proofs = [proof for request in requests for proof in prove(request, ours)]
        probes = probe.result(proofs)
        silent = [f"{proof.queue}: {proof.reason}" for proof in proofs if proof.ok is False and (proof.begun or must_begin)]
        if silent and must_return:
            count = f"{len(silent)} of {len(proofs)} canaries did not come back"
            raise WorkfleetError(f"{count}. {'. '.join(silent)}", probes=probes, blame=f"{count}: {silent[0]}")
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, probes=probes)


if __name__ == "__main__":
    main()
