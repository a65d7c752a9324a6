"""What root does to files where others can write: no victim is read, changed or given away, and nothing waits or fills memory."""

from __future__ import annotations

import ast
import contextlib
import functools
import os
import resource
import shutil
import signal
import stat
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import managers
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import files
from plugins.module_utils.workfleet.managers import logfiles, logs
from plugins.module_utils.workfleet.model import Name
from plugins.module_utils.workfleet.nodes.host_nodes import HostNodes
from plugins.module_utils.workfleet.nodes.request import Request
from plugins.module_utils.workfleet.scaling import timer as autoscaler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = "root:$y$secret:20000:0:99999:7:::\n"
#: Whoever the app's user is; the tests run as root where it counts that it is another one.
APP = 65534 if os.geteuid() == 0 else os.geteuid()
ACCOUNT = "daemon"  # one whose group has its name
APP_NAME, APP_GROUP = ("nobody", "nogroup") if os.geteuid() == 0 else (None, None)


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """End what waits, for whatever: an alarm makes any call fail."""
    def late(*_: object) -> None:
        raise AssertionError("it waits")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)


class World:
    """A victim of root's, and beside it a directory of the app's with a file, a directory and what root puts there."""

    def __init__(self, base: Path) -> None:
        self.victim, self.theirs = base / "victim", base / "theirs"
        self.place = self.theirs / "place"
        self.target, self.folder = self.place / "target", self.place / "folder"
        self.victim.mkdir()
        for name in ("target", "folder/target", "folder/inner/target", "inner/target", "sub/target", "new/target"):
            (self.victim / name).parent.mkdir(exist_ok=True)
            (self.victim / name).write_text(SECRET)
            (self.victim / name).chmod(0o600)
        self.before = self.seen()

    def make(self) -> None:
        """Make what is the app's, anew."""
        shutil.rmtree(self.theirs, ignore_errors=True)
        (self.folder / "sub" / "inner").mkdir(parents=True)
        for path in (self.target, self.folder / "sub" / "target", self.folder / "target"):
            path.write_text("theirs\n")
        for path in (self.theirs, *self.theirs.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
            os.chown(path, APP, -1)

    def seen(self) -> list[tuple[Any, ...]]:
        """Everything about the victim that counts."""
        return [(str(path), status.st_mode, status.st_uid, status.st_gid, path.read_text() if path.is_file() else "")
                for path in (self.victim, *sorted(self.victim.rglob("*"))) for status in [path.lstat()]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    shared = Path("/dev/shm")  # in memory, where there is such a place: thousands of files are made
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as base:
        os.chmod(base, 0o755)
        made = World(Path(base))
        made.make()
        yield made


# The generator: each effect of the module, attacked before each of its calls to the system, in each way


def away(path: Path) -> None:
    """Move what is there away, as its owner can."""
    with contextlib.suppress(OSError):
        path.rename(path.with_name(f"{path.name}.away"))


def back(path: Path) -> None:
    """Put it there again."""
    aside = path.with_name(f"{path.name}.away")
    if os.path.lexists(aside):
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        with contextlib.suppress(OSError):
            aside.rename(path)


def swapped(path: Path, put: Callable[[Path], None]) -> None:
    away(path)
    with contextlib.suppress(OSError):
        put(path)


def temporaries(world: World, put: Callable[[Path], None]) -> None:
    for path in world.theirs.rglob(".workfleet-*"):
        swapped(path, put)


SWAPS: dict[str, Callable[[World], None]] = {
    "the file by a link": lambda w: swapped(w.target, lambda p: p.symlink_to(w.victim / "target")),
    "the file by a second name": lambda w: swapped(w.target, lambda p: p.hardlink_to(w.victim / "target")),
    "the file by a link to a directory": lambda w: swapped(w.target, lambda p: p.symlink_to(w.victim)),
    "the file by a pipe": lambda w: swapped(w.target, os.mkfifo),
    "the directory by a link": lambda w: swapped(w.folder, lambda p: p.symlink_to(w.victim)),
    "a directory below by a link": lambda w: swapped(w.folder / "sub", lambda p: p.symlink_to(w.victim / "sub")),
    "the place by a link": lambda w: swapped(w.place, lambda p: p.symlink_to(w.victim)),
    "the new directory by a link": lambda w: swapped(w.place / "new", lambda p: p.symlink_to(w.victim / "new")),
    "the temporary file by a link": lambda w: temporaries(w, lambda p: p.symlink_to(w.victim / "target")),
    "the temporary file by a second name": lambda w: temporaries(w, lambda p: p.hardlink_to(w.victim / "target")),
}
EFFECTS: dict[str, Callable[[World], object]] = {
    "write": lambda w: files.write(str(w.target), "ours\n", mode=0o644, owner=APP_NAME, group=APP_GROUP),
    "write and keep": lambda w: files.write(str(w.target), "ours\n", mode=None),
    "directory": lambda w: files.directory(str(w.folder), mode=0o755, owner=APP_NAME, group=APP_GROUP),
    "new directory": lambda w: files.directory(str(w.place / "new" / "newer"), mode=0o755, owner=APP_NAME, group=APP_GROUP),
    "link": lambda w: files.link("elsewhere", str(w.target)),
    "remove": lambda w: files.remove(str(w.target)),
    "remove all": lambda w: files.remove(str(w.folder)),
    "lock": lambda w: closed(files.lock_file(str(w.target))),
    "read": lambda w: files.read(str(w.target), theirs=True),
    "end": lambda w: files.end(str(w.target), 1 << 20)[0].decode(),
    "names": lambda w: files.names(str(w.folder)),
    "tree": lambda w: files.tree(str(w.folder)),
    "status": lambda w: files.is_directory(str(w.folder)),
}


def closed(file: Any) -> None:
    """Write as one who holds a lock does."""
    with file:
        file.write("ours\n")


class Attacked:
    """``os`` as the module sees it: somebody is at work before call number ``at``, and puts all back before the next one."""

    def __init__(self, at: int = -1, begin: Callable[[], object] = int, end: Callable[[], object] = int) -> None:
        self.calls, self.at, self.begin, self.end = 0, at, begin, end

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name not in CALLS:
            return found

        def call(*given: Any, **more: Any) -> Any:
            if self.calls == self.at:
                self.begin()
            elif self.calls == self.at + 1:
                self.end()
            self.calls += 1
            return None if name == "fsync" else found(*given, **more)

        return call


CALLS = {"open", "stat", "fstat", "mkdir", "readlink", "scandir", "read", "pread", "fchown", "fchmod", "replace", "rename",
         "unlink", "rmdir", "symlink", "fsync"}


def test_the_generator_knows_all_calls_of_the_module() -> None:
    used = {node.attr for node in ast.walk(ast.parse(Path(files.__file__).read_text()))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"}
    harmless = {"path", "geteuid", "close", "stat_result"} | {name for name in used if name.startswith("O_")}
    assert used - harmless == CALLS


@pytest.mark.parametrize("stays", [False, True], ids=["and put back", "for good"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_no_swap_between_two_calls_makes_root_touch_what_is_not_the_apps(
    effect: str, stays: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Attacked()
    monkeypatch.setattr(files, "os", counter)
    with contextlib.suppress(WorkfleetError):  # some are refused where others can write
        EFFECTS[effect](world)
    assert counter.calls > 4
    assert world.seen() == world.before
    for name, swap in SWAPS.items():
        for at in range(counter.calls + 1):
            world.make()

            def restore() -> None:
                for path in (world.place, world.folder / "sub", world.folder, world.target, world.place / "new"):
                    back(path)

            monkeypatch.setattr(files, "os", Attacked(at, functools.partial(swap, world), int if stays else restore))
            told: object = None
            with contextlib.suppress(WorkfleetError):
                told = EFFECTS[effect](world)
            assert world.seen() == world.before, f"{name}, before call {at}"
            assert told != SECRET, f"{name}, before call {at}"


def test_a_path_through_swapped_directories_never_ends_in_the_victims(world: World) -> None:
    """Another process swaps as fast as it can, while the module works: what no single step shows."""
    child = os.fork()
    if not child:
        os.setuid(APP)
        while True:
            for swap in SWAPS.values():
                with contextlib.suppress(OSError):
                    swap(world)
                    for path in (world.place, world.folder, world.target):
                        back(path)
    try:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            for effect in EFFECTS.values():
                with contextlib.suppress(WorkfleetError):
                    assert effect(world) != SECRET
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert world.seen() == world.before


# Links


def test_a_link_of_roots_own_is_followed_and_one_of_the_apps_is_not(world: World) -> None:
    ours = world.theirs.parent / "ours"
    ours.symlink_to("victim")
    assert files.read(str(ours / "target")) == SECRET
    (world.place / "link").symlink_to(world.victim)
    with pytest.raises(files.Unreadable, match="place/link is a link that others than root can have put there"):
        files.read(str(world.place / "link" / "target"))
    with pytest.raises(WorkfleetError, match="place/link is a link"):
        files.write(str(world.place / "link" / "target"), "x")
    assert files.status(str(world.place / "link")) == os.lstat(world.place / "link"), "it is told as what it is"


def test_a_link_that_the_app_left_in_what_is_roots_now_is_not_followed(world: World) -> None:
    planted = world.place / "planted"
    planted.symlink_to(world.victim)
    os.chown(planted, 65533 if os.geteuid() == 0 else -1, -1, follow_symlinks=False)
    for path in (world.theirs, world.place):
        os.chown(path, os.geteuid(), -1)
        path.chmod(0o755)
    if os.geteuid() == 0:
        with pytest.raises(WorkfleetError, match="planted is a link that"):
            files.directory(str(planted), mode=0o777)
    assert world.seen() == world.before


def test_links_in_a_circle_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path in (tmp_path / "a", tmp_path / "a" / "x"):
        with pytest.raises(files.Unreadable, match=r"cannot read .* too many links"):
            files.read(str(path))


# What a reader finds


def within(most_bytes: int, call: Callable[[], object]) -> None:
    """Call in a process of its own, which can take so many bytes more than it has."""
    child = os.fork()
    if not child:
        try:
            status = Path("/proc/self/status").read_text()
            limit = int(status.partition("VmData:")[2].split()[0]) * 1024 + most_bytes
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
            call()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def pipe(path: Path, _: World) -> None:
    os.mkfifo(path)


def huge(path: Path, _: World) -> None:
    path.write_text("")
    os.truncate(path, 1 << 40)


def leased(path: Path, _: World) -> None:
    path.symlink_to("/dev/zero")


HOSTILE: dict[str, Callable[[Path, World], None]] = {
    "a pipe": pipe,
    "a terabyte of nothing": huge,
    "a device by a link": leased,
    "a link": lambda path, world: path.symlink_to(world.victim / "target"),
    "a second name": lambda path, world: path.hardlink_to(world.victim / "target"),
    "a directory": lambda path, _: path.mkdir(),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_stands_for_a_record_makes_root_neither_wait_nor_take_memory_nor_tell(what: str, world: World) -> None:
    path = world.place / "record.json"
    HOSTILE[what](path, world)

    def look() -> None:
        with pytest.raises(files.Unreadable, match=r"cannot read .*record\.json: ") as told:
            files.read(str(path), limit=files.LARGEST_RECORD, theirs=True)
        assert "secret" not in str(told.value)

    within(2 << 20, look)


@pytest.mark.parametrize("what", set(HOSTILE) - {"a terabyte of nothing"})
def test_what_stands_for_a_log_is_one_line_that_says_so_and_the_rest_is_told(what: str, world: World) -> None:
    path = world.place / "workfleet.shop.a.1.1.log"
    HOSTILE[what](path, world)
    (line,) = logfiles.tail(str(path), 10)
    assert line.startswith(f"cannot read {path}: ")
    assert "secret" not in line
    path.rename(f"{path}.1")
    path.write_text("good\n")
    os.chown(path, APP, -1)
    told = logs.read([logfiles.stream(str(path), logs.Wish(10))])
    assert [entry.text.partition(": ")[0] for entry in told] == [f"cannot read {path}.1", "good"]


@pytest.mark.parametrize("text", [b"", b"\n" * (9 << 20), b"x" * (9 << 20), b"2026-01-01 00:00:00 ERROR x\n" * 30_000])
def test_a_log_of_any_size_takes_bounded_memory(text: bytes, world: World) -> None:
    path = world.place / "workfleet.shop.a.1.1.log"
    path.write_bytes(text)
    if not text:
        os.truncate(path, 1 << 40)
    os.chown(path, APP, -1)

    def look() -> None:
        logs.read([logfiles.stream(str(path), logs.Wish(10, level="error"))])
        logfiles.tail(str(path), 100)

    within(64 << 20, look)


def test_a_directory_of_names_without_end_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_NAMES", 100)
    for number in range(101):
        (world.folder / f"n{number}").write_text("")
    with pytest.raises(files.Unreadable, match="more than 100 names"):
        files.names(str(world.folder))


def test_environment_files_that_the_app_made_huge_are_replaced_and_take_no_memory(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    names = [Name("shop", "a", slot, 1) for slot in range(1, 201)]
    (tmp_path / "env").mkdir()
    for name in names:
        path = tmp_path / "env" / f"{name}.env"
        path.write_text("")
        os.truncate(path, 15 << 20)
    request = Request.parse({
        "app": "shop", "user": "u", "group": "g", "root": str(tmp_path), "manager": "supervisor", "run_directory": str(tmp_path),
        "groups": [],
        "rollout": {}, "has_release": False, "tokens": {}, "manager_texts": {}, "longest_drain": 0})
    reconciler = HostNodes(request, managers.named("supervisor", "shop", str(tmp_path), str(tmp_path)))

    def look() -> None:
        assert {reconciler.environment(name) for name in names} == {""}

    if os.geteuid() == 0:
        within(8 << 20, look)


# Removing


def test_a_tree_as_deep_as_anybody_likes_is_removed(world: World) -> None:
    place = os.getcwd()
    os.chdir(world.folder)
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(place)
    assert files.remove(str(world.folder))
    assert not world.folder.exists()


def test_a_directory_that_somebody_goes_on_filling_is_not_emptied_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_REMOVE_SECONDS", 0.2)

    def unlink(name: str, dir_fd: int) -> None:
        os.unlink(name, dir_fd=dir_fd)
        os.close(os.open(f"{time.monotonic_ns()}", os.O_CREAT | os.O_WRONLY, dir_fd=dir_fd))

    full = Attacked()
    full.unlink = unlink  # type: ignore[attr-defined]
    monkeypatch.setattr(files, "os", full)
    with pytest.raises(WorkfleetError, match=r"cannot remove .*folder: it was not empty after 0\.2 s"):
        files.remove(str(world.folder))


# Rights


def test_a_directory_of_another_account_is_not_given_away_where_the_app_can_move_it_to(world: World) -> None:
    ours = world.place / "ours"
    ours.mkdir(mode=0o700)
    (ours / "state").write_text("")
    if os.geteuid() == 0:
        with pytest.raises(WorkfleetError, match="ours: it belongs to another account"):
            files.directory(str(ours), owner=APP_NAME, group=APP_GROUP)
        assert (ours.stat().st_uid, stat.S_IMODE(ours.stat().st_mode)) == (0, 0o700)


def test_a_file_is_never_readable_by_more_than_its_mode_allows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: set[int] = set()

    class Looking(Attacked):
        def __getattr__(self, name: str) -> Any:
            modes.update(stat.S_IMODE(path.stat().st_mode) for path in world.place.glob(".workfleet-*"))
            return super().__getattr__(name)

    monkeypatch.setattr(files, "os", Looking())
    files.write(str(world.target), "x", mode=0o600, owner=APP_NAME, group=APP_GROUP)
    files.write(str(world.target), "x", mode=0o640)
    assert modes <= {0o600, 0o640}


def test_a_file_that_is_written_anew_keeps_owner_and_mode_where_that_is_asked_for(world: World) -> None:
    world.target.chmod(0o640)
    files.write(str(world.target), "new", mode=None)
    status = world.target.stat()
    assert (world.target.read_text(), stat.S_IMODE(status.st_mode), status.st_uid) == ("new", 0o640, APP)


def test_nothing_is_left_open(world: World) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for effect in EFFECTS.values():
        world.make()
        with files.one_look(), contextlib.suppress(WorkfleetError):
            effect(world)
        for swap in SWAPS.values():
            world.make()
            swap(world)
            with contextlib.suppress(WorkfleetError):
                effect(world)
    assert sorted(os.listdir("/proc/self/fd")) == before


# Who uses it


def test_the_copy_of_an_inventory_follows_no_link_that_its_account_planted(world: World) -> None:
    root = world.theirs
    request = autoscaler.Request(
        app="shop", name="x", user=ACCOUNT, root=str(root), state="started", executable=[], public={}, service="", timer="",
        files={"inventory/hosts.yml": "a", "inventory/group_vars/all/app.yml": "b", "inventory/host_vars/h.yml": "c", "private/key": "k"})
    inventory = root / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "group_vars" / "all").symlink_to(world.victim)
    (inventory / "host_vars").symlink_to(world.victim / "folder")
    os.mkfifo(inventory / "hosts.yml")
    (inventory / "more").symlink_to(world.victim)
    for path in (root, inventory, *inventory.rglob("*")):
        os.chown(path, APP, -1, follow_symlinks=False)
    os.chown(root, os.geteuid(), -1)
    root.chmod(0o755)
    if os.geteuid() != 0:
        return
    made = list(autoscaler.copies(request))
    for change in made:
        change.carry_out()
    assert world.seen() == world.before
    assert {name: (root / name).read_text() for name in request.files} == request.files
    assert not os.path.lexists(inventory / "more")
    assert {path.stat().st_uid for path in (inventory, *inventory.rglob("*"))} == {0}, "what root writes there again is not in reach"
    assert list(autoscaler.copies(request)) == [], "a second run has nothing to do"


def test_the_file_of_redis_that_is_written_anew_gives_no_other_file_away(world: World) -> None:
    """``redis.conf`` stands in a directory of redis's own; its owner and mode are kept, whatever stands there now."""
    world.target.unlink()
    world.target.symlink_to(world.victim / "target")
    with pytest.raises(WorkfleetError, match=r"cannot write .*target: it is no file"):
        files.write(str(world.target), "port 1\n", mode=None)
    assert world.seen() == world.before


# The guard

#: What changes or opens a file by its path.
BY_PATH = {
    "os": {"open", "chmod", "chown", "lchown", "unlink", "remove", "rename", "renames", "replace", "makedirs", "mkdir", "rmdir",
           "removedirs", "symlink", "link", "utime", "truncate", "mkfifo", "mknod", "setxattr", "removexattr"},
    "shutil": {"rmtree", "copy", "copy2", "copyfile", "copymode", "copystat", "copytree", "move", "chown", "unpack_archive"},
    "tarfile": {"open"}, "zipfile": {"ZipFile"}, "io": {"open"}, "pathlib": {"Path"},
    "tempfile": {"mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile"},
}
#: Files that do so all the same, each with its reason.
ALLOWED = {
    "release/archives.py": "what was sent, and by descriptor below a directory that root alone can enter",
    "host/background.py": "its own directory below /tmp, 0700, which nobody else can enter",
    "release/build.py": "what the control node sent, in Ansible's own temporary directory",
    "dump.py": "dumps of queues, in the directory of who runs the playbook or in Ansible's own",
    "host/foreign.py": "control groups, and the descriptors of a program that is started",
    "host/packages.py": "the locks of apt and dpkg, in directories of root's",
    "queues/purge.py": "as dump.py",
    "redis/oracle.py": "its own directory below /tmp, 0711, of root",
    "host/seal.py": "by descriptor, from a directory on that stands in one of root's",
    "release/shared.py": "as source.py",
    "release/source.py": "runs on the control node, for who runs the playbook",
}


def by_path(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that open or change a file by its path, but for those of files below /proc."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        plain = isinstance(called, ast.Name) and called.id in ("open", "Path")
        of = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else ""
        if not plain and not (isinstance(called, ast.Attribute) and called.attr in BY_PATH.get(of, ())):
            continue
        first = node.args[0] if node.args else None
        if isinstance(first, ast.JoinedStr) and first.values:
            first = first.values[0]
        if not (isinstance(first, ast.Constant) and str(first.value).startswith("/proc/")):
            yield node


def test_nothing_but_the_one_module_opens_or_changes_a_file_by_its_path() -> None:
    found: dict[str, list[int]] = {}
    for folder in ("module_utils", "library"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            lines = [node.lineno for node in by_path(ast.parse(path.read_text()))]
            name = str(path.relative_to(REPOSITORY / folder)).removeprefix("workfleet/")
            if lines and name != "host/files.py":
                found[name] = lines
    assert {name: lines for name, lines in found.items() if name not in ALLOWED} == {}, "use effects.read, effects.write and so on"
    assert set(ALLOWED) == set(found), "what needs no exception any more has none"


def test_looks_of_two_threads_do_not_close_each_others_directories(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}" / "file").write_text("text")

    def look(_: int) -> None:
        for _ in range(200):
            with files.one_look():
                assert [files.read(str(tmp_path / f"d{number}" / "file")) for number in range(4)] == ["text"] * 4

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look, range(4)))
