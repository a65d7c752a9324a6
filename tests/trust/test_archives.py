"""Archives of somebody who wishes us ill, on the control node and on a host: nothing outside of the tree, nothing without bounds.

What is refused is refused in a sentence that names the member.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.release import archives, source

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).resolve().parents[2]
TYPES = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "same": tarfile.LNKTYPE, "directory": tarfile.DIRTYPE, "fifo": tarfile.FIFOTYPE,
         "device": tarfile.CHRTYPE, "disk": tarfile.BLKTYPE, "sparse": tarfile.GNUTYPE_SPARSE, "odd": b"V"}
Made = tuple[str, str, str]


def tarred(path: Path, members: Sequence[Made], form: int = tarfile.PAX_FORMAT) -> Path:
    """Write a tar of kind, name, and content or target."""
    with tarfile.open(path, "w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for kind, name, said in members:
            item = tarfile.TarInfo(name)
            item.type, item.mode = TYPES[kind], 0o6777
            if kind == "file":
                content = said.encode(errors="surrogateescape")
                item.size = len(content)
                tar.addfile(item, io.BytesIO(content))
            else:
                item.linkname = said
                tar.addfile(item)
    return path


def zipped(path: Path, members: Sequence[Made]) -> Path:
    """Write a zip of the same."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for kind, name, said in members:
            item = zipfile.ZipInfo(name + "/" if kind == "directory" else name)
            modes = {"link": stat.S_IFLNK, "fifo": stat.S_IFIFO, "device": stat.S_IFCHR, "disk": stat.S_IFBLK}
            item.create_system = 3
            item.external_attr = (modes.get(kind, stat.S_IFREG) | 0o6777) << 16
            archive.writestr(item, b"" if kind == "directory" else said.encode(errors="surrogateescape"))
    return path


def unpacked(path: Path, folder: Path) -> dict[str, str]:
    """Unpack as a host does; return path and content, or target of a link."""
    folder.mkdir()
    archives.require_inside(archives.unpack(archives.members(str(path)), str(folder)))
    return listing(folder)


def listing(folder: Path) -> dict[str, str]:
    """Return what is below a directory."""
    found = {}
    for where, _, files in os.walk(folder):
        for name in files + [each for each in os.listdir(where) if (Path(where) / each).is_symlink()]:
            path = Path(where, name)
            content = os.readlink(path) if path.is_symlink() else path.read_text(errors="surrogateescape")
            found[str(path.relative_to(folder))] = content
    return found


EVIL: list[tuple[list[Made], str]] = [
    ([("link", "a/b/up", "../.."), ("link", "y", "a/b/up/.."), ("file", "y/etc/cron.d/x", "1")], "y/etc/cron.d/x, which lies below"),
    ([("file", "d/x", "1"), ("link", "d", "/etc")], "d twice"),
    ([("link", "d", "/etc"), ("link", "d/passwd", "x")], "d/passwd, which lies below the link d"),
    ([("link", "d", "e"), ("file", "d/x", "1"), ("directory", "e", "")], "d/x, which lies below the link d"),
    ([("link", "a/b/c/up", "../../.."), ("link", "y", "a/b/c/up/../etc"), ("file", "x", "")], "link y points out of the source"),
    ([("link", "a", "/etc"), ("file", "b", "1")], "link a points out of the source, to /etc"),
    ([("link", "d/a", "../../etc"), ("file", "b", "")], "link d/a points out of the source"),
    ([("link", "a", "b"), ("link", "b", "a"), ("file", "c", "")], "in a circle"),
    ([("file", "../x", "1")], "../x, a path out of the archive"),
    ([("file", "/etc/x", "1")], "/etc/x, a path out of the archive"),
    ([("file", "a/../b", "1")], "a/../b, a path out of the archive"),
    ([("fifo", "a", ""), ("file", "b", "")], "a, which is neither a file nor a link"),
    ([("device", "a", ""), ("file", "b", "")], "a, which is neither a file nor a link"),
    ([("file", "a\x1b[2Jb", "1"), ("file", "c", "")], "a?[2Jb, a name with control characters"),
    ([("file", "a\nb", "1"), ("file", "c", "")], "a?b, a name with control characters"),
    ([("file", "a", "1"), ("file", "a", "2"), ("file", "c", "")], "a twice, as file and file"),
    ([("file", "a", "1"), ("file", "a/b", "2"), ("file", "c", "")], "a/b, which lies below the file a"),
    ([("file", "x" * 300, ""), ("file", "c", "")], "a path may have 1024 bytes"),
    ([("file", "/".join("x" * 70), ""), ("file", "c", "")], "a path may have 1024 bytes, 255 in each of its names, and 64 names"),
]


