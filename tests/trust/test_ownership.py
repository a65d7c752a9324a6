"""No run of one app changes anything in the directory of another."""

from __future__ import annotations

import getpass
import grp
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from plugins.module_utils.workfleet import lock, ownership, release
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.reconcile import Request

if TYPE_CHECKING:
    from collections.abc import Callable


def declared(app: str, root: Path) -> release.Declared:
    """Return an app without a release, of whoever runs the tests."""
    return release.Declared("web1", app, getpass.getuser(), grp.getgrgid(os.getegid()).gr_name, str(root), "python3")


def content(root: Path) -> dict[str, str]:
    """Return all files below a directory."""
    return {str(path): path.read_text(encoding="utf-8") for path in root.rglob("*") if path.is_file()}


def test_the_first_run_names_the_app_and_one_of_another_app_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "opt" / "shop"
    for change in release.foundation(declared("shop", root)):
        change.carry_out()
    before = content(root)
    assert before[ownership.path(str(root))] == "shop\n"
    assert list(release.foundation(declared("shop", root))) == []
    request = cast("Request", type("Request", (), {"root": str(root), "app": "books"}))
    attempts: list[Callable[[], object]] = [lambda: list(release.foundation(declared("books", root))), lock.Lock(request).__enter__]
    for attempt in attempts:
        with pytest.raises(WorkfleetError, match=r"belongs to the app shop on this host, and nothing of it was changed for books"):
            attempt()
    assert content(root) == before


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_what_is_no_file_of_roots_tells_nothing_and_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    place = Path(ownership.path(str(tmp_path)))
    if kind == "link":
        place.symlink_to("/etc/hostname")
    elif kind == "directory":
        place.mkdir()
    else:
        os.mkfifo(place)
    with pytest.raises(WorkfleetError, match="remove it, and run site"):
        ownership.require(str(tmp_path), "shop")


def test_a_root_that_names_nobody_is_anybodys(tmp_path: Path) -> None:
    ownership.require(str(tmp_path / "none"), "shop")
    ownership.require(str(tmp_path), "shop")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_account_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    place = Path(ownership.path(str(tmp_path)))
    place.write_text("shop\n", encoding="utf-8")
    os.chown(place, 65534, 65534)
    with pytest.raises(WorkfleetError, match="is no file of root's"):
        ownership.require(str(tmp_path), "shop")
