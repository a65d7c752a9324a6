"""Read what is asked for, have a host do it, and show the dead letters."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import shown
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines import taskqueues
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.verbs.stash import Choice
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, dumps, queues

SHOWN = 50


class ActionModule(actions.Action):
    """The control node's half of ``dead_letter``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the letters that were meant, and what became of them."""
        verb, identity = wanted(values["letters"] or "list")
        if not values["queue"]:
            raise AnsibleActionFail("name the queue that the tasks failed in: -e queue=NAME")
        queue = values["queue"]
        declared = queues.declarations(values, task_vars, self._templar)
        app = declared[0].app.name
        source = queues.source_of(queues.sources(declared, actions.only(values)), queue)
        if verb == "drop" and not self._task.check_mode:
            dumps.confirmed(f"drop {app} {queue}", values["confirm"])
        own = queues.own(declared)
        request = {"app": app, "declared": own.get(source["engine"], []),
                   "engine": source["engine"], "url": source["url"], "options": source["options"], "queue": queue,
                   "task_name": values["task_name"] or None, "id": identity, "replay": verb == "replay"}
        result = self.module(request)
        if result.get("failed"):
            return result
        if verb == "drop" and result["letters"]:
            result["changed"] = True
            if not self._task.check_mode:
                dropped = self.drop(task_vars, app, source, queue, result["letters"], own)
                if dropped.get("failed"):
                    return dropped
                result["dump"] = dropped["dump"]
        self.show(queue, verb, result)
        return result

    def drop(
        self, task_vars: dict[str, Any], app: str, source: dict[str, Any], queue: str, letters: list[dict[str, Any]],
        own: dict[str, list[str]],
    ) -> dict[str, Any]:
        """Dump them and delete them; they may be in a queue of their own."""
        place = taskqueues.named(source["engine"]).dead_place(source["options"])
        choice = Choice(place or queue, dead=place is None, ids=tuple(letter["id"] for letter in letters))
        purge = dumps.Purge(self, task_vars, app, source, choice, own, force=self.values["force"])
        return purge.run(dumps.folder(self.values["dump_dir"]))

    def show(self, queue: str, verb: str, result: dict[str, Any]) -> None:
        """Print a line a letter, and what was done."""
        letters = result["letters"]
        for text in result["problems"]:
            self._display.warning(shown.line(text))
        for letter in letters[:SHOWN] if verb in ("list", "show") else []:
            age = "-" if letter["age_seconds"] is None else queues.span(letter["age_seconds"])
            reason = shown.text(str(letter["reason"] or "-"))
            self._display.display(f"  {shown.line(letter['id'])}  {age:>5}  {shown.line(letter['task_name'] or '-')}  "
                                  f"{reason if verb == 'show' else reason.splitlines()[0][:100]}")
        count = f"{len(letters)} dead letter{'' if len(letters) == 1 else 's'}"
        if result["cut"]:
            count = f"the first {count}, there may be more"
        more = f", the first {SHOWN} are shown" if verb == "list" and len(letters) > SHOWN else ""
        done = {"replay": f", {result['replayed']} sent again", "drop": f", dumped and gone: {result.get('dump')}"}.get(verb, "")
        self._display.display(f"  {shown.line(queue)}: {count}{more}{done if letters and not self._task.check_mode else ''}")


def wanted(letters: str) -> tuple[str, str | None]:
    """Return what to do, and the one letter that it is about."""
    verb, _, which = letters.strip().partition(" ")
    which = which.strip()
    if verb == "list" and not which:
        return verb, None
    if verb in ("replay", "drop") and which == "all":
        return verb, None
    if verb in ("show", "replay", "drop") and which:
        return verb, which
    raise AnsibleActionFail(f"letters = {letters!r}: must be one of list, show ID, replay ID, replay all, drop ID, drop all")
