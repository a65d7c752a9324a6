"""What pip is told of ``app_requirements``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.release import requirements

if TYPE_CHECKING:
    from pathlib import Path

PINNED = "six==1.17.0 \\\n    --hash=sha256:4721f391 \\\n    --hash=sha256:ff70335d\n    # via shop\n"


@pytest.fixture
def src(tmp_path: Path) -> Path:
    for name in ("lib", "deploy"):
        (tmp_path / name).mkdir()
    (tmp_path / "lib" / "x.whl").touch()
    (tmp_path / "plain.txt").write_text("six\n-e ./lib\n")
    (tmp_path / "hashed.txt").write_text(PINNED)
    (tmp_path / "deploy" / "uv.txt").write_text(
        f"# made by uv export --hash=no\n-e .\n{PINNED}./lib[a,b] ; python_version > '3' # mine\n--editable=../x\n"
        ".hidden==1 \\\n  --hash=x\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("entries", "calls"),
    [
        ([], []),
        (["--pre"], []),
        (["six", "plain.txt", ".", "--pre"], [["--pre", "six", "-r", "plain.txt", "."]]),
        (["hashed.txt", "-c limits"], [["-c", "limits", "-r", "hashed.txt"]]),
        ([".[redis]", "hashed.txt", "--pre"], [["--pre", "-r", "hashed.txt"], ["--pre", "--no-deps", ".[redis]"]]),
        (["-r hashed.txt", "-e .", "lib"], [["lib", "-r", "hashed.txt"], ["--no-deps", "-e", "."]]),
        (["hashed.txt", "./lib", "lib/x.whl"], [["-r", "hashed.txt"], ["--no-deps", "./lib", "lib/x.whl"]]),
        (["--require-hashes", "plain.txt", "."], [["--require-hashes", "-r", "plain.txt"], ["--no-deps", "."]]),
        (["-e git+https://example.org/x.git#egg=x", "."], [["-e", "git+https://example.org/x.git#egg=x", "."]]),
        (
            ["deploy/uv.txt"],
            [
                ["-r", "deploy/.workfleet-uv.txt"],
                ["--no-deps", "-e", ".", "./lib[a,b] ; python_version > '3'", "-e", "../x"],
            ],
        ),
    ],
)
def test_what_lies_in_the_release_is_installed_behind_what_has_hashes(src: Path, entries: list[str], calls: list[list[str]]) -> None:
    assert requirements.parse(entries, str(src)).calls() == calls


def test_a_file_with_hashes_is_read_without_its_own_paths_beside_where_it_stands(src: Path) -> None:
    rests = requirements.parse(["deploy/uv.txt", "plain.txt", "hashed.txt"], str(src)).rests
    assert rests == {
        str(src / "deploy" / ".workfleet-uv.txt"): f"# made by uv export --hash=no\n{PINNED}.hidden==1 \\\n  --hash=x\n"
    }


def test_a_package_that_was_sent_is_installed_behind_hashes_and_with_all_else_without(src: Path) -> None:
    assert requirements.parse(["hashed.txt"], str(src), ["/p/shop.whl"]).calls() == [["-r", "hashed.txt"], ["--no-deps", "/p/shop.whl"]]
    assert requirements.parse(["six"], str(src), ["/p/shop.whl"]).calls() == [["six", "/p/shop.whl"]]


def test_a_file_that_is_not_there_is_named(src: Path) -> None:
    with pytest.raises(WorkfleetError, match=r"gone\.txt is not in the release"):
        requirements.parse(["gone.txt"], str(src))
