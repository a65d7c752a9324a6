"""Look at a dump here, bring it to a host, and have that put it back."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import dump, payload
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, dumps, queues


class ActionModule(ActionBase):
    """The control node's half of ``queue_restore``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return how many tasks were put back, and say it."""
        super().run(tmp, task_vars)
        arguments = self._task.args
        if not arguments.get("dump"):
            raise AnsibleActionFail("name the dump: -e dump=FILE")
        path = os.path.abspath(os.path.expanduser(str(arguments["dump"])))
        try:
            summary = dump.verify(path)
        except WorkfleetError as error:
            raise AnsibleActionFail(str(error)) from error
        header = summary.header
        declared = queues.declarations(arguments, task_vars or {}, self._templar)
        app = declared[0].app.name
        sources = [source for source in queues.sources(declared, actions.only(arguments)) if source["engine"] == header["engine"]]
        if header["app"] != app or not sources:
            raise AnsibleActionFail(f"{path}: is a dump of the app {header['app']} (engine {header['engine']}), not of {app}; "
                                    "nothing was written")
        source = queues.source_of(sources, header["queue"])
        # Results may be kept in a database of their own.
        url = declared[0].app.result_url if header.get("results") and source["engine"] != "arq" else ""
        if self._task.check_mode:
            return {"changed": True, "queue": header["queue"], "records": summary.records, "restored": summary.records, "recovered": []}
        with dumps.remote_directory(self) as directory:
            remote = os.path.join(directory, "tasks.dump")
            self._connection.put_file(path, remote)
            request = {"app": app, "engine": source["engine"], "url": url or source["url"], "options": source["options"], "path": remote,
                       "holder": dumps.holder(), "force": bool(arguments.get("force"))}
            result: dict[str, Any] = self._execute_module(
                module_name="workfleet.core.queue_restore", module_args={"payload": payload.pack(request)}, task_vars=task_vars)
        for text in result.get("recovered", []):
            self._display.warning(text)
        if not result.get("failed"):
            what = "results" if header.get("results") else "tasks"
            self._display.display(f"  {header['queue'] or header['engine']}: {result['restored']} of {summary.records} {what} put back"
                                  + ("" if result["restored"] else "; they were already"))
        return result
