#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Send a canary task through queues and wait for its result."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: task_probe
short_description: Send a canary task through queues and wait for its result
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Puts a task into each queue, all at once, and waits until its result is in the result store.
  - The default task returns its arguments. For Celery it is C(celery.accumulate), which every app has. For the other engines it is
    C(workfleet.probe), which the toolkit's runner registers. An app needs no change.
  - The host needs no packages, because the module has its own client for Redis. Broker and result store may be different servers.
  - A canary that no worker took is removed from its queue. A canary that a busy worker has reserved expires there.
options:
  broker_url:
    description:
      - The broker, as C(app_broker_url). Queues of a broker that is not Redis are returned as C(not proved).
      - It is required without O(groups).
    type: str
  result_url:
    description: The result store, as C(app_result_url). Without a Redis as result store no queue is better than C(not proved).
    type: str
    default: ""
  engine:
    description: The engine of O(queues). With O(groups) each group names its own engine.
    type: str
    default: celery
  queues:
    description: The names of the queues. They are required without O(groups).
    type: list
    elements: str
  timeout:
    description: The time in seconds from the sending of a canary to its result.
    type: float
    default: 30
  broker_options:
    description: The transport options that the app sets in its code, as C(app_broker_options).
    type: dict
    default: {}
  task:
    description: The name of a task of the app, in place of the canary.
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
    description: Whether the task of Ansible fails where a canary has no result in time.
    type: bool
    default: true
  must_begin:
    description: Whether a canary that no worker has started in time counts as failed. With V(false) busy workers are no failure.
    type: bool
    default: true
  app:
    description: The C(app_*) variables without their prefix. With O(groups) they name the broker and the result store.
    type: dict
  groups:
    description: The worker groups, as in C(worker_groups). Their queues are probed in place of O(queues).
    type: list
    elements: dict
  manager:
    description: The process manager of O(groups), as C(worker_manager).
    type: str
    choices: [systemd, supervisor]
    default: systemd
attributes:
  check_mode:
    support: full
    description: The task sends nothing, and returns every queue as C(not proved).
extends_documentation_fragment:
  - workfleet.core.app.only
  - workfleet.core.attributes.no_diff
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Prove that both queues are consumed
  workfleet.core.task_probe:
    broker_url: "{{ app_broker_url }}"
    result_url: "{{ app_result_url }}"
    queues: [reports, default]
    timeout: 10

- name: Prove it with a task of the app
  workfleet.core.task_probe:
    broker_url: "{{ app_broker_url }}"
    result_url: "{{ app_result_url }}"
    queues: [default]
    task: app.celery_app.health_check
"""

RETURN = r"""
probes:
  description: The outcome of each queue's canary, in the order of O(queues).
  type: list
  elements: dict
  returned: always
  contains:
    queue:
      description: The name of the queue.
      type: str
    ok:
      description: Whether the right result came back. V(null) where that is neither proved nor disproved.
      type: bool
    state:
      description: One of V(ok), V(not proved), V(failed).
      type: str
    seconds:
      description: The time from the sending to the last observation. V(null) where nothing was sent.
      type: float
    reason:
      description: The observation behind a state that is not V(ok), else V(null).
      type: str
    begun:
      description: Whether a worker is known to have started the canary in time.
      type: bool
  sample: [{"queue": "reports", "ok": true, "state": "ok", "seconds": 0.01, "reason": null, "begun": true}]
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.task_probe import ARGUMENTS
from ..module_utils.workfleet.engines import taskqueues
from ..module_utils.workfleet.engines.verbs import probe
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.nodes import consumers

if TYPE_CHECKING:
    from collections.abc import Iterable


def prove(request: probe.Request, ours: dict[str, Any] | None) -> Iterable[probe.Proof]:
    """Send the canaries; of an app's nodes only their own answers prove anything."""
    proofs = taskqueues.named(request.engine).probe(request)
    return consumers.judged(proofs, request, consumers.Ours(**ours)) if ours else proofs


def main() -> None:
    """Parse, probe, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
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
