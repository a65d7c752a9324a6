"""Check on the control node what is wanted, read it on the host, and follow it where that is wanted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.managers import logs
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, logtext

PAUSE_SECONDS = 1.0
#: How far each look goes back before the one before it: a traceback may have been half written then.
OVERLAP_SECONDS = 5.0


class ActionModule(actions.Action):
    """The control node's half of ``worker_logs``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what the module returns; with ``follow`` it does not end by itself."""
        declared = actions.declaration(values, self.host)
        self.request = {"manager": declared.manager, "app": declared.app.name, "root": declared.app.root,
                        "run_directory": declared.run_directory, "only": actions.only(values)}
        wish = self.wish()
        if not values["follow"]:
            return self.look(wish)
        self.refuse_blind_follow()
        return self.follow(wish)

    def wish(self) -> logs.Wish:
        """Return the wanted entries."""
        level = self.values["level"].lower()
        if level and level not in logs.LEVELS:
            raise AnsibleActionFail(f"level = {level!r}: must be one of {', '.join(logs.LEVELS)}")
        lines = self.values["lines"]
        if lines < 0:
            raise AnsibleActionFail(f"lines = {lines}: must be a count of 0 or more")
        since = logs.parse_since(self.values["since"], time.time())
        return logs.Wish(lines or None, level, since)

    def look(self, wish: logs.Wish) -> dict[str, Any]:
        """Read once."""
        return self.module({**self.request, "wish": wish})

    def refuse_blind_follow(self) -> None:
        """Refuse to follow where nobody sees it, and where hosts would wait for one that never ends."""
        actions.require_terminal("entries")
        hosts, forks = len(self.task_vars.get("ansible_play_hosts_all", ())), int(self.task_vars.get("ansible_forks", 5))
        if hosts > forks:
            raise AnsibleActionFail(f"follow keeps a fork for each host, and there are {forks} for {hosts} hosts: run with --forks {hosts}")

    def follow(self, wish: logs.Wish) -> dict[str, Any]:
        """Show entries as they come; each is known by its node, its text and how many of the kind there were."""
        shown: Counter[tuple[str, str]] = Counter()
        begins: dict[str, float] | None = None  # what is older than the last entry of the first look was left out on purpose
        while True:
            begun = time.time()
            result = self.look(wish)
            if result.get("failed") or result.get("unreachable"):
                return result
            seen: Counter[tuple[str, str]] = Counter()
            for entry in result["entries"]:
                if begins is not None and entry["at"] < begins.get(entry["unit"], 0.0):
                    continue
                key = (entry["unit"], entry["text"])
                seen[key] += 1
                if seen[key] > shown[key]:
                    for text, colour in logtext.lines(self.host, entry):
                        self._display.display(text, color=colour)
            shown = seen
            if begins is None:
                begins = {entry["unit"]: entry["at"] for entry in result["entries"]}
            wish = replace(wish, lines=None, since=begun - OVERLAP_SECONDS)
            time.sleep(PAUSE_SECONDS)
