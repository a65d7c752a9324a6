"""Look at a dump here, bring it to a host, and have that put it back."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import dump, shown
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines import taskqueues
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, dumps, queues


class ActionModule(actions.Action):
    """The control node's half of ``queue_restore``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return how many tasks were put back, and say it."""
        declared = queues.declarations(values, task_vars, self._templar)
        self.own = queues.own(declared)
        app, sources = declared[0].app.name, queues.sources(declared, actions.only(values))
        if not values["dump"]:
            return self.recover(app, sources, task_vars)
        path = os.path.abspath(os.path.expanduser(values["dump"]))
        try:
            summary = dump.verify(path)
        except WorkfleetError as error:
            raise AnsibleActionFail(str(error)) from error
        header = summary.header
        sources = [source for source in sources if source["engine"] == header["engine"]]
        if header["app"] != app or not sources:
            raise AnsibleActionFail(f"{path}: is a dump of the app {header['app']} (engine {header['engine']}), not of {app}; "
                                    "nothing was written")
        source = queues.source_of(sources, header["queue"])
        self.own = queues.with_queue(self.own, header["engine"], header["queue"])
        results_apart = not taskqueues.named(source["engine"]).results_name_queues
        if header.get("results") and results_apart and declared[0].app.result_url:
            source = {**source, "url": declared[0].app.result_url}  # a database of their own
        if self._task.check_mode:
            result = self.ask(app, source, task_vars, header=header)
            if not result.get("failed"):
                left = dump.records_after(path, result.pop("done"))
                result.update(changed=left > 0, queue=header["queue"], records=summary.records, restored=left)
        else:
            with dumps.remote_directory(self) as directory:
                remote = os.path.join(directory, "tasks.dump")
                self._connection.put_file(path, remote)
                result = self.ask(app, source, task_vars, path=remote, dump=path)
        for text in (*result.get("recovered", []), *result.get("problems", [])):
            self._display.warning(shown.line(text))
        if not result.get("failed"):
            done = "would be put back" if self._task.check_mode else "put back"
            what = "results" if header.get("results") else "tasks"
            name = shown.line(header["queue"] or header["engine"])
            self._display.display(f"  {name}: {result['restored']} of {summary.records} {what} {done}"
                                  + ("" if result["restored"] else "; they were already"))
        return result

    def ask(
        self, app: str, source: dict[str, Any], task_vars: dict[str, Any], path: str = "", dump: str = "",
        header: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Have the host do it, or in check mode look."""
        request = {"app": app, "engine": source["engine"], "url": source["url"], "options": source["options"], "path": path, "dump": dump,
                   "queues": self.own, "header": header, "holder": dumps.holder(), "force": self.values["force"]}
        return self.module(request)

    def recover(self, app: str, sources: list[dict[str, Any]], task_vars: dict[str, Any]) -> dict[str, Any]:
        """End what interrupted purges left; where they left nothing, a dump was forgotten."""
        recovered: list[str] = []
        problems: list[str] = []
        for source in sources:
            result = self.ask(app, source, task_vars)
            if result.get("failed"):
                return result
            recovered += [text for text in result["recovered"] if text not in recovered]
            problems += [text for text in result["problems"] if text not in problems]
        for text in problems:
            self._display.warning(shown.line(text))
        if not recovered:
            raise AnsibleActionFail("name the dump: -e dump=FILE. Without one what interrupted purges left is put back, "
                                    "and there is nothing of that kind")
        for text in recovered:
            self._display.display(f"  {shown.line(text)}")
        return {"changed": True, "queue": None, "records": 0, "restored": 0, "recovered": recovered, "problems": problems}
