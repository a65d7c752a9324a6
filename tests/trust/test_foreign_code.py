"""Code of others that root runs, and what others have built: it has nothing of root's, and root touches nothing else for it."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import foreign, seal
from plugins.module_utils.workfleet.release import build, preflight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
PYTHON = "/usr/bin/python3"
APP = "nobody"
UID = pwd.getpwnam(APP).pw_uid
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the app's in one that everybody can enter."""
    top = Path(tempfile.mkdtemp(prefix="wf-", dir="/var/tmp"))
    top.chmod(0o755)
    below = top / "tree"
    below.mkdir()
    os.chown(below, UID, -1)
    yield below
    shutil.rmtree(top)


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def lives(pid: int) -> bool:
    """Whether a process is there, and no more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command(pid: int) -> str:
    """Return the command line of a process; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


# A process of the app's


def test_it_has_the_accounts_rights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTS_SECRET", "geheim")
    said = foreign.run(APP, ["sh", "-c", "id -u; id -G; pwd; umask; env"], env={"A": "b"}).out.splitlines()
    assert said[:2] == [str(UID), " ".join(map(str, os.getgrouplist(APP, pwd.getpwnam(APP).pw_gid)))]
    assert said[2:4] == ["/", "0022"]
    assert {line.partition("=")[0] for line in said[4:]} <= {"A", "HOME", "USER", "LOGNAME", "PATH", "LC_ALL", "PWD"}


AS_OURSELVES = """
import os
os.setgid({gid})
os.setuid({uid})
os.environ.update(PATH="/opt/tools:/usr/bin:/bin", SSH_AUTH_SOCK="/a", PYTHONPATH="/b", PYTHONHOME="/c", LC_ALL="de_DE.UTF-8")
os.environ.update(HOME="/home/ours", A="x")
print(foreign.run("whoever", ["env"], env={{"A": "b"}}).out)
"""


def test_without_roots_rights_it_has_our_environment_but_for_pythons_paths() -> None:
    """A build in the demo, or in a CI job, finds the caller's compilers and keys."""
    run = "import sys; sys.path.insert(0, '.'); from plugins.module_utils.workfleet.host import foreign"
    script = run + AS_OURSELVES.format(uid=UID, gid=pwd.getpwnam(APP).pw_gid)
    said = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    found = dict(line.split("=", 1) for line in said.splitlines() if line)
    expected = {"PATH": "/opt/tools:/usr/bin:/bin", "SSH_AUTH_SOCK": "/a", "LC_ALL": "C", "HOME": "/home/ours", "A": "b"}
    assert {name: found[name] for name in expected} == expected
    assert not {"PYTHONPATH", "PYTHONHOME"} & set(found)


def test_it_has_no_descriptor_no_terminal_and_no_session_of_ours() -> None:
    reads, writes = os.pipe()
    os.set_inheritable(writes, True)
    show = "import os; fds = os.listdir('/proc/self/fd'); print(sorted(fds)[:3], len(fds), os.getsid(0) == os.getpid())"
    try:
        said = foreign.run(APP, [PYTHON, "-c", show], locks=[writes]).out.split("\n")[0]
    finally:
        os.close(reads)
        os.close(writes)
    assert said == "['0', '1', '2'] 4 True", "the fourth is that of the listing"
    assert foreign.run(APP, ["sh", "-c", "cat; : </dev/tty"], stdin="given", check=False)[:2] != (0, "given")
    assert foreign.run(APP, ["cat"], stdin="given").out == "given"


def test_its_directory_is_entered_with_its_rights(place: Path) -> None:
    place.rmdir()
    place.symlink_to("/root")
    with pytest.raises(WorkfleetError, match=f"pwd may not be executed by {APP}: {place}: Permission denied"):
        foreign.run(APP, ["pwd"], cwd=str(place))


DAEMON = """
import os, sys
if os.fork():
    os._exit({status})
os.setsid()
if os.fork():
    os._exit(0)
open(sys.argv[1], "w").write(str(os.getpid()))
import time
time.sleep(300)
"""


