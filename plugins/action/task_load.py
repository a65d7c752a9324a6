"""Decide on the control node what is to be sent, have one host send it, and show how it goes."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import engines
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines import taskqueues
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.verbs.traffic import Order
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.queues import load
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, background, eventtext, queues


class ActionModule(actions.Action):
    """The control node's half of ``task_load``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the report; fails where a task did not come back, or came back as a failure."""
        wrong = load.check(values["count"], values["rate"], values["sample_seconds"])
        if wrong:
            raise AnsibleActionFail(f"{'; '.join(wrong)} (nothing was sent)")
        order = self.order(values, task_vars)
        what = self.what(order)
        result: dict[str, Any] = {"changed": False, "report": None}
        if self._task.check_mode:
            self._display.display(f"  would send {what}; nothing was sent")
            return result
        self._display.display(f"  {what}")
        watched = background.Watched(self, "task_load", task_vars)
        for item in watched.items(order):
            if "begun" in item:
                for queue, waiting in item["begun"]["waiting"].items():
                    if waiting:
                        self._display.display(f"  {queue}: {waiting} tasks wait in it already, and are in the way", color="yellow")
            elif "progress" in item:
                self._display.display(f"  {eventtext.progress(item['progress'])}")
            elif "report" in item:
                result["report"] = item["report"]
        if result["report"] is not None:
            self.tell(result["report"])
        if watched.failure is not None:
            return {**result, **watched.failure}
        told = result["report"] or {}
        if told.get("unanswered") or told.get("failed") or told.get("cut_short"):
            result.update(failed=True, msg=f"of {told['sent']} tasks {told['unanswered']} did not come back, and {told['failed']} failed")
        return result

    def order(self, values: dict[str, Any], task_vars: dict[str, Any]) -> Order:
        """Return what the host is to send."""
        declared = queues.declarations(values, task_vars, self._templar)
        app = declared[0].app
        groups = {group.name: group for each in declared for group in each.groups if engines.named(group.engine).speaks}
        only = [values["group"]] if values["group"] else actions.only(values)
        if values["group"] and values["group"] not in groups:
            raise AnsibleActionFail(f"group = {values['group']!r}: must be one of {', '.join(groups)} (-e group=NAME)")
        found = queues.sources(declared, only)
        source = queues.source_of(found, values["queue"]) if values["queue"] else self.only_one(found)
        names = [values["queue"]] if values["queue"] else source["queues"]
        if not names:
            raise AnsibleActionFail("the queues of these groups stand in their commands, which are not read: name one (-e queue=NAME)")
        if values["task_name"] and len(names) > 1:
            raise AnsibleActionFail(f"task_name = {values['task_name']}: name the queue whose workers have it, one of {', '.join(names)} "
                                    "(-e queue=NAME)")
        nodes = [f"{app.name}.{group.name}." for group in groups.values()
                 if group.engine == source["engine"] and (group.command or set(names) & set(engines.named(group.engine).queues(group)))]
        return Order(
            app=app.name, engine=source["engine"], broker_url=source["url"], result_url=app.result_url, options=source["options"],
            queues=names, task=values["task_name"], args=values["args"], kwargs=values["kwargs"], count=values["count"],
            rate=values["rate"], patience=values["sample_seconds"], nodes=nodes)

    def only_one(self, sources: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the one place where all queues are; a load goes to one engine at a time."""
        if len(sources) != 1:
            raise AnsibleActionFail("a load goes to the queues of one engine: " + (
                f"these groups have {' and '.join(source['engine'] for source in sources)}; choose by -e group=NAME or -e queue=NAME"
                if sources else "no worker group that is chosen has any"))
        return sources[0]

    def what(self, order: Order) -> str:
        """Say what is sent."""
        try:
            traffic = taskqueues.named(order.engine).traffic(order)
        except WorkfleetError as error:
            raise AnsibleActionFail(str(error)) from error
        words = ", ".join([*map(repr, traffic.args), *(f"{key}={value!r}" for key, value in order.kwargs.items())])
        speed = f"{order.rate:g} a second" if order.rate else "as fast as it goes"
        return f"{order.count} × {traffic.task}({words}) to {', '.join(order.queues)}, {speed}"

    def tell(self, report: dict[str, Any]) -> None:
        """Show the report."""
        for text, colour in eventtext.report(report):
            self._display.display(f"  {text}", color=colour)
