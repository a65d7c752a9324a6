"""Judge a rollout by what all its hosts have registered."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import verdict
from ansible_collections.workfleet.core.plugins.plugin_utils import actions
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = tuple(field.name for field in dataclasses.fields(verdict.Turn))


class ActionModule(actions.Action):
    """Runs on the control node alone."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the verdict for this host."""
        everywhere, gone = task_vars["hostvars"], values["gone"]
        hosts = [host(name, everywhere.raw_get(name), everywhere[name].get, name in gone) for name in values["hosts"]]
        rollout = verdict.Rollout(values["playbook"], hosts, values["release"])
        told = rollout.judge(str(task_vars["inventory_hostname"]), values["task"])
        return {"changed": False, **dataclasses.asdict(told)}


def host(name: str, known: Mapping[str, Any], templated: Any, is_gone: bool) -> verdict.Host:
    """Return a host by its variables; one that had no turn is none that is judged."""
    told, app = bare(known.get("__worker_turns")) or [], bare(known.get("__app_release")) or {}
    held = app.get("held") or {}
    return verdict.Host(
        name, tuple(turn(each) for each in told),
        failure_action=str(((templated("worker_rollout") if told else None) or {}).get("failure_action") or "rollback"),
        release=str(app.get("release") or ""), previous=str(app.get("previous") or ""), runs=any(each.get("nodes") for each in told),
        held=str(held.get("instead_of") or ""), against=str(held.get("against") or ""), gone=is_gone,
    )


def turn(told: Mapping[str, Any]) -> verdict.Turn:
    """Return what a host kept of a task."""
    return verdict.Turn(**{name: told[name] for name in FIELDS if told.get(name)})
