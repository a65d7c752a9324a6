"""The words of ``worker_nodes``' option ``task``, and the options in their place that go with the next release."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, tasks

OPTIONS = actions.arguments("worker_nodes")
LATER: dict[str, Any] = {"undoable": True, "singles": "later"}


def meaning(**given: Any) -> dict[str, Any]:
    return tasks.meaning({**{name: option.get("default") for name, option in OPTIONS.items()}, **given})


def test_each_word_has_a_meaning() -> None:
    assert OPTIONS["task"]["choices"] == list(tasks.TASKS)


@pytest.mark.parametrize(("word", "options"), [
    ("", {}),
    ("adjust", {"rollout_now": False}),
    ("restart", {"restart": True}),
    ("begin", {"phase": "begin"}),
    ("converge", {"rollout_now": False, "undoable": True}),
    ("replace", {**LATER, "converged": True}),
    ("rollout", LATER),
    ("canary", {**LATER, "canary": "only"}),
    ("rest", {**LATER, "canary": "done", "converged": True}),
    ("singles", {"undoable": True, "singles": "only", "converged": True}),
    ("undo_singles", {"undoable": True, "singles": "only", "converged": True, "undo": True}),
    ("undo", {"undoable": True, "converged": True, "undo": True}),
    ("end", {"phase": "end"}),
    ("pause", {"phase": "pause"}),
])
def test_a_word_means_what_the_options_did(word: str, options: dict[str, Any]) -> None:
    assert meaning(task=word) == meaning(**options)
