"""Watching from the control node what a host does in the background, by a row of short calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible_collections.workfleet.core.plugins.plugin_utils import actions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible.plugins.action import ActionBase

PAUSE_SECONDS = 0.5


class Watched:
    """Work that a module of ours starts and tells of. ``failure`` is the result of a call that failed, or why the work did."""

    def __init__(self, action: ActionBase, module: str, task_vars: Mapping[str, Any]) -> None:
        self.action, self.module, self.task_vars = action, module, task_vars
        self.failure: dict[str, Any] | None = None

    def items(self, order: Any) -> Iterator[dict[str, Any]]:
        """Start it, and yield what it tells until it is over."""
        given: dict[str, Any] = {"order": order}
        while True:
            result = actions.run_module(self.action, self.module, given, self.task_vars)
            if result.get("failed") or result.get("unreachable"):
                self.failure = dict(result)
                return
            for item in result["told"]:
                if item.get("last"):
                    if item["error"]:
                        self.failure = {"failed": True, "msg": item["error"]}
                    return
                yield item
            given = {"directory": result["directory"]}
            time.sleep(PAUSE_SECONDS)
