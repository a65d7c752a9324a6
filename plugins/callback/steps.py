"""Write the steps of a run to ``-e steps_json=FILE``, and its ledger or its measurements to ``-e result_json=FILE``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import shown

if TYPE_CHECKING:
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.playbook.play import Play

DOCUMENTATION = """
name: steps
type: notification
short_description: Write the steps and the ledger of a run to files
description:
  - With C(-e steps_json=FILE) every step that our modules report is written there, in check mode too, in the order of execution.
  - A run that fails has written the steps that were done until then.
  - With C(-e result_json=FILE) what became of the tasks of each node that drained is written there, and the report of a load.
"""


class CallbackModule(CallbackBase):
    """Collects the ``steps`` of results."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "workfleet.core.steps"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.steps: list[dict[str, Any]] = []
        self.pending: dict[str, list[dict[str, Any]]] = {}
        self.path: str | None = None
        self.ledger: dict[str, dict[str, Any]] = {}
        self.report: dict[str, Any] | None = None
        self.result_path: str | None = None

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Learn where to write."""
        given = play.get_variable_manager().extra_vars
        self.path, self.result_path = given.get("steps_json"), given.get("result_json")

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Take the steps of a task."""
        self.take(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Take the steps that were done before a failure."""
        self.take(result)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task is over when the next begins."""
        self.order()

    def order(self) -> None:
        """Note the steps of one task by host: those that worked at the same time have no other order."""
        for host in sorted(self.pending):
            self.steps += self.pending[host]
        self.pending = {}

    def take(self, result: CallbackTaskResult) -> None:
        """Note the steps of one result; ours are those that name an action and a reason."""
        ledger = result._result.get("ledger")
        if isinstance(ledger, list):
            self.ledger.update({line["node"]: line for line in ledger})
        report = result._result.get("report")
        if isinstance(report, dict) and "latency" in report:
            self.report = report
        steps = result._result.get("steps")
        if isinstance(steps, list):
            host = result._host.get_name()
            self.pending.setdefault(host, []).extend(
                {**step, "host": step.get("host") or host} for step in steps
                if isinstance(step, dict) and "action" in step and "reason" in step)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write the files."""
        self.order()
        told = self.report or [self.ledger[node] for node in sorted(self.ledger)]
        for path, values in ((self.path, self.steps), (self.result_path, told)):
            if path:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(shown.json_file(values))
