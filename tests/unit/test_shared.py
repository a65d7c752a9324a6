"""Paths that outlive releases: which there can be, and what a source may hold there."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.release import shared
from plugins.module_utils.workfleet.release import spec as release_spec
from plugins.module_utils.workfleet.spec.checker import SpecError

if TYPE_CHECKING:
    from pathlib import Path


def parse(paths: object) -> list[str]:
    raw = {"name": "shop", "source": {"type": "directory", "location": "x"}, "shared_paths": paths}
    found: list[str] = release_spec.parse(raw, "web1")[0]["shared"]
    return found


def test_files_and_directories_below_the_top_are_taken_as_they_are_named() -> None:
    paths = ["db.sqlite3", "media/", "var/cache/", "var/state", "mediathek"]
    assert parse(paths) == paths


@pytest.mark.parametrize(("paths", "said"), [
    *(([path], "must lie below the top") for path in ("/var/x", "../x", "a/../b", ".", "./", "a//", "a//b", "/")),
    (["media/", "media"], "there twice: media/ and media"),
    (["media/", "media/thumbs"], r"app_shared_paths = 'media/thumbs': lies in another of them"),
    (["a\nb"], "app_shared_paths"),
    ("media/", "must be a list"),
    ([f"p{number}" for number in range(101)], "holds 101 paths, and 100 may be"),
])
def test_what_lies_elsewhere_or_in_another_is_refused(paths: object, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse(paths)


@pytest.mark.parametrize(("path", "said"), [
    ("media/", ""),
    ("media", ""),
    ("db.sqlite3", ""),
    ("logs/", ""),
    ("new/place/", ""),
    ("shop/", r"app_shared_paths = shop/: shop/tasks\.py is code"),
    ("shop/tasks.py", r"shop/tasks\.py is code"),
    ("db.sqlite3/", "db.sqlite3 is a file in the source, and would have to be a directory"),
    ("db.sqlite3/x", "db.sqlite3 is a file in the source"),
    ("link", "link is a link in the source"),
    ("link/x/", "link is a link in the source"),
])
def test_code_and_links_of_a_source_are_not_shared(tmp_path: Path, path: str, said: str) -> None:
    with tarfile.open(tmp_path / "packed", "w:gz") as tar:
        for name, kind in (("db.sqlite3", tarfile.REGTYPE), ("link", tarfile.SYMTYPE), ("logs", tarfile.DIRTYPE),
                           ("media/a.jpg", tarfile.REGTYPE), ("shop/tasks.py", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type = kind
            tar.addfile(member, io.BytesIO())
    if said:
        with pytest.raises(WorkfleetError, match=said):
            shared.require_shareable(str(tmp_path / "packed"), [path])
    else:
        shared.require_shareable(str(tmp_path / "packed"), [path])
