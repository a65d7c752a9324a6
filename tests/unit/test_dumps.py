"""A purge seen from the control node: what a lost connection leaves, and what is said of it."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.parsing.splitter import parse_kv
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import dump, payload
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.verbs.stash import Choice
from ansible_collections.workfleet.core.plugins.plugin_utils import dumps

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = {"engine": "celery", "url": "redis://x", "options": {}}


class Action:
    """An action plugin whose host writes dumps of one task, and whose connection ends where it is told to."""

    def __init__(self, folder: Path, ends: str) -> None:
        self.folder, self.ends = folder, ends
        self.steps: list[str] = []
        self._task, self._connection = SimpleNamespace(check_mode=False), self

    def _make_tmp_path(self) -> str:
        return str(self.folder)

    def _remove_tmp_path(self, path: str, force: bool) -> None:
        """Nothing."""

    def _execute_module(self, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
        given = payload.unpack(module_args["payload"], "queue_purge")
        self.steps.append(given["step"])
        if self.ends in (given["step"], "for good") and given["step"] != "write":
            raise AnsibleConnectionFailure("the host has gone")
        if given["step"] != "write":
            return {"changed": True}
        with open(given["path"], "wb") as file:
            writer = dump.Writer(file, {"id": given["id"], "app": "shop", "engine": "celery", "queue": "q"})
            writer.write("0", [b"task"])
            return {"changed": True, "records": 1, "sha256": writer.close().sha256, "recovered": []}

    def fetch_file(self, source: str, target: str) -> None:
        if self.ends in ("fetch", "for good"):
            raise AnsibleConnectionFailure("the host has gone")
        with open(source, "rb") as read, open(target, "wb") as written:
            written.write(read.read())


@pytest.fixture
def purge(tmp_path: Path) -> Callable[[str], Any]:
    """Purge with a connection that ends somewhere; return the action, and the result or the message."""
    host, here = tmp_path / "host", tmp_path / "here"
    host.mkdir()
    here.mkdir()

    def run(ends: str) -> Any:
        action = Action(host, ends)
        try:
            return action, dumps.Purge(action, {}, "shop", SOURCE, Choice("q"), {}, force=False).run(str(here)), here
        except AnsibleActionFail as error:
            return action, str(error), here
    return run


def test_a_purge_ends_with_its_dump_here(purge: Callable[[str], Any]) -> None:
    action, result, here = purge("never")
    assert action.steps == ["write", "commit"]
    assert [str(path) for path in here.iterdir()] == [result["dump"]]


def test_a_connection_that_is_lost_while_the_dump_is_fetched_puts_the_tasks_back(purge: Callable[[str], Any]) -> None:
    """It put nothing back, and said nothing of it."""
    action, said, here = purge("fetch")
    assert action.steps == ["write", "put_back"]
    assert "the host has gone; all tasks are back in their queue" in said
    assert list(here.iterdir()) == []


def test_a_host_that_has_gone_for_good_leaves_it_to_another_run(purge: Callable[[str], Any]) -> None:
    action, said, _ = purge("for good")
    assert action.steps == ["write", "put_back"]
    assert "putting the tasks back failed too: the host has gone; the next purge or restore does it" in said


def test_a_connection_that_is_lost_at_the_deletion_keeps_the_dump_and_says_what_is_not_known(purge: Callable[[str], Any]) -> None:
    action, said, here = purge("commit")
    assert action.steps == ["write", "commit"]
    dumped, = here.iterdir()
    assert f"the dump is whole, {dumped}, but whether its tasks were deleted is not known: the host has gone" in said


@pytest.mark.parametrize("words", ["purge shop reports", "purge shop it's", "purge shop $HOME \"q\" `id` \\"])
def test_a_confirmation_can_be_pasted_as_it_is_printed(words: str) -> None:
    with pytest.raises(AnsibleActionFail) as caught:
        dumps.confirmed(words, "")
    _, given = subprocess.run(["bash", "-c", f"printf '%s\\0' {caught.value.message}"], capture_output=True, text=True,
                              check=True).stdout.rstrip("\0").split("\0")
    read = json.loads(given) if given.startswith("{") else parse_kv(given)
    assert read == {"confirm": words}
    dumps.confirmed(words, read["confirm"])


def test_a_confirmation_that_is_not_the_one_is_told_as_it_was_received() -> None:
    with pytest.raises(AnsibleActionFail, match=r"is to be typed, and confirm was received as purge$"):
        dumps.confirmed("purge shop reports", "purge")
