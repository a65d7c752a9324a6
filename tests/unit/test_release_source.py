"""Sources on the control node: what makes a release another one, what is packed, what is refused."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.release import archives, source


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    (root / "shop").mkdir(parents=True)
    (root / "shop" / "tasks.py").write_text("x = 1\n")
    (root / "manage.py").write_text("#!/usr/bin/python3\n")
    (root / "manage.py").chmod(0o755)
    return root


def look(root: Path, exclude: list[str] | None = None) -> source.Source:
    return source.look("directory", str(root), None, exclude, cache="/nonexistent")


def packed(looked: source.Source, tmp_path: Path) -> dict[str, tuple[int, bytes]]:
    path = tmp_path / "packed"
    assert looked.pack is not None
    looked.pack(str(path))
    with tarfile.open(path) as tar:
        return {
            item.name: (
                item.mode,
                (tar.extractfile(item) or io.BytesIO()).read() if item.isfile() else item.linkname.encode(),
            )
            for item in tar
        }


def test_a_directory_is_packed_with_executable_bits_and_nothing_else_of_its_modes(app: Path, tmp_path: Path) -> None:
    (app / "shop" / "tasks.py").chmod(0o600)
    assert packed(look(app), tmp_path) == {
        "manage.py": (0o755, b"#!/usr/bin/python3\n"),
        "shop/tasks.py": (0o644, b"x = 1\n"),
    }


def test_the_same_files_make_the_same_bytes(app: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    first = look(app)
    os.utime(app / "manage.py", (1, 1))
    second = look(app)
    assert first.pack and second.pack
    first.pack(str(one))
    second.pack(str(two))
    assert first.fingerprint == second.fingerprint
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    "name", [".git/config", "shop/__pycache__/tasks.pyc", ".env", "shop/old.pyc", "gone/__pycache__/tasks.pyc", "my-env/lib/"]
)
def test_what_is_no_code_changes_nothing(app: Path, name: str) -> None:
    before = look(app).fingerprint
    (app / "my-env").mkdir()
    (app / "my-env" / "pyvenv.cfg").write_text("")
    (app / name).parent.mkdir(exist_ok=True, parents=True)
    (app / name).mkdir() if name.endswith("/") else (app / name).write_text("x")
    assert look(app).fingerprint == before


def test_an_empty_directory_is_kept_also_where_all_that_is_in_it_is_left_out(app: Path, tmp_path: Path) -> None:
    before = look(app, ["*.log"]).fingerprint
    (app / "var" / "logs").mkdir(parents=True)
    looked = look(app, ["*.log"])
    assert looked.fingerprint != before
    assert "var/logs" in packed(looked, tmp_path)
    (app / "var" / "logs" / "x.log").write_text("x")
    assert look(app, ["*.log"]).fingerprint == looked.fingerprint
    target = tmp_path / "target"
    target.mkdir()
    archives.unpack(archives.members(str(tmp_path / "packed")), str(target))
    assert (target / "var" / "logs").is_dir()


def test_bytecode_is_left_out_whatever_an_inventory_excludes(app: Path) -> None:
    before = look(app, ["tests"]).fingerprint
    (app / "shop" / "__pycache__").mkdir()
    (app / "shop" / "__pycache__" / "tasks.cpython-311.pyc").write_text("x")
    assert look(app, ["tests"]).fingerprint == before


def test_a_virtualenv_is_left_out_whatever_its_name(app: Path) -> None:
    before = look(app, []).fingerprint
    (app / "my-env").mkdir()
    (app / "my-env" / "pyvenv.cfg").write_text("")
    (app / "my-env" / "x.py").write_text("")
    assert look(app, []).fingerprint == before


@pytest.mark.parametrize("change", ["content", "mode", "name", "new", "link"])
def test_every_change_of_the_code_changes_the_fingerprint(app: Path, change: str) -> None:
    before = look(app).fingerprint
    file = app / "shop" / "tasks.py"
    if change == "content":
        file.write_text("x = 2\n")
    elif change == "mode":
        file.chmod(0o755)
    elif change == "name":
        file.rename(file.with_name("jobs.py"))
    elif change == "new":
        (app / "new.py").write_text("")
    else:
        (app / "link").symlink_to("manage.py")
    assert look(app).fingerprint != before


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("shop", {"manage.py"}),
        ("*.py", {"shop"}),
        ("shop/tasks.py", {"manage.py", "shop"}),
        ("/shop/", {"manage.py"}),
        ("tasks", {"manage.py", "shop/tasks.py"}),
    ],
)
def test_exclude_takes_names_and_paths(app: Path, tmp_path: Path, pattern: str, left: set[str]) -> None:
    assert set(packed(look(app, [pattern]), tmp_path)) == left


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "../x"])
def test_a_link_out_of_the_source_is_refused_by_name(app: Path, target: str) -> None:
    (app / "link").symlink_to(target)
    with pytest.raises(WorkfleetError, match="the link link points out of the source"):
        look(app)


def test_a_link_inside_stays_a_link(app: Path, tmp_path: Path) -> None:
    (app / "shop" / "up").symlink_to("../manage.py")
    assert packed(look(app), tmp_path)["shop/up"][1] == b"../manage.py"


def tarred(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(text)
            tar.addfile(item, io.BytesIO(text.encode()))
    return path


def zipped(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("make", [tarred, zipped])
@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"shop-main/a.py": "", "shop-main/b/c.py": ""}, {"a.py", "b/c.py"}),
        ({"shop/__init__.py": "", "shop/a.py": ""}, {"shop/__init__.py", "shop/a.py"}),
        ({"a.py": "", "b/c.py": ""}, {"a.py", "b/c.py"}),
    ],
)
def test_one_directory_around_everything_is_left_out_unless_it_is_a_package(
    tmp_path: Path, make: object, files: dict[str, str], names: set[str]
) -> None:
    path = make(tmp_path / "archive", files)  # type: ignore[operator]
    looked = source.look("archive", str(path), None, None, str(tmp_path))
    assert looked.kind == "tree"
    assert set(packed(looked, tmp_path)) == names


@pytest.mark.parametrize(
    ("name", "make", "files"),
    [
        ("shop-1.0-py3-none-any.whl", zipped, {"shop.py": "", "shop-1.0.dist-info/WHEEL": ""}),
        ("shop-1.0.tar.gz", tarred, {"shop-1.0/PKG-INFO": "", "shop-1.0/shop.py": ""}),
    ],
)
def test_wheels_and_sdists_go_to_pip_as_they_are(
    tmp_path: Path, name: str, make: object, files: dict[str, str]
) -> None:
    path = make(tmp_path / name, files)  # type: ignore[operator]
    looked = source.look("archive", str(path), None, None, str(tmp_path))
    assert (looked.kind, looked.install) == ("package", name)
    assert looked.pack is not None
    looked.pack(str(tmp_path / "sent"))
    assert (tmp_path / "sent").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil.py", "a/../../evil.py"])
@pytest.mark.parametrize("make", [tarred, zipped])
def test_a_path_out_of_an_archive_is_refused(tmp_path: Path, make: object, name: str) -> None:
    path = make(tmp_path / "archive", {name: "", "b.py": ""})  # type: ignore[operator]
    with pytest.raises(WorkfleetError, match="out of the archive"):
        source.look("archive", str(path), None, None, str(tmp_path))


def test_what_is_no_archive_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_text("no")
    with pytest.raises(WorkfleetError, match=r"x\.tar\.gz: the archive cannot be read"):
        source.look("archive", str(tmp_path / "x.tar.gz"), None, None, str(tmp_path))


@pytest.fixture
def repository(app: Path) -> Path:
    git(app, "init", "-q", "-b", "main")
    git(app, "add", ".")
    git(app, "commit", "-q", "-m", "one")
    git(app, "tag", "-a", "v1", "-m", "v1")
    return app


def git(root: Path, *arguments: str) -> str:
    argv = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(argv, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("version", [None, "main", "v1", "commit"])
def test_a_commit_is_found_by_branch_tag_and_number(repository: Path, tmp_path: Path, version: str | None) -> None:
    wanted = git(repository, "rev-parse", "HEAD") if version == "commit" else version
    looked = source.look("git", str(repository), wanted, None, str(tmp_path))
    assert looked.fingerprint == source.look("git", str(repository), "v1", None, str(tmp_path)).fingerprint
    assert set(packed(looked, tmp_path)) == {"manage.py", "shop/tasks.py"}


def test_all_hosts_of_a_run_get_the_commit_that_was_found_first(repository: Path, tmp_path: Path) -> None:
    first = source.look("git", str(repository), "main", None, str(tmp_path))
    (repository / "new.py").write_text("")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "two")
    again = source.look("git", str(repository), "main", None, str(tmp_path))
    assert again.fingerprint == first.fingerprint
    assert "new.py" not in packed(again, tmp_path)
    (tmp_path / "later").mkdir()
    assert source.look("git", str(repository), "main", None, str(tmp_path / "later")).fingerprint != first.fingerprint


def test_an_unknown_version_is_named_and_the_password_is_not(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkfleetError, match="v9 is neither branch nor tag"):
        source.look("git", str(repository), "v9", None, str(tmp_path))
    with pytest.raises(WorkfleetError) as caught:
        source.look("git", "http://me:geheim@127.0.0.1:9/x.git", "main", None, str(tmp_path))
    assert "geheim" not in str(caught.value)


def test_a_commit_that_does_not_exist_is_named_when_it_is_packed(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkfleetError, match=rf"version: {'f' * 40} is no commit that a branch or tag of {repository} leads to"):
        packed(source.look("git", str(repository), "f" * 40, None, str(tmp_path)), tmp_path)


@pytest.fixture
def with_submodule(repository: Path, tmp_path: Path) -> Path:
    part = tmp_path / "part"
    part.mkdir()
    git(part, "init", "-q", "-b", "main")
    (part / "part.py").write_text("")
    git(part, "add", ".")
    git(part, "commit", "-q", "-m", "part")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(part), "shop/part")
    git(repository, "commit", "-q", "-m", "with a submodule")
    return repository


@pytest.mark.parametrize("kind", ["git", "directory", "archive"])
def test_a_submodule_of_which_only_the_place_is_there_is_refused_by_its_path_or_excluded(
    with_submodule: Path, tmp_path: Path, kind: str
) -> None:
    def packed_so(exclude: list[str]) -> set[str]:
        location = tmp_path / "clone" if kind == "directory" else tmp_path / "shop.tar" if kind == "archive" else with_submodule
        looked = source.look(kind, str(location), "main" if kind == "git" else None, [".git", *exclude], str(tmp_path))
        return set(packed(looked, tmp_path))

    git(tmp_path, "clone", "-q", str(with_submodule), "clone")
    git(with_submodule, "archive", "--prefix=shop-main/", "-o", str(tmp_path / "shop.tar"), "HEAD")
    with pytest.raises(WorkfleetError, match=r"shop/part: a submodule of git, .* submodule update --init --recursive .* type directory"):
        packed_so([])
    assert packed_so(["shop/part"]) == {".gitmodules", "manage.py", "shop/tasks.py"}


def test_a_checkout_with_its_submodules_is_whole(with_submodule: Path, tmp_path: Path) -> None:
    assert "shop/part/part.py" in packed(look(with_submodule), tmp_path)


@pytest.mark.parametrize("kind", ["git", "directory"])
def test_pointers_of_git_lfs_are_refused_by_name_or_excluded(repository: Path, tmp_path: Path, kind: str) -> None:
    for number in range(7):
        (repository / f"model{number}.bin").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{number:064}\nsize 9\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "models")

    def packed_so(exclude: list[str]) -> set[str]:
        looked = source.look(kind, str(repository), "main" if kind == "git" else None, [".git", *exclude], str(tmp_path))
        return set(packed(looked, tmp_path))

    with pytest.raises(WorkfleetError, match=r"model4\.bin and 2 more: not the content, but a pointer of git-LFS"):
        packed_so([])
    assert packed_so(["*.bin"]) == {"manage.py", "shop/tasks.py"}


def test_export_ignore_leaves_nothing_out(repository: Path, tmp_path: Path) -> None:
    (repository / ".gitattributes").write_text("[attr]unwanted export-ignore\ndeploy/ export-ignore\n*.py unwanted\n")
    (repository / "deploy").mkdir()
    (repository / "deploy" / "requirements.txt").write_text("")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "two")
    whole = {".gitattributes", "deploy/requirements.txt", "manage.py", "shop/tasks.py"}
    assert set(packed(source.look("git", str(repository), "main", None, str(tmp_path)), tmp_path)) == whole


def test_a_fetch_that_takes_too_long_is_ended_and_the_variable_that_gives_it_more_time_is_named(tmp_path: Path) -> None:
    """A large repository was given up after 300 s, and nothing could be set."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        location = f"git://127.0.0.1:{silent.getsockname()[1]}/x.git"
        with pytest.raises(WorkfleetError, match=r"git ls-remote did not end within 0\.5 s\. .* by app_step_seconds"):
            source.look("git", location, "main", None, str(tmp_path), seconds=0.5)
