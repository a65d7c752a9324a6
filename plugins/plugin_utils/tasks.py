"""What the words of ``worker_nodes``' option ``task`` mean for a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a request says where its task says nothing else; a key is that of ``Request``. ``follows`` is whether a task before has done, or
#: in check mode foretold, all but the replacement of running nodes.
USUAL: dict[str, Any] = {
    "with_rollout": True, "follows": False, "canary": "", "singles": "", "undoable": False, "undo": False, "phase": "", "restart": False,
}
_ROLLOUT: dict[str, Any] = {"undoable": True, "singles": "later"}
TASKS: dict[str, dict[str, Any]] = {
    "": {},
    "adjust": {"with_rollout": False},
    "restart": {"restart": True},
    "begin": {"undoable": True, "phase": "begin"},
    "converge": {"with_rollout": False, "undoable": True},
    "replace": {**_ROLLOUT, "follows": True},
    "rollout": _ROLLOUT,
    "canary": {**_ROLLOUT, "canary": "only"},
    "rest": {**_ROLLOUT, "canary": "done", "follows": True},
    "singles": {"undoable": True, "singles": "only", "follows": True},
    "undo_singles": {"undoable": True, "singles": "only", "follows": True, "undo": True},
    "undo": {"undoable": True, "follows": True, "undo": True},
    "end": {"phase": "end"},
    "pause": {"phase": "pause"},
}


def meaning(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task of the module asks for, by its word, or by the options that had no word yet."""
    if values["task"]:
        return {**USUAL, **TASKS[values["task"]]}
    return {
        "with_rollout": values["rollout_now"], "follows": values["converged"], "canary": values["canary"], "singles": values["singles"],
        "undoable": values["undoable"] or values["phase"] == "begin", "undo": values["undo"], "phase": values["phase"],
        "restart": values["restart"],
    }
