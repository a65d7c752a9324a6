"""Which releases are needed, though they are not current and nothing runs from them just now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.host.layout import Layout
from plugins.module_utils.workfleet.managers import supervisor, systemd
from plugins.module_utils.workfleet.nodes import snapshot
from plugins.module_utils.workfleet.release import in_use

if TYPE_CHECKING:
    from pathlib import Path

RELEASES = ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd"]


def unit(root: Path, release: str) -> str:
    return f"[Service]\nWorkingDirectory={root}/releases/{release}/src\n"


def test_what_an_undo_brings_back_and_what_is_started_at_boot_needs_its_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undone, enabled, gone, foreign = RELEASES
    root, units = tmp_path / "shop", tmp_path / "units"
    (root / "state").mkdir(parents=True)
    (root / "state" / "rollout.json").write_text(json.dumps({"groups": {"a": [{"text": unit(root, undone)}]}}))
    (units / "wants").mkdir(parents=True)
    monkeypatch.setattr(in_use, "AT_BOOT", str(units / "wants"))
    for name, release in (("workfleet.shop.a.1.1", enabled), ("workfleet.shop.a.1.2", gone), ("workfleet.shop-two.a.1.1", foreign)):
        (units / f"{name}.service").write_text(unit(root, release))
        if release != gone:
            (units / "wants" / f"{name}.service").symlink_to(units / f"{name}.service")
    assert in_use.needed("shop", Layout(str(root)), "root") == {undone, enabled}


def test_an_enabled_program_of_supervisor_needs_its_release_and_one_that_was_told_to_go_does_not(tmp_path: Path) -> None:
    (tmp_path / "supervisor" / "programs").mkdir(parents=True)
    for number, release in enumerate(RELEASES[:2]):
        text = supervisor.switched(f"[program:x]\ndirectory={tmp_path}/releases/{release}/src\n", number == 0)
        (tmp_path / "supervisor" / "programs" / f"workfleet.shop.a.{number}.1.conf").write_text(text)
    assert in_use.needed("shop", Layout(str(tmp_path)), "root") == {RELEASES[0]}


def test_the_places_are_those_of_the_managers_and_of_the_snapshot() -> None:
    assert in_use.AT_BOOT == systemd.WANTS
    assert Layout("/opt/shop").rollout == snapshot.path("/opt/shop")
