"""The systemd manager against a real systemd, as root on a test host."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.managers.base import GENERATION_LINE, OWNER_LINE, Present
from plugins.module_utils.workfleet.managers.systemd import Systemd
from plugins.module_utils.workfleet.model import Name
from tests.patience import is_within, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.systemd
LAUNCHER = Path(__file__).resolve().parents[2] / "runners" / "launch.py"
NAME = Name("foo", "g", 1, 1)


class Node:
    """One node of a real unit."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manager = Systemd("foo", str(directory), str(directory))

    def start(self, script: str, restart_seconds: int = 60) -> None:
        env = self.directory / "env"
        env.write_text("")
        self.manager.write(NAME, "\n".join((
            "[Unit]", f"{OWNER_LINE}foo", f"{GENERATION_LINE}g1", "StartLimitIntervalSec=0", "[Service]", "Slice=foo-here.slice",
            f"ExecStart=:{sys.executable} {LAUNCHER} --env-file {env} --unit {NAME} --generation g1 --run-directory {self.directory} "
            f"-- {sys.executable} -c \"{script}\"", "Restart=always", f"RestartSec={restart_seconds}", "KillMode=mixed",
            "[Install]", "WantedBy=multi-user.target", "")))
        self.manager.reload()
        self.manager.enable([NAME])
        self.manager.start([NAME])
        assert self.present().activity != "stopped", "the start may be queued still"

    def present(self) -> Present:
        return next(node for node in self.manager.present() if node.name == NAME)

    def until(self, holds: Callable[[Present], bool]) -> Present:
        until(lambda: holds(self.present()), why=lambda: str(self.present()))
        return self.present()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.manager.disable([NAME])
    made.manager.stop([NAME])
    made.until(lambda shown: not shown.is_up)
    made.manager.remove([NAME])
    made.manager.reload()
    assert made.manager.present() == []


UNWILLING = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); time.sleep(600)"


def test_a_running_node_is_told_with_its_record(node: Node) -> None:
    node.start("import time; time.sleep(600)")
    shown = node.until(lambda shown: shown.record is not None)
    assert (shown.activity, shown.enabled, shown.generation, shown.file_generation) == ("running", True, "g1", "g1")
    assert shown.uptime_seconds is not None and is_within(shown.uptime_seconds, 15) and not shown.needs_reload
    assert node.manager.lives([NAME]) == {NAME: (shown.pid, shown.record)}, "in whatever slice it is"


def test_a_node_that_was_told_to_stop_and_ended_with_an_error_is_stopped(node: Node) -> None:
    """systemd keeps it as failed for ever; a stopped group was stopped again by every run."""
    node.start(UNWILLING)
    node.until(lambda shown: shown.record is not None)
    time.sleep(0.3)  # until the handler is set
    node.manager.disable([NAME])
    node.manager.stop([NAME])
    shown = node.until(lambda shown: not shown.is_up)
    assert (shown.activity, shown.result) == ("stopped", "exit-code, status 3")


def test_a_node_that_crashed_is_failed_while_systemd_waits_to_try_again(node: Node) -> None:
    node.start("import sys; sys.exit(4)")
    shown = node.until(lambda shown: shown.activity == "failed")
    assert shown.result == "exit-code, status 4"


def test_a_unit_of_another_app_is_neither_shown_nor_overwritten(node: Node, tmp_path: Path) -> None:
    node.start("import time; time.sleep(600)")
    assert Systemd("fo", str(tmp_path), str(tmp_path)).present() == []
