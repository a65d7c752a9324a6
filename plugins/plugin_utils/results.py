"""The files of a run, ``-e steps_json=FILE`` and ``-e result_json=FILE``: each task of ours that has something to tell writes them anew.

No callback is needed, so that they are there whatever an ansible.cfg enables; a run that fails has written what was done until then.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: The extra variables that name the files.
STEPS, RESULT = "steps_json", "result_json"


class Told:
    """What the tasks of a run have told until now. They run in processes of their own, so that it is kept in a file between them."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self.tasks: list[dict[str, Any]] = list(kept.get("tasks", ()))
        self.ledger: dict[str, Any] = dict(kept.get("ledger", {}))
        self.report: dict[str, Any] | None = kept.get("report")

    def add(self, result: Mapping[str, Any], task: str, host: str, batch: Sequence[str]) -> None:
        """Take the result of a task on a host; ``batch`` are the hosts that work on it at the same time."""
        ledger, report, steps = result.get("ledger"), result.get("report"), result.get("steps")
        if isinstance(ledger, list):
            self.ledger.update({line["node"]: line for line in ledger})
        if isinstance(report, dict) and "latency" in report:
            self.report = report
        if not isinstance(steps, list) or not steps:
            return
        last = self.tasks[-1] if self.tasks else {}
        if last.get("task") != task or host not in last["batch"] or host in last["steps"]:
            last = {"task": task, "batch": list(batch), "steps": {}}
            self.tasks = [*({"steps": each["steps"]} for each in self.tasks), last]
        last["steps"][host] = [{**step, "host": step.get("host") or host} for step in steps
                               if isinstance(step, dict) and "action" in step and "reason" in step]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Return the steps in the order of tasks, and of one task by host: those that worked at the same time have no other order."""
        return [step for each in self.tasks for host in sorted(each["steps"]) for step in each["steps"][host]]

    @property
    def outcome(self) -> Any:
        """Return the measurements of the run, or what became of the tasks of each node."""
        return self.report or [self.ledger[node] for node in sorted(self.ledger)]


def keep(run: int, given: Mapping[str, Any], result: Mapping[str, Any], task: str, host: str, batch: Sequence[str]) -> None:
    """Write the files that the extra variables ask for, with what a task has told; the first task of a run begins them.

    ``run`` is the process id of the ansible-playbook.
    """
    wanted = {name: str(given[name]) for name in (STEPS, RESULT) if given.get(name)}
    if not wanted:
        return
    with _kept(run) as file:
        text = file.read()
        if text and not any(result.get(key) for key in ("steps", "ledger", "report")):
            return
        told = Told(json.loads(text or "{}"))
        told.add(result, task, host, batch)
        for name, path in wanted.items():
            try:
                with open(path, "w", encoding="utf-8") as written:
                    written.write(shown.json_file(told.steps if name == STEPS else told.outcome))
            except OSError as error:
                raise AnsibleActionFail(f"{name} = {path}: cannot be written: {error.strerror}") from None
        file.seek(0)
        file.truncate()
        json.dump({"tasks": told.tasks, "ledger": told.ledger, "report": told.report}, file)


@contextlib.contextmanager
def _kept(run: int) -> Iterator[Any]:
    """Give the file between the tasks of a run, to one of them at a time; it is in a directory that Ansible removes at the end."""
    folder = os.path.join(constants.DEFAULT_LOCAL_TMP, f"workfleet-{run}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, "told.json"), "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file
