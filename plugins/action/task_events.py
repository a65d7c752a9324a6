"""Decide on the control node what is to be followed, have one host listen, and show what it hears as it comes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import engines
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.verbs import events
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, background, eventtext, queues

if TYPE_CHECKING:
    from ansible_collections.workfleet.core.plugins.module_utils.workfleet.model import Group


class ActionModule(actions.Action):
    """The control node's half of ``task_events``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Show events as they come; return how many of each kind there were."""
        order = self.order(values, task_vars)
        watched = background.Watched(self, "task_events", task_vars)
        counts: Counter[str] = Counter()
        missed = False
        for item in watched.items(order):
            if "listening" in item:
                self.greet(item["listening"], order["seconds"])
            elif "event" in item:
                text, colour = eventtext.line(self.app, item["event"])
                counts[item["event"]["event"]] += 1
                self._display.display(text, color=colour)
            else:
                missed = True
                note = item.get("note") or f"{item['dropped']} events came too fast to be shown, and are left out"
                self._display.display(f"-- {note}", color="yellow")
        if watched.failure is not None:
            return watched.failure
        told = ", ".join(f"{count} {event}" for event, count in counts.items()) or "nothing happened that fits"
        self._display.display(f"-- {told}, in {order['seconds']:g} s{'; not all may have been seen, see above' if missed else ''}")
        return {"changed": False, "counts": dict(counts), "missed": missed}

    def order(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what the host is to follow; says of groups that have no events where to look instead."""
        level = values["level"].lower()
        if level not in events.ORDER:
            raise AnsibleActionFail(f"level = {values['level']!r}: must be one of {', '.join(events.ORDER)}")
        seconds = values["sample_seconds"]
        if seconds < 0 or (not seconds and not values["follow"]):
            raise AnsibleActionFail(f"sample_seconds = {seconds:g}: must be above 0; -e follow=true goes on until it is interrupted")
        if values["follow"] and not seconds:
            actions.require_terminal("events")
        declared = queues.declarations(values, task_vars, self._templar)
        self.app = declared[0].app.name
        only = actions.only(values)
        groups = {group.name: group for each in declared for group in each.groups if only is None or group.name in only}
        telling = [group for group in groups.values() if engines.named(group.engine).tells_events]
        for group in groups.values():
            if group not in telling and engines.named(group.engine).speaks:
                self._display.display(f"-- {group.name}: {without(group)}", color="yellow")
        if not telling:
            raise AnsibleActionFail(f"nothing to follow: no worker group of {self.app} that is chosen has an engine with task events; "
                                    f"{without(None)}")
        if values["queue"]:
            telling = self.of_queue(telling, values["queue"])
        sources = [source for source in queues.sources(declared, [group.name for group in telling])
                   if engines.named(source["engine"]).tells_events]
        if len(sources) != 1:
            raise AnsibleActionFail(f"the hosts of {self.app} have {len(sources)} brokers: follow one of them, by --limit or worker_only")
        beginnings = [f"{self.app}.{group.name}." for group in telling]
        narrow = only is not None or values["queue"]
        wish = {"level": level, "task": values["task_name"], "queue": values["queue"], "beginnings": beginnings if narrow else []}
        return {"engine": sources[0]["engine"], "url": sources[0]["url"], "options": sources[0]["options"], "groups": beginnings,
                "seconds": seconds, "wish": wish, "switch": not self._task.check_mode}

    def of_queue(self, groups: list[Group], queue: str) -> list[Group]:
        """Return the groups of a queue. Events do not tell it, so a group that consumes others too cannot be told apart."""
        found = [group for group in groups if queue in engines.named(group.engine).queues(group)]
        known = dict.fromkeys(name for group in groups for name in engines.named(group.engine).queues(group))
        many = [group.name for group in found if len(engines.named(group.engine).queues(group)) > 1]
        if many or not found:
            why = (f"{', '.join(many)} consumes others too, and a worker's events do not tell from which queue a task came" if many
                   else f"no group with task events consumes it; consumed are {', '.join(known)}")
            raise AnsibleActionFail(f"queue = {queue!r}: {why}; narrow by worker_only or task_name instead")
        return found

    def greet(self, listening: dict[str, Any], seconds: float) -> None:
        """Say who is heard, and what was done for it."""
        nodes, began, silent = (listening[key] for key in ("nodes", "began", "silent"))
        until = f"for {seconds:g} s" if seconds else "until it is interrupted"
        self._display.display(f"-- {self.app}: {len(nodes)} nodes, {until}")
        if not nodes:
            self._display.display("-- no node answers: nothing is told until one comes (status.yml)", color="yellow")
        if began:
            self._display.display(f"-- {len(began)} of them sent no task events: they do until this ends; for good, set "
                                  "options: {task_events: true}")
        for node in silent:
            self._display.display(f"-- {node}: does not answer, and may send no task events yet", color="yellow")


def without(group: Group | None) -> str:
    """Say of groups without events what tells of their tasks."""
    engine = f"engine {group.engine} has none: " if group else ""
    return f"{engine}logs.yml -e follow=true shows what each task's worker writes, queues.yml what waits and runs"