@pytest.mark.parametrize("status", [0, 3])
def test_what_it_leaves_ends_with_it(place: Path, status: int) -> None:
    """A release command's child held root's lock for as long as it liked."""
    wait = f"{PYTHON} -c '{DAEMON.format(status=0)}' {place}/pid; while ! test -s {place}/pid; do sleep 0.05; done; exit {status}"
    with build.alone(str(place.parent / "lock")):
        assert foreign.run(APP, ["sh", "-c", wait], check=False, locks=build.held).rc == status
    assert not lives(int((place / "pid").read_text()))
    with open(place.parent / "lock", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_a_starter_has_started_goes_on(place: Path) -> None:
    wait = f"{PYTHON} -c '{DAEMON.format(status=0)}' {place}/pid; while ! test -s {place}/pid; do sleep 0.05; done"
    foreign.run(APP, ["sh", "-c", wait], is_starter=True)
    pid = int((place / "pid").read_text())
    try:
        assert lives(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_all_of_it_ends_at_the_end_of_its_time(place: Path) -> None:
    wait = f"trap '' TERM INT HUP; {PYTHON} -c '{DAEMON.format(status=0)}' {place}/pid; sleep 300 & sleep 300"
    begun = time.monotonic()
    with pytest.raises(WorkfleetError, match="did not end within 2 s"):
        foreign.run(APP, ["sh", "-c", wait], timeout=2)
    assert time.monotonic() - begun < 30
    assert not lives(int((place / "pid").read_text()))


FORKS = """
import os, time
end = time.time() + 120
while time.time() < end:
    if os.fork():
        os._exit(0)
"""


def test_one_that_forks_faster_than_it_is_found_ends_or_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at once where there are control groups of the second kind."""
    name = f"forks-of-{os.getpid()}"
    monkeypatch.setattr(foreign, "_KILL_SECONDS", 60.0)
    with contextlib.suppress(WorkfleetError):
        assert foreign.run(APP, [PYTHON, "-c", FORKS, name]).rc == 0
        assert not any(lives(pid) and name in command(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc"))))


def test_all_of_it_ends_when_root_is_killed_and_the_lock_is_held_until_then(place: Path) -> None:
    wait = f"trap : TERM HUP; echo $$ > {place}/pid; sleep 300; sleep 300"
    script = (f"from plugins.module_utils.workfleet.host import foreign\nfrom plugins.module_utils.workfleet.release import build\n"
              f"with build.alone('{place.parent}/lock'):\n"
              f"    foreign.run('{APP}', ['sh', '-c', '{wait}'], locks=build.held)")
    with subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY) as ours:
        assert within(30, lambda: (place / "pid").exists() and (place / "pid").read_text().strip().isdigit())
        ours.kill()
    with open(place.parent / "lock", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not lives(int((place / "pid").read_text()))


def test_it_cannot_reach_its_keeper() -> None:
    said = foreign.run(APP, ["sh", "-c", "kill -9 $PPID; cat /proc/$PPID/environ; ls /proc/$PPID/fd"], check=False)
    assert (said.rc != 0, said.out) == (True, "")
    assert said.err.lower().count("permi") == 3


def test_what_it_says_is_bounded_and_its_end_is_kept() -> None:
    done = foreign.run(APP, ["sh", "-c", "echo begin; yes | head -c 300000000; echo end; echo bad >&2"])
    assert done.out.startswith("begin\ny\n") and done.out.endswith("y\nend\n") and done.err == "bad\n"
    assert len(done.out) < 2 * foreign.KEPT_BYTES + 100
    assert "bytes left out" in done.out


def test_a_program_that_is_not_there_or_not_to_be_run_is_told() -> None:
    for argv, said in ((["nosuch"], "nosuch is not on this host"), (["/etc/passwd"], "Permission denied"), (["a\0b"], "Invalid argument")):
        with pytest.raises(WorkfleetError, match=said):
            foreign.run(APP, argv)
    with pytest.raises(WorkfleetError, match="no account nosuchuser"):
        foreign.run("nosuchuser", ["true"])


def test_many_run_at_once() -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda each=each: found.append(foreign.run(APP, ["echo", each]).out.strip()))
               for each in map(str, range(20))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(found, key=int) == list(map(str, range(20)))


# A tree of the app's


def rights(path: Path) -> tuple[int, int, int]:
    """Return inode, owner and mode of what a path itself is."""
    status = path.lstat()
    return status.st_ino, status.st_uid, status.st_mode


def plant(path: Path, text: str = "x", mode: int = 0o644) -> Path:
    """Make a file of the app's."""
    path.write_text(text)
    os.chown(path, UID, -1)
    path.chmod(mode)
    return path


def test_a_sealed_tree_is_roots_and_readable(place: Path) -> None:
    folder = place / "deep"
    folder.mkdir(mode=0o700)
    os.chown(folder, UID, -1)
    plant(folder / "a", mode=0o600)
    plant(folder / "b", mode=0o4777)
    (folder / "out").symlink_to("/etc/passwd")
    before = Path("/etc/passwd").stat()
    seal.seal(str(place), UID)
    assert {path.lstat().st_uid for path in (place, *place.rglob("*"))} == {0}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "a", folder / "b")] == [0o755, 0o644, 0o755]
    assert Path("/etc/passwd").stat() == before
    said = foreign.run(APP, ["sh", "-c", "cat deep/a; echo y > deep/a; rm deep/b; mkdir new; chmod u+w deep"], cwd=str(place), check=False)
    assert said.out == "x" and len(said.err.splitlines()) == 4