@pytest.mark.parametrize("pack", [tarred, zipped])
@pytest.mark.parametrize(("members", "said"), EVIL)
def test_no_member_comes_out_of_the_tree_or_stops_us(tmp_path: Path, pack: Any, members: list[Made], said: str) -> None:
    """On the control node; and on a host, should one have come there all the same."""
    with pytest.warns(UserWarning) if pack is zipped and "twice, as file and file" in said else nothing():
        path = pack(tmp_path / "evil", members)
    (tmp_path / "cache").mkdir()
    with pytest.raises(WorkfleetError) as caught:
        source.look("archive", str(path), None, None, str(tmp_path / "cache"))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["cache", "evil"]
    with pytest.raises(WorkfleetError) as caught:
        unpacked(path, tmp_path / "host")
    assert said in str(caught.value)


def nothing() -> Any:
    """A context that does nothing."""
    return tempfile.SpooledTemporaryFile()


@pytest.mark.parametrize(("members", "said"), [
    ([("same", "a", "/etc/passwd"), ("file", "b", "")], "a, a hard link out of the archive, to /etc/passwd"),
    ([("same", "a", "../../etc/passwd"), ("file", "b", "")], "a, a hard link out of the archive"),
    ([("link", "l", "b"), ("same", "a", "l"), ("file", "b", "zz")], "a, a hard link to l, which is no file of the archive before it"),
    ([("same", "a", "b"), ("file", "b", "zz")], "a, a hard link to b, which is no file of the archive before it"),
    ([("same", "a", "a")], "a, a hard link to a, which is no file of the archive before it"),
    ([("sparse", "a", ""), ("file", "b", "")], "a, which is neither a file nor a link"),
    ([("odd", "a", ""), ("file", "b", "")], "a, which is neither a file nor a link"),
    ([("file", ".", "1"), ("file", "c", "")], "a file without a name"),
])
def test_no_hard_link_comes_out_of_a_tar(tmp_path: Path, members: list[Made], said: str) -> None:
    path = tarred(tmp_path / "evil", members)
    with pytest.raises(WorkfleetError, match="archive") as caught:
        unpacked(path, tmp_path / "host")
    assert said in str(caught.value)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_an_archive_that_means_well_is_unpacked_with_modes_of_ours(tmp_path: Path, form: int) -> None:
    long = "d" * 90 + "/" + "f" * 90 + "/x"
    members = [("directory", "e", ""), ("file", "a", "1"), ("file", long, "22"), ("same", "b", "a"), ("link", "d/up", "../a"),
               ("link", "top", "."), ("file", "é", "")]
    found = unpacked(tarred(tmp_path / "x", members, form), tmp_path / "host")
    assert found == {"a": "1", long: "22", "b": "1", "d/up": "../a", "top": ".", "é": ""}
    modes = {stat.S_IMODE(os.lstat(tmp_path / "host" / name).st_mode) for name in ("a", "b", long)}
    assert modes == {0o755}, "and neither setuid, setgid nor what others may write"
    assert os.stat(tmp_path / "host" / "a").st_nlink == 1


def test_a_link_that_leads_out_once_the_directory_around_everything_is_gone_is_refused(tmp_path: Path) -> None:
    path = tarred(tmp_path / "x", [("link", "shop-main/l", "../secret"), ("file", "shop-main/a", "")])
    with pytest.raises(WorkfleetError, match="the link l points out of the source"):
        source.look("archive", str(path), None, None, str(tmp_path))


def test_what_is_excluded_may_be_what_it_likes_to_be(tmp_path: Path) -> None:
    path = tarred(tmp_path / "x", [("link", "etc", "/etc"), ("file", "a", "")])
    assert source.look("archive", str(path), None, ["etc"], str(tmp_path)).kind == "tree"


def test_wheels_and_sdists_are_judged_before_pip_sees_them(tmp_path: Path) -> None:
    wheel = zipped(tmp_path / "shop-1.0-py3-none-any.whl", [("file", "../x", ""), ("file", "shop-1.0.dist-info/WHEEL", "")])
    sdist = tarred(tmp_path / "shop-1.0.tar", [("file", "shop-1.0/PKG-INFO", ""), ("link", "shop-1.0/x", "/etc")])
    for path in (wheel, sdist):
        with pytest.raises(WorkfleetError, match="out of the"):
            source.look("archive", str(path), None, None, str(tmp_path))


# Bounds, each in a process that may have little


