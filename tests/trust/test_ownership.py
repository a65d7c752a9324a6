"""No run of one app changes anything in the directory of another."""

from __future__ import annotations

import dataclasses
import getpass
import grp
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from plugins.module_utils.workfleet import managers
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import effects, ownership
from plugins.module_utils.workfleet.nodes import lease
from plugins.module_utils.workfleet.nodes.reconcile import Reconciler
from plugins.module_utils.workfleet.nodes.request import Request
from plugins.module_utils.workfleet.release.declared import Declared
from plugins.module_utils.workfleet.release.foundation import foundation

if TYPE_CHECKING:
    from collections.abc import Callable


def declared(app: str, root: Path) -> Declared:
    """Return an app without a release, of whoever runs the tests."""
    return Declared("web1", app, getpass.getuser(), grp.getgrgid(os.getegid()).gr_name, str(root), "python3")


def content(root: Path) -> dict[str, str]:
    """Return all files below a directory."""
    return {str(path): path.read_text(encoding="utf-8") for path in root.rglob("*") if path.is_file()}


def test_the_first_run_names_the_app_and_one_of_another_app_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "opt" / "shop"
    for change in foundation(declared("shop", root)):
        change.carry_out()
    before = content(root)
    assert before[ownership.path(str(root))] == "shop\n"
    assert list(foundation(declared("shop", root))) == []
    request = cast("Request", type("Request", (), {"root": str(root), "app": "books"}))
    attempts: list[Callable[[], object]] = [lambda: list(foundation(declared("books", root))), lease.Lock(request).__enter__]
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize(("owner", "mode", "todo"), [
    (65534, 0o755, "chown root {}`, or"), (0, 0o2775, "chmod go-w {}`, or"), (65534, 0o777, "chown root {}` and `chmod go-w {}`, or"),
])
@pytest.mark.parametrize("below", ["shop", "apps/shop", "link/shop"])
def test_a_root_where_others_could_put_another_one_is_refused_before_anything_is_made(
        owner: int, mode: int, todo: str, below: str, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(theirs / "inner")
    os.chown(theirs, owner, -1)
    theirs.chmod(mode)
    root = tmp_path / below if below.startswith("link") else theirs / below
    with pytest.raises(WorkfleetError, match=f"{root}: {theirs} .*{todo.format(theirs, theirs)} choose .* Nothing was changed"):
        list(foundation(dataclasses.replace(declared("shop", root), user="nosuchuser", group="nosuchgroup")))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["link", "theirs", "theirs/inner"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_where_everybody_has_a_place_of_his_own_a_root_is_refused_if_it_is_anothers(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    ownership.require(str(tmp_path / "shop"), "shop")
    (tmp_path / "shop").mkdir()
    ownership.require(str(tmp_path / "shop"), "shop")
    os.chown(tmp_path / "shop", 65534, -1)
    with pytest.raises(WorkfleetError, match=f"{tmp_path}/shop belongs to .* `chown root {tmp_path}/shop`, or"):
        ownership.require(str(tmp_path / "shop"), "shop")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_root_that_was_anothers_becomes_roots(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    root.mkdir(mode=0o775)
    os.chown(root, 65534, -1)
    for change in foundation(declared("shop", root)):
        change.carry_out()
    assert root.stat().st_uid == 0
    effects.lock_file(str(root / "state" / "nodes.lock")).close()


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


@pytest.mark.parametrize(("app", "directory", "owner"), [
    ("a", "/run/workfleet/a", ""), ("a-b", "/run/workfleet/a-b", ""), ("a", "/run/workfleet/a-bc", ""), ("c", "/run/c", ""),
    ("a", "/run/workfleet/a-b", "a-b"), ("a", "/run/workfleet/a-b/nodes", "a-b"), ("a-b", "/run/workfleet", "a"), ("a", "/run/c_d", "c_d")])
def test_a_run_directory_that_another_apps_units_have_is_refused_whatever_its_name(
        app: str, directory: str, owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "UNITS", str(tmp_path))
    for unit, theirs in (("workfleet.a.b-c.1.1.service", "workfleet/a"), ("workfleet.a-b.c.1.1.service", "workfleet/a-b"),
                         ("workfleet.c_d.supervisord.service", "c_d"), ("other.service", "workfleet/a-bc"), ("workfleet.x.timer", "c")):
        (tmp_path / unit).write_text(f"[Service]\nRuntimeDirectory={theirs}\n")
    if not owner:
        ownership.require_run(directory, app)
        return
    request = Request.parse({
        "app": app, "user": "u", "group": "g", "root": str(tmp_path / "root"), "manager": "systemd", "run_directory": directory,
        "groups": [], "rollout": {}, "has_release": False, "tokens": {}, "manager_texts": {}, "longest_drain": 0})
    with pytest.raises(WorkfleetError, match=f"the app {owner} on this host has"):
        Reconciler(request, managers.named("systemd", app, request.root, directory), check=True).call()