@pytest.mark.parametrize("owner", [0, 1])
def test_a_hard_link_to_anothers_file_gives_it_to_nobody(place: Path, owner: int) -> None:
    foreigner = place.parent / "secret"
    foreigner.write_text("secret")
    foreigner.chmod(0o600)
    os.chown(foreigner, owner, -1)
    before = rights(foreigner)
    os.link(foreigner, place / "a")
    with pytest.raises(WorkfleetError, match="belongs to another account") if owner else contextlib.nullcontext():
        seal.seal(str(place), UID)
    assert rights(foreigner) == before


def test_a_file_with_another_name_outside_is_copied(place: Path) -> None:
    own = plant(place.parent / "log", "text")
    os.link(own, place / "a")
    os.utime(own, ns=(5, 7))
    before = rights(own)
    seal.seal(str(place), UID)
    assert rights(own) == before
    assert ((place / "a").read_text(), (place / "a").stat().st_uid, (place / "a").stat().st_mtime_ns) == ("text", 0, 7)
    assert os.listdir(place) == ["a"]


def test_a_file_that_somebody_has_open_is_exchanged(place: Path) -> None:
    plant(place / "a", "before")
    with open(place / "a", "r+", encoding="utf-8") as file:
        seal.seal(str(place), UID)
        file.write("AFTER")
    assert (place / "a").read_text() == "before"


def test_pipes_and_sockets_that_a_build_leaves_go_and_hold_nobody_up(place: Path) -> None:
    os.mkfifo(place / "a")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place / "b"))
    for name in ("a", "b"):
        os.chown(place / name, UID, -1)
    plant(place / "c")
    seal.seal(str(place), UID)
    assert os.listdir(place) == ["c"]


def test_a_device_is_refused(place: Path) -> None:
    os.mknod(place / "a", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    with pytest.raises(WorkfleetError, match="is a device"):
        seal.seal(str(place), UID)


def test_what_is_roots_already_and_others_can_write_is_closed(place: Path) -> None:
    (place / "folder").mkdir()
    own = place / "folder" / "a"
    own.write_text("x")
    for path, mode in ((place / "folder", 0o775), (own, 0o664)):
        os.chown(path, 0, UID)
        path.chmod(mode)
    seal.seal(str(place), UID)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (place / "folder", own)] == [0o755, 0o644]


