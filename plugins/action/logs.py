"""Merge what the hosts' nodes wrote, and show it or write it to files."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import shown
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, logtext


class ActionModule(actions.Action):
    """Runs on the control node alone."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Show all entries by time, or write a file a node; say which hosts told nothing."""
        hostvars = task_vars["hostvars"]
        told = {host: dict(hostvars[host].get(values["register"]) or {}) for host in values["hosts"] if host in hostvars}
        entries = sorted(((host, entry) for host, found in told.items() for entry in found.get("entries", ())),
                         key=lambda pair: pair[1]["at"] or 0.0)
        if values["dump_dir"]:
            self.write(values["dump_dir"], entries)
        else:
            self.show(entries)
        silent = [f"{host}: {found.get('msg') or 'nothing was told'}" for host, found in told.items() if "entries" not in found]
        for line in silent:
            self._display.display(line, color="red")
        result: dict[str, Any] = {"changed": False}
        if silent:
            result.update(failed=True, msg=f"the logs of {len(silent)} of {len(told)} hosts could not be read: {silent[0]}")
        return result

    def show(self, entries: list[tuple[str, dict[str, Any]]]) -> None:
        """Print entries, with a line where another day begins."""
        day = time.strftime("%Y-%m-%d")
        for host, entry in entries:
            its = time.strftime("%Y-%m-%d", time.localtime(entry["at"] or 0))
            if its != day:
                day = its
                self._display.display(f"-- {day}")
            for text, colour in logtext.lines(host, entry):
                self._display.display(text, color=colour)
        if not entries:
            self._display.display("nothing was written that fits")

    def write(self, directory: str, entries: list[tuple[str, dict[str, Any]]]) -> None:
        """Write ``DIRECTORY/HOST/UNIT.log``, for nobody but us to read; lines are as they are shown."""
        texts: dict[str, list[str]] = {}
        for host, entry in entries:
            name = re.sub(r"[^\w.@-]", "_", entry["unit"])  # a host says it, and this is our disk
            texts.setdefault(os.path.join(directory, host, f"{name}.log"), []).append(f"{shown.text(entry['text'])}\n")
        for path, lines in texts.items():
            try:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            except OSError as error:
                raise AnsibleActionFail(f"cannot write {path}: {error.strerror}") from error
            with open(handle, "w", encoding="utf-8", errors="replace") as file:
                file.writelines(lines)
            self._display.display(f"{path}: {len(lines)} entries")
        if not texts:
            self._display.display("nothing was written that fits")