def bounded(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run code with 256 MB of memory and 60 s of processor."""
    limits = "from resource import *; setrlimit(RLIMIT_AS, (256 << 20,) * 2); setrlimit(RLIMIT_CPU, (60, 60))\n"
    names = "import sys; from plugins.module_utils.workfleet.release import archives, source\n"
    said = "from plugins.module_utils.workfleet.errors import WorkfleetError\ntry:\n    {}\nexcept WorkfleetError as e: print(e)"
    return subprocess.run([sys.executable, "-c", names + limits + said.format(code), *map(str, words)], cwd=REPOSITORY, check=False,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})


LOOK = "source.look('archive', sys.argv[1], None, None, sys.argv[2]); print('accepted')"


@pytest.mark.parametrize("pack", [gzip.open, bz2.open, lzma.open])
def test_a_bomb_is_stopped_while_it_is_read(tmp_path: Path, pack: Any) -> None:
    with pack(tmp_path / "bomb.tar", "wb") as file:
        for number in range(40):
            item = tarfile.TarInfo(f"{number}.py")
            item.size = 1 << 20
            file.write(item.tobuf() + bytes(1 << 20))
        item.size = 300 << 20
        file.write(item.tobuf())
    done = bounded("archives.MOST_BYTES = 16 << 20; " + LOOK, tmp_path / "bomb.tar", tmp_path)
    assert "more than 16 MiB when it is unpacked" in done.stdout and "16.py" in done.stdout, done.stderr[-2000:]
    done = bounded("archives.MOST_BYTES = 64 << 20; " + LOOK, tmp_path / "bomb.tar", tmp_path)
    assert "39.py of 314572800 bytes; 64 MiB may be in all of it" in done.stdout, done.stderr[-2000:]


def test_a_zip_that_says_it_is_small_is_stopped_too(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.py", bytes(12 << 20))
    done = bounded("archives.MOST_BYTES = 20 << 20; " + LOOK, path, tmp_path)
    assert "more than 20 MiB when it is unpacked" in done.stdout and "1.py" in done.stdout, done.stderr[-2000:]
    assert not any(each.name.startswith("archive-") and each.is_dir() for each in tmp_path.iterdir()), "what was unpacked is gone again"


def test_too_many_members_are_stopped(tmp_path: Path) -> None:
    path = tarred(tmp_path / "x.tar", [("file", f"{number % 7}/{number}", "") for number in range(2000)])
    done = bounded("archives.MOST_MEMBERS = 1000; " + LOOK, path, tmp_path)
    assert "more than 1000 files and directories" in done.stdout, done.stderr[-2000:]
    deep = tarred(tmp_path / "deep.tar", [("file", f"{number}/" + "x/" * 60 + "y", "") for number in range(40)])
    done = bounded("archives.MOST_MEMBERS = 1000; " + LOOK, deep, tmp_path)
    assert "more than 1000 files and directories" in done.stdout, "directories count as well"


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    item = tarfile.TarInfo("x")
    item.type, item.size = tarfile.XHDTYPE, 4 << 30
    with gzip.open(tmp_path / "x.tar.gz", "wb") as file:
        file.write(item.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(1 << 20))
    done = bounded(LOOK, tmp_path / "x.tar.gz", tmp_path)
    assert "a header of 4294967296 bytes" in done.stdout, done.stderr[-2000:]


def test_headers_of_digits_take_no_time(tmp_path: Path) -> None:
    """Python's own reader looks for a word at each of them."""
    with open(tmp_path / "x.tar", "wb") as file:
        for _ in range(200):
            item = tarfile.TarInfo("x")
            item.type, item.size = tarfile.XHDTYPE, 65024
            file.write(item.tobuf() + b"9" * 65024)
    done = bounded(LOOK, tmp_path / "x.tar", tmp_path)
    assert "a header that is spoilt" in done.stdout, done.stderr[-2000:]


def test_many_links_through_links_take_no_time(tmp_path: Path) -> None:
    links = [("link", f"l{number}", f"l{number + 1}/" + "x/../" * 100) for number in range(30)]
    links += [("link", f"m{number}", "l0/" + "x/../" * 190) for number in range(1000)]
    done = bounded(LOOK, tarred(tmp_path / "x.tar", [*links, ("directory", "l30", "")]), tmp_path)
    assert "accepted" in done.stdout, done.stdout + done.stderr[-2000:]


SAY = """
import json, sys, tempfile
from plugins.module_utils.workfleet.release import archives
said = []
for path in sys.argv[1:]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            said.append(sorted(archives.unpack(archives.members(path), folder).items()))
        except Exception as error:
            said.append([type(error).__name__, str(error)])
print(json.dumps(said))
"""


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_every_python_says_the_same(tmp_path: Path) -> None:
    """Python's own ways to unpack do not."""
    paths = [pack(tmp_path / f"{number}{pack.__name__}", members) for number, (members, _) in enumerate(EVIL) for pack in (tarred, zipped)]
    pythons = [sys.executable, "/usr/bin/python3"]
    pythons += [str(path) for path in sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python3"))]
    said = {}
    for each in pythons:
        is_old = "import sys; sys.exit(sys.version_info < (3, 9))"
        if Path(each).exists() and subprocess.run([each, "-c", is_old], check=False).returncode == 0:
            done = subprocess.run([each, "-c", SAY, *paths], cwd=REPOSITORY, check=True, capture_output=True, text=True,
                                  env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"})
            said[each] = done.stdout
    assert len(set(said.values())) == 1, said
    assert {name for name, *_ in json.loads(said[sys.executable]) if isinstance(name, str)} == {"WorkfleetError"}


# Archives that nobody thought of

PARTS = ["a", "b", "c", "..", ".", "", "é", "\udc80", "d\x00", "e\x1b", "x" * 260]
NAMES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map("/".join)
PLACES = st.one_of(NAMES, st.sampled_from(["/etc/passwd", "a", "b", "a/b", "..", "../..", "a/..", "c/../..", "."]))
MEMBERS = st.lists(st.tuples(st.sampled_from(sorted(TYPES)), PLACES, PLACES), max_size=8)


def outside(top: Path) -> list[tuple[int, ...]]:
    """Return what is told of what must stay as it is."""
    found = [os.lstat(top / each) for each in ("outside", "outside/passwd", "archive")]
    return [(each.st_ino, each.st_mode, each.st_nlink, each.st_uid, each.st_gid, each.st_size, each.st_mtime_ns) for each in found]


def judged(pack: Any, members: list[Made], spoil: tuple[int, int] | None = None) -> None:
    """Unpack: all that is there afterwards is in the tree and resolves in it, or our own error was raised."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "outside").mkdir()
        (top / "outside" / "passwd").write_text("root")
        try:
            path = pack(top / "archive", members)
        except (ValueError, UnicodeError, OSError):  # Python does not write such a one
            return
        if spoil:
            data = bytearray(path.read_bytes())
            data[spoil[0] % len(data)] = spoil[1]
            path.write_bytes(data)
        before = outside(top)
        inside = top / "host" / "deep"
        inside.parent.mkdir()
        try:
            unpacked(path, inside)
        except WorkfleetError as error:
            assert str(error) and not archives._CONTROL.search(str(error))
        else:
            for where, folders, files in os.walk(inside):
                for each in folders + files:
                    at = Path(where, each)
                    assert stat.S_IFMT(os.lstat(at).st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
                    assert os.path.realpath(at).startswith(str(inside.resolve()))
                    assert at.is_symlink() or not os.lstat(at).st_mode & 0o7022
        assert os.listdir(top / "host") == ["deep"]
        assert outside(top) == before
        assert sorted(os.listdir(top)) == ["archive", "host", "outside"]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([tarred, zipped]), MEMBERS)
@example(tarred, [("link", "a", ".."), ("file", "a/b", "x")])
@example(tarred, [("link", "a/b", "../.."), ("link", "b", "a/b/..")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_archive_reaches_out_or_ends_in_another_error(pack: Any, members: list[Made]) -> None:
    judged(pack, members)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([tarred, zipped]), MEMBERS.filter(bool), st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_spoilt_archive_reaches_out_or_ends_in_another_error(pack: Any, members: list[Made], spoil: tuple[int, int]) -> None:
    judged(pack, members, spoil)


# git


@pytest.mark.parametrize("version", ["--upload-pack=touch /tmp/pwned", "-x", "+refs/heads/*:refs/heads/*", "a:b", "a..b", "a b", "a\nb"])
def test_a_version_is_no_option_and_no_refspec(tmp_path: Path, version: str) -> None:
    with pytest.raises(WorkfleetError, match="a version is the name of a branch or tag"):
        source.look("git", str(tmp_path), version, None, str(tmp_path))


@pytest.mark.parametrize("location", ["ext::sh -c touch% {}/pwned", "--upload-pack=touch {}/pwned"])
def test_a_repository_runs_no_command(tmp_path: Path, location: str) -> None:
    with pytest.raises(WorkfleetError):
        source.look("git", location.format(tmp_path), "main", None, str(tmp_path))
    assert not (tmp_path / "pwned").exists()


def test_no_hook_of_a_template_or_configuration_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "reference-transaction").write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\n")
    (hooks / "reference-transaction").chmod(0o755)
    repository = tmp_path / "app"
    repository.mkdir()
    (repository / "a.py").write_text("")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], cwd=repository, check=True)
    (tmp_path / "gitconfig").write_text(f"[core]\n\thooksPath = {hooks}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    looked = source.look("git", str(repository), "main", None, str(tmp_path))
    assert looked.pack is not None
    looked.pack(str(tmp_path / "packed"))
    assert unpacked(tmp_path / "packed", tmp_path / "host") == {"a.py": ""}
    assert not (tmp_path / "pwned").exists()