def test_a_file_of_roots_elsewhere_keeps_its_mode(place: Path) -> None:
    elsewhere = place.parent / "shared"
    elsewhere.write_text("x")
    elsewhere.chmod(0o664)
    before = rights(elsewhere)
    os.link(elsewhere, place / "a")
    with pytest.raises(WorkfleetError, match="has another name too"):
        seal.seal(str(place), UID)
    assert rights(elsewhere) == before


def test_a_tree_without_end_is_refused(place: Path) -> None:
    foreign.run(APP, [PYTHON, "-c", "import os\nfor n in range(300): os.mkdir('d'); os.chdir('d')"], cwd=str(place))
    with pytest.raises(WorkfleetError, match="directories deep"):
        seal.seal(str(place), UID)


SWAP = """
import itertools, os
os.chdir({place!r})
print("up", flush=True)
for number in itertools.count():
    for name, target in (("file", "secret"), ("folder", "")):
        try:
            os.rename(name, name + ".old")
            os.symlink({top!r} + "/outside/" + target, name)
            os.unlink(name)
            os.rename(name + ".old", name)
        except OSError:
            pass
"""


def test_links_that_are_swapped_in_meanwhile_lead_nowhere(place: Path) -> None:
    """An attacker who never rests, against many seals."""
    outside = place.parent / "outside"
    outside.mkdir(mode=0o700)
    secret = outside / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    before = [rights(path) for path in (outside, secret)]
    words = [PYTHON, "-c", SWAP.format(place=str(place), top=str(place.parent))]
    with subprocess.Popen(words, user=UID, stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout and attacker.stdout.readline() == b"up\n"
        for _ in range(200):
            attacker.send_signal(signal.SIGSTOP)  # while we make what he is to swap: by path, as he could
            assert within(30, lambda: ") T " in Path(f"/proc/{attacker.pid}/stat").read_text())
            for each in place.iterdir():
                each.unlink() if each.is_symlink() or each.is_file() else shutil.rmtree(each)
            plant(place / "file")
            (place / "folder").mkdir()
            os.chown(place / "folder", UID, -1)
            plant(place / "folder" / "secret")
            os.chown(place, UID, -1)
            attacker.send_signal(signal.SIGCONT)
            with contextlib.suppress(WorkfleetError, OSError):
                seal.seal(str(place), UID)
            assert [rights(path) for path in (outside, secret)] == before
        attacker.kill()


# What a release tells of itself


NO_ANSWERS = [
    "[" * 100_000, "{}", "[]", "1", "NaN", '{"tasks": 5}', '{"tasks": [1]}', '{"tasks": {"a": 1}}', "{" + '"a":{' * 5000,
    *(f'{{"tasks": [], "time_limit": {value}}}' for value in ("NaN", "true", "1e999", '"1"', "-1", "9" * 4000)),
    '{"tasks": [], "queues_sent_to": {"a": 1}}',
]


@pytest.mark.parametrize("said", NO_ANSWERS)
def test_an_answer_that_is_none_is_refused_in_one_way(said: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        preflight.answered(said)


def test_an_answer_names_no_queues_of_its_own() -> None:
    told = {"tasks": ["a"], "queues_sent_to": {"q": ["a"]}, "time_limit": 5, "visibility_timeout": 3600.0}
    assert preflight.answered(json.dumps({**told, "queues": 5, "engine": 7, "error": 9})) == told


# The next of its kind


def test_programs_are_started_in_these_places_alone() -> None:
    """``effects`` and ``oracle`` start the system's, ``foreign`` all others', ``background`` our own code, ``source`` git."""
    starts = re.compile(r"os\.(fork|forkpty|system|popen|posix_spawn\w*|spawn\w+|exec\w+)|subprocess|pty|multiprocessing")
    found = set()
    for path in (REPOSITORY / "module_utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Attribute):
                names = [ast.unparse(node)]
            if any(starts.fullmatch(name) for name in names):
                found.add(path.stem)
    assert found == {"effects", "oracle", "foreign", "background", "source"}
