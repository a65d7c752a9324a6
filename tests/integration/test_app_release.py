"""Releases on this machine: as root with an account of the test's own, elsewhere as the user who runs the tests.

No network but in the one test through ansible-playbook: the app is built by a backend that stands in its own source.
"""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import accounts, effects
from plugins.module_utils.workfleet.release import build, in_use, source
from plugins.module_utils.workfleet.release import plan as release
from plugins.module_utils.workfleet.release import spec as release_spec
from plugins.module_utils.workfleet.release.commands import digest
from plugins.module_utils.workfleet.release.declared import Declared
from tests import warm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import RedisServer

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = os.geteuid() == 0
# The account of the test cannot enter root's home, where a Python of pyenv may be.
PYTHON = "/usr/bin/python3" if ROOT else sys.executable
needs_root = pytest.mark.skipif(not ROOT, reason="needs root")
BACKEND = """
import os, pathlib, time, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    pathlib.Path("built-by").write_text(f"{os.getuid()} {os.getpid()}")
    if os.environ.get("WF_BUILD") == "fail":
        raise SystemExit("the compiler said no")
    if os.environ.get("WF_BUILD") == "sleep":
        time.sleep(60)
    with zipfile.ZipFile(os.path.join(folder, "shop-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("shop_installed.py", "answer = 42\\n")
        wheel.writestr("shop-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: shop\\nVersion: 1.0\\n")
        wheel.writestr("shop-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("shop-1.0.dist-info/RECORD", "")
    return "shop-1.0-py3-none-any.whl"
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
SHOW = "import json, os, sys; print(json.dumps([os.getcwd(), os.getuid(), dict(os.environ), sys.prefix]))"


class Site:
    """One app on this machine, under a directory that its account can reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = folder / "code"
        self.code.mkdir()
        (self.code / "tasks.py").write_text("one = 1\n")
        (self.code / "backend.py").write_text(BACKEND)
        (self.code / "pyproject.toml").write_text(PYPROJECT)
        self.root = folder / "opt" / "shop"
        self.user = f"wft{os.getpid()}" if ROOT else pwd.getpwuid(os.geteuid()).pw_name
        self.group = self.user if ROOT else grp.getgrgid(os.getegid()).gr_name
        self.raw: dict[str, Any] = {
            "name": "shop",
            "user": self.user,
            "group": self.group,
            "root": str(self.root),
            "python": PYTHON,
            "source": {"type": "directory", "location": str(self.code)},
        }

    def declared(self, **raw: Any) -> tuple[Declared, str | None]:
        """Do what the action plugin does; return the packed source beside the declaration."""
        given = {key: raw.pop(key) for key in ("words", "own") if key in raw}
        values, found = release_spec.parse({**self.raw, **raw}, "web1")
        described, archive = None, None
        if found is not None:
            looked = source.look(**release_spec.located(found, "/"), cache=str(self.folder))
            keys = ("kind", "fingerprint", "label", "size", "install")
            described = {key: getattr(looked, key) for key in keys}
            if looked.pack:
                archive = source.made(str(self.folder / f"source-{looked.fingerprint}"), looked.pack)
        runners = {file.name: file.read_text() for file in (REPOSITORY / "runners").glob("*.py")}
        return replace(Declared.of({**values, "source": described, "runners": runners}), **given), archive

    def converge(self, **raw: Any) -> release.Plan:
        """Make it so; what was predicted is what was done, and then there is nothing left to do."""
        declared, archive = self.declared(**raw)
        predicted = release.plan(declared)
        before = self.snapshot()
        assert before == self.snapshot()
        done = release.apply(declared, archive)
        assert [change.step for change in done.changes] == [change.step for change in predicted.changes]
        assert (done.diff, done.release, done.previous) == (predicted.diff, predicted.release, predicted.previous)
        assert done.commands_done == predicted.commands_done
        assert release.plan(declared).changes == []
        return done

    def snapshot(self) -> list[str]:
        return sorted(os.listdir(self.root)) if self.root.exists() else []

    def run(self, *argv: str) -> str:
        done = subprocess.run([str(self.root / "bin" / "run"), *argv], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    @property
    def current(self) -> str | None:
        link = self.root / "current"
        return link.resolve().name if link.is_symlink() else None

    def releases(self) -> set[str]:
        return set(os.listdir(self.root / "releases"))


@pytest.fixture
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="wf-", dir="/var/tmp"))
    folder.chmod(0o755)
    made = Site(folder)
    yield made
    shutil.rmtree(folder, ignore_errors=True)
    if ROOT and effects.uid(made.user) is not None:
        accounts.run("userdel", made.user)


def units(plan: release.Plan) -> list[tuple[str, str | None]]:
    return [(change.step.action, change.step.unit) for change in plan.changes]


@pytest.mark.parametrize(("key", "name"), [("broker_url", "broker"), ("result_url", "result store")])
def test_a_broker_or_result_store_that_is_not_reached_refuses_before_anything_is_changed(site: Site, key: str, name: str) -> None:
    declared, archive = site.declared(**{key: "redis://:hunter2@127.0.0.1:1/0"})
    with pytest.raises(WorkfleetError, match=rf"does not reach the {name} \(app_{key}\)") as caught:
        release.apply(declared, archive)
    assert "hunter2" not in str(caught.value)
    assert not site.root.exists()


def test_a_bare_host_gets_account_directories_release_and_environment(site: Site, locked_redis_server: RedisServer) -> None:
    url = locked_redis_server.url()
    env = {"GREETING": 'a "b" $c `d` \\e\nline # ; %', "EMPTY": ""}
    plan = site.converge(requirements=["."], env=env, secrets={"TOKEN": "geheim"}, broker_url=url)
    cwd, uid, environment, prefix = json.loads(site.run("python", "-c", SHOW))
    assert cwd == f"{site.root}/releases/{plan.release}/src"
    assert uid == pwd.getpwnam(site.user).pw_uid
    assert Path(prefix).resolve() == site.root / "releases" / str(plan.release) / "venv"
    expected = {**env, "TOKEN": "geheim", "CELERY_BROKER_URL": url}
    assert {name: environment[name] for name in expected} == expected
    assert site.run("python", "-c", "import tasks, shop_installed; print(tasks.one, shop_installed.answer)") == "1 42"
    modes = {
        name: oct((site.root / name).stat().st_mode & 0o777)
        for name in ("env", "env/app.env", "state", "log", "releases", "workfleet")
    }
    assert modes == {
        "env": "0o750",
        "env/app.env": "0o600",
        "state": "0o700",
        "log": "0o750",
        "releases": "0o750",
        "workfleet": "0o755",
    }


@needs_root
def test_only_the_apps_own_places_belong_to_it_and_its_build_code_is_never_roots(site: Site) -> None:
    plan = site.converge(requirements=["."])
    here = site.root / "releases" / str(plan.release)
    assert (here / "src" / "built-by").read_text().split()[0] == str(pwd.getpwnam(site.user).pw_uid)
    owned = {
        name: Path(site.root / name).owner()
        for name in ("", "releases", "workfleet/launch.py", "bin/run", "state", "env", "log", "env/app.env")
    }
    mine = {name for name, owner in owned.items() if owner == site.user}
    assert mine == {"log", "env/app.env"}
    assert {here.owner(), (here / "release.json").owner()} == {"root"}
    below = [here, *here.rglob("*")]
    assert {path.lstat().st_uid for path in below} == {0}
    assert not any(path.lstat().st_mode & 0o7022 for path in below if not path.is_symlink())
    assert list((here / "src" / "__pycache__").glob("tasks.*.pyc"))
    write = "import pathlib; pathlib.Path('new').touch()"
    with pytest.raises(subprocess.CalledProcessError):
        site.run("python", "-c", write)


@needs_root
def test_a_release_that_is_there_is_left_as_it_is_under_what_runs_from_it(site: Site) -> None:
    """A former version left it to its user, who may write there; an app that is given another user goes on with it too."""
    here = site.root / "releases" / str(site.converge().release)
    subprocess.run(["chown", "-R", site.user, str(here / "src"), str(here / "venv")], check=True)
    (here / "src" / "log").touch()
    os.mkfifo(here / "src" / "pipe")

    def state() -> dict[Path, tuple[int, int, int]]:
        return {path: (path.lstat().st_ino, path.lstat().st_uid, path.lstat().st_mode) for path in (here, *here.rglob("*"))}

    before = state()
    assert units(site.converge()) == []
    site.user = f"{site.user}b"
    try:
        assert f"release {here.name}" not in {unit for _, unit in units(site.converge(user=site.user))}
        assert site.run("python", "-c", "import os, tasks; print(os.getuid(), tasks.one)") == f"{pwd.getpwnam(site.user).pw_uid} 1"
    finally:
        accounts.run("userdel", site.user)
        site.user = site.user[:-1]
    assert state() == before


def test_an_unchanged_source_is_left_alone_and_a_changed_one_becomes_a_release_beside_the_old(site: Site) -> None:
    first = site.converge()
    declared, _ = site.declared(env={"NEW": "x"})
    assert units(release.plan(declared)) == [("write", f"file {site.root}/env/app.env")]
    (site.code / "tasks.py").write_text("one = 2\n")
    second = site.converge()
    assert (second.previous, site.current) == (first.release, second.release)
    assert site.releases() == {first.release, second.release}
    assert site.run("python", "-c", "import tasks; print(tasks.one)") == "2"


def test_other_requirements_make_another_release_and_another_python_does_not(site: Site) -> None:
    other = site.folder / "python"
    other.symlink_to(PYTHON)
    ids = [
        release.plan(site.declared(**raw)[0]).release
        for raw in ({}, {"python": str(other)}, {"pip_environment": {"HTTPS_PROXY": "http://p"}}, {"requirements": ["."]})
    ]
    assert len(set(ids[:3])) == 1
    assert ids[3] not in ids[:3]


def test_another_python_builds_the_same_release_beside_what_runs_from_it(site: Site) -> None:
    """As after an upgrade of the system: what runs keeps its files until it has gone, and the fleet's name for the release stays."""
    first = str(site.converge().release)
    old = site.root / "releases" / first
    marker = json.loads((old / "release.json").read_text())
    (old / "release.json").write_text(json.dumps({**marker, "python": "cpython-3.1"}))
    runs = subprocess.Popen([str(old / "venv/bin/python"), "-c", "import time; time.sleep(600)"], cwd=old / "src")
    before = {path: path.lstat().st_ino for path in old.rglob("*") if path.name != "release.json"}
    try:
        plan = site.converge()
        assert (plan.release, plan.previous, plan.build) == (first, first, f"{first}.2")
        assert units(plan) == [("write", f"release {first}"), ("live", f"release {first}")]
        assert "was made by another Python" in str(plan.changes[0].step.reason)
        assert site.run("python", "-c", "import os; print(os.getcwd())") == f"{site.root}/releases/{first}.2/src"
        assert {path: path.lstat().st_ino for path in old.rglob("*") if path.name != "release.json"} == before
        # By its id it is the build of this Python too, and by that build's name.
        assert {release.plan(site.declared(release=name)[0]).build for name in (first, f"{first}.2", "current")} == {f"{first}.2"}
    finally:
        runs.kill()
        runs.wait()
    assert units(site.converge()) == [("remove", f"release {first}")]
    assert site.releases() == {f"{first}.2"}


def test_a_release_whose_python_has_gone_is_not_gone_back_to(site: Site) -> None:
    first = str(site.converge().release)
    (site.code / "tasks.py").write_text("one = 2\n")
    site.converge()
    marker = site.root / "releases" / first / "release.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "python": "cpython-3.1"}))
    with pytest.raises(WorkfleetError, match="there is no release to go back to"):
        release.plan(site.declared(release="previous")[0])
    with pytest.raises(WorkfleetError, match=f"release {first} is not on this host"):
        release.plan(site.declared(release=first)[0])


def test_a_run_that_is_refused_the_nodes_has_changed_nothing_about_the_release_either(site: Site) -> None:
    """It made another release current, and took from the run at work what that would go back to."""
    first = site.converge().release
    (site.code / "tasks.py").write_text("two = 2\n")
    declared, archive = site.declared()
    lease = site.root / "state" / "nodes.lock"
    lease.write_text(json.dumps({"run": "a deploy", "holder": "anna on laptop", "until": time.time() + 600}))

    def state() -> dict[str, bytes]:  # but for the lock, which notes who has it
        return {path.name: path.read_bytes() for path in (site.root / "state").iterdir() if path.name != "release.lock"}

    before = state()
    with pytest.raises(WorkfleetError, match="anna on laptop is changing the nodes of shop") as caught:
        release.apply(declared, archive)
    assert caught.value.details["locked"] and caught.value.details["run"] == "a deploy"
    assert (site.current, site.releases()) == (first, {first})
    assert state() == before
    built = release.apply(dataclasses.replace(declared, until="built"), archive).release
    assert (site.current, site.releases()) == (first, {first, built})
    release.apply(dataclasses.replace(declared, ended_run="a deploy"), archive)
    assert site.current == built


def test_a_failed_build_leaves_the_current_release_and_nothing_of_itself(site: Site) -> None:
    good = site.converge()
    (site.code / "tasks.py").write_text("one = 2\n")
    declared, archive = site.declared(requirements=["."], pip_environment={"WF_BUILD": "fail", "TOKEN": "compiler"})
    with pytest.raises(WorkfleetError, match="the <secret> said no") as caught:
        release.apply(declared, archive)
    assert f"The current release {good.release} is untouched" in str(caught.value)
    assert site.releases() == {good.release}
    assert site.current == good.release
    again = site.converge(requirements=["."])
    assert site.current == again.release != good.release


@pytest.mark.parametrize(("raw", "said"), [
    ({"source": {"type": "pypi", "location": "wf-nosuch", "version": "1"}, "requirements": ["--no-index"]}, "app_source: wf-nosuch 1: "),
    ({"requirements": ["--no-index", ".", "wf-nosuch >= 1.0"]}, "app_requirements: wf-nosuch >= 1.0: "),
    ({"requirements": ["--no-index", "wanted.txt"]}, "app_requirements: wanted.txt: "),
])
def test_a_package_that_does_not_exist_is_named_with_its_entry_and_in_pip_s_words(site: Site, raw: dict[str, Any], said: str) -> None:
    (site.code / "wanted.txt").write_text("wf-nosuch>=1.0\n")
    declared, archive = site.declared(**raw)
    with pytest.raises(WorkfleetError) as caught:
        release.apply(declared, archive)
    assert f"{said}pip install failed with status 1:" in str(caught.value)
    assert "No matching distribution found for wf-nosuch" in str(caught.value)
    assert site.current is None


def test_a_killed_build_never_becomes_current_and_all_of_it_ends_before_the_lock_is_free(site: Site) -> None:
    good = site.converge()
    declared, archive = site.declared(requirements=["."], pip_environment={"WF_BUILD": "sleep"})
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            release.apply(declared, archive)
        os._exit(1)
    target = site.root / "releases" / str(release.plan(declared).release)
    builder = wait_for(target / "src" / "built-by")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert site.current == good.release
    assert not (target / "release.json").exists()
    with build.alone(str(site.root / "state" / "release.lock")):
        assert not Path(f"/proc/{builder}").exists()
    # What the killed build has left is made anew, not gone on with.
    again = site.converge(requirements=["."])
    assert (site.current, again.previous) == (target.name, good.release)


def wait_for(path: Path) -> int:
    for _ in range(1200):
        if path.exists() and len(words := path.read_text().split()) == 2:
            return int(words[1])
        time.sleep(0.1)
    raise AssertionError(f"{path} did not come")


def test_a_release_that_lost_a_part_is_built_anew(site: Site) -> None:
    first = site.converge()
    (site.root / "releases" / str(first.release) / "release.json").unlink()
    assert ("write", f"release {first.release}") in units(site.converge())
    shutil.rmtree(site.root / "releases" / str(first.release) / "venv")
    assert ("write", f"release {first.release}") in units(site.converge())
    assert site.run("python", "-c", "import tasks; print(tasks.one)") == "1"


def test_exactly_what_was_spoilt_is_repaired(site: Site) -> None:
    site.converge(env={"A": "1"})
    (site.root / "env" / "app.env").unlink()
    (site.root / "bin" / "run").write_text("#!/bin/sh\n")
    (site.root / "log").chmod(0o777)
    (site.root / "current").unlink()
    plan = site.converge(env={"A": "1"})
    assert units(plan) == [
        ("write", f"directory {site.root}/log"),
        ("write", f"file {site.root}/bin/run"),
        ("write", f"file {site.root}/env/app.env"),
        ("live", f"release {plan.release}"),
    ]


def test_without_a_source_there_is_an_environment_and_no_release(site: Site) -> None:
    plan = site.converge(source=None, env={"A": "1"})
    assert (plan.release, site.current, site.releases()) == (None, None, set())
    cwd, _, environment, _ = json.loads(site.run("python3", "-c", SHOW))
    assert (cwd, environment["A"]) == (str(site.root), "1")


def test_a_wheel_is_installed(site: Site) -> None:
    wheel = site.folder / "tiny-1.0-py3-none-any.whl"
    make_wheel(wheel, {"tiny.py": b"x = 5\n"})
    site.converge(source={"type": "archive", "location": str(wheel)})
    assert site.run("python", "-c", "import tiny; print(tiny.x)") == "5"


def test_the_release_itself_is_installed_behind_requirements_with_hashes(site: Site) -> None:
    wheel = site.folder / "tiny-1.0-py3-none-any.whl"
    make_wheel(wheel, {"tiny.py": b"x = 5\n"})
    site.code.joinpath("requirements.txt").write_text(f"tiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n.\n")
    done = site.converge(requirements=[f"--no-index --find-links={site.folder}", "requirements.txt"])
    assert site.run("python", "-c", "import tiny, shop_installed; print(tiny.x, shop_installed.answer)") == "5 42"
    assert not list((site.root / "releases" / str(done.release) / "src").glob(".workfleet-*"))


def make_wheel(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(
            "tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")


def test_what_is_shared_outlives_releases_and_stays_writable_in_a_sealed_one(site: Site) -> None:
    for folder in ("media", "logs"):
        (site.code / folder).mkdir()
    (site.code / "media" / "sample").write_text("first")
    (site.code / "notes.txt").write_text("first")
    paths = ["media/", "var/db.sqlite3", "notes.txt", "new/place/"]
    before = site.converge().release
    first = site.converge(shared_paths=paths)
    kept = site.root / "shared"
    assert first.release != before
    assert {("write", f"directory {path}") for path in (kept, kept / "media", kept / "new/place", kept / "var")} <= set(units(first))
    write = ("import pathlib, sqlite3; [pathlib.Path(p).write_text('mine') for p in ('media/upload', 'notes.txt', 'new/place/x')];"
             "db = sqlite3.connect('var/db.sqlite3'); db.execute('create table t (x)'); db.commit()")
    site.run("python", "-c", write)
    (site.code / "media" / "sample").write_text("second")
    second = site.converge(shared_paths=paths)
    assert second.previous == first.release != second.release
    read = ("import pathlib, sqlite3; print([pathlib.Path(p).read_text() for p in ('media/sample', 'media/upload', 'notes.txt', "
            "'new/place/x')], sqlite3.connect('var/db.sqlite3').execute('select count(*) from t').fetchall())")
    assert site.run("python", "-c", read) == "['first', 'mine', 'mine', 'mine'] [(0,)]"
    user = effects.uid(site.user) if ROOT else os.geteuid()
    assert {path.lstat().st_uid for path in (kept, *kept.rglob("*"))} == {user}
    source_tree = site.root / "current" / "src"
    assert {path.lstat().st_uid for path in source_tree.rglob("*")} == {os.geteuid()}
    shutil.rmtree(kept / "new")
    kept.chmod(0o755)  # a web server may read it
    assert units(site.converge(shared_paths=paths)) == [("write", f"directory {kept}/new"), ("write", f"directory {kept}/new/place")]
    assert kept.stat().st_mode & 0o777 == 0o755
    (kept / "new" / "place").rmdir()
    (kept / "new" / "place").touch()
    with pytest.raises(WorkfleetError, match=r"new/place is a file, and a directory is wanted there"):
        release.plan(site.declared(shared_paths=paths)[0])


@needs_root
def test_a_full_disk_leaves_the_current_release(site: Site) -> None:
    site.root.mkdir(parents=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=190m,mode=755", "none", str(site.root)], check=False
    ).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        good = site.converge()
        make_wheel(site.code / "tiny-1.0-py3-none-any.whl", {"zeros": bytes(200_000_000)})
        declared, archive = site.declared(requirements=["tiny-1.0-py3-none-any.whl"])
        with pytest.raises(WorkfleetError, match=r"No space left on device[\s\S]*The disk is full: \d MB are left where the releases are"):
            release.apply(declared, archive)
        assert (site.current, site.releases()) == (good.release, {good.release})
        (site.root / "cache" / "ballast").write_bytes(bytes(120_000_000))
        with pytest.raises(WorkfleetError, match=r"MB free, and a new release .* needs about 1\d\d MB"):
            release.plan(declared)
    finally:
        subprocess.run(["umount", str(site.root)], check=True)


def test_release_commands_run_once_before_the_release_is_current_and_go_on_where_they_failed(site: Site) -> None:
    note = (
        "import os, sys; open(os.environ['NOTES'], 'a').write(sys.argv[1] + os.getcwd()[-3:] + ' ');"
        "sys.exit(os.path.exists(sys.argv[2]))"
    )
    notes, obstacle = site.folder / "notes", site.folder / "obstacle"
    notes.touch()
    notes.chmod(0o666)
    obstacle.touch()
    commands = [["python", "-c", note, "one", "/none"], ["python", "-c", note, "two", str(obstacle)]]
    raw: dict[str, Any] = {"release_commands": commands, "env": {"NOTES": str(notes)}}
    declared, archive = site.declared(**raw)
    with pytest.raises(WorkfleetError, match=r"release command 2 of 2 \(python\) of shop failed with status 1"):
        release.apply(declared, archive)
    assert site.current is None
    obstacle.unlink()
    site.converge(**raw)
    assert notes.read_text() == "onesrc twosrc twosrc "
    (site.code / "tasks.py").write_text("one = 2\n")
    site.converge(**raw, run_commands=False)
    assert notes.read_text() == "onesrc twosrc twosrc "


def test_release_commands_that_another_host_ran_are_never_run_again(site: Site) -> None:
    commands = [["false"]]
    heard = [digest(commands[0])]
    site.converge(release_commands=commands, run_commands=False, commands_done=heard)
    plan = release.plan(site.declared(release_commands=commands)[0])
    assert (plan.changes, plan.commands_done) == ([], heard)


def test_what_a_failed_command_says_is_told_without_secrets(site: Site) -> None:
    raw = {"release_commands": [["sh", "-c", "echo no such table for $TOKEN; exit 3"]], "secrets": {"TOKEN": "geheim"}}
    declared, archive = site.declared(**raw)
    with pytest.raises(WorkfleetError, match="no such table for <secret>"):
        release.apply(declared, archive)
    declared, archive = site.declared(release_commands=[["sleep", "600"]], step_seconds=3)
    with pytest.raises(WorkfleetError, match=r"did not end within 3 s\. .* by app_step_seconds"):
        release.apply(declared, archive)


def test_old_releases_go_but_not_current_the_one_before_or_one_in_use(site: Site) -> None:
    made = []
    sleeper: subprocess.Popen[bytes] | None = None
    try:
        for number in range(4):
            (site.code / "tasks.py").write_text(f"one = {number}\n")
            made.append(site.converge(releases_kept=1).release)
            if number == 0:
                sleeper = subprocess.Popen([str(site.root / "bin" / "run"), "sleep", "60"])
                wait_until_moved(sleeper.pid, str(made[0]))
        assert site.releases() == {made[0], made[2], made[3]}
        (site.root / "releases" / "0123456789ab").mkdir()
    finally:
        assert sleeper is not None
        sleeper.kill()
        sleeper.wait()
    (site.code / "tasks.py").write_text("one = 9\n")
    made.append(site.converge(releases_kept=3).release)
    assert site.releases() == {made[2], made[3], made[4]}


def test_what_was_in_use_goes_with_the_next_run_that_changes_nothing_else(site: Site) -> None:
    made = []
    sleeper: subprocess.Popen[bytes] | None = None
    for number in range(3):
        (site.code / "tasks.py").write_text(f"one = {number}\n")
        made.append(str(site.converge(releases_kept=1).release))
        if sleeper is None:
            sleeper = subprocess.Popen([str(site.root / "bin" / "run"), "sleep", "60"])
            wait_until_moved(sleeper.pid, made[0])
    assert sleeper is not None
    sleeper.kill()
    sleeper.wait()
    assert units(site.converge(releases_kept=1)) == [("remove", f"release {made[0]}")]
    assert site.releases() == set(made[1:])


def test_processes_are_not_looked_at_where_nothing_is_to_be_removed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.converge()
    (site.code / "tasks.py").write_text("one = 2\n")
    site.converge()
    monkeypatch.setattr(in_use, "places", lambda uids: pytest.fail("processes were looked at"))
    assert release.plan(site.declared()[0]).changes == []


def test_what_an_undo_would_bring_back_is_not_pruned(site: Site) -> None:
    made = []
    for number in range(3):
        (site.code / "tasks.py").write_text(f"one = {number}\n")
        made.append(str(site.converge(releases_kept=1).release))
        if number == 0:  # a rollout that began with this release, and was cut short each time
            (site.root / "state" / "rollout.json").write_text(json.dumps({"text": f"WorkingDirectory={site.root}/releases/{made[0]}/src"}))
    assert site.releases() == set(made)


def test_a_release_from_which_processes_run_is_not_built_anew_below_them(site: Site) -> None:
    name = str(site.converge().release)
    sleeper = subprocess.Popen([str(site.root / "bin" / "run"), "sleep", "60"])
    try:
        wait_until_moved(sleeper.pid, name)
        (site.root / "releases" / name / "release.json").unlink()
        declared, archive = site.declared()
        with pytest.raises(WorkfleetError, match=f"release {name} lacks a part .*stop them first"):
            release.apply(declared, archive)
        assert (site.root / "releases" / name / "src" / "tasks.py").exists()
    finally:
        sleeper.kill()
        sleeper.wait()
    site.converge()
    assert site.run("python", "-c", "import tasks; print(tasks.one)") == "1"


def wait_until_moved(pid: int, name: str) -> None:
    for _ in range(600):
        if name in os.readlink(f"/proc/{pid}/cwd"):
            return
        time.sleep(0.05)


def test_a_diff_shows_ordinary_values_and_never_a_secret(site: Site) -> None:
    site.converge(source=None, env={"A": "1"}, secrets={"S": "geheim1", "T": "geheim2"})
    plan = site.converge(source=None, env={"A": "2"}, secrets={"S": "geheim1", "T": "geheim3"})
    (diff,) = plan.diff
    assert diff["before"] == "A=1\nS=<secret unchanged>\nT=<secret>\n"
    assert diff["after"] == "A=2\nS=<secret unchanged>\nT=<secret changed>\n"
    gone = site.converge(source=None, env={"A": "2"})
    assert "geheim" not in json.dumps(gone.diff)


@needs_root
def test_without_root_an_app_of_ones_own_works_and_another_account_is_refused(site: Site) -> None:
    place = site.folder / "nobody"
    place.mkdir()
    shutil.chown(place, "nobody", "nogroup")
    declared, archive = site.declared(root=str(place / "shop"))
    declared = replace(declared, user="nobody", group="nogroup")  # an account that is there; validation refuses it
    stolen = site.declared(root=str(place / "x"))[0]
    foreign = replace(declared, group="adm")
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(grp.getgrnam("nogroup").gr_gid)
            os.setuid(pwd.getpwnam("nobody").pw_uid)
            os.chdir("/")
            release.apply(declared, archive)
            assert release.plan(declared).changes == []
            for wrong, said in ((stolen, "app_user is"), (foreign, "app_group is adm")):
                try:
                    release.plan(wrong)
                except WorkfleetError as error:
                    assert said in str(error)
                else:
                    os._exit(3)
            os._exit(0)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (place / "shop" / "current").resolve().owner() == "nobody"


def test_a_python_that_cannot_make_virtualenvs_and_one_that_is_missing_are_told(site: Site) -> None:
    crippled = site.folder / "python"
    crippled.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {PYTHON} "$@"\n')
    crippled.chmod(0o755)
    with pytest.raises(WorkfleetError, match="cannot make virtualenvs"):
        release.plan(site.declared(python=str(crippled))[0])
    with pytest.raises(WorkfleetError, match=r"app_python: python9\.9 is not on this host"):
        release.plan(site.declared(python="python9.9")[0])


def interpreters() -> list[str]:
    older = sorted(Path("~/.pyenv/versions").expanduser().glob("3.9.*/bin/python3.9"))
    return [PYTHON, *(str(path) for path in older[:1])]


@pytest.mark.parametrize("interpreter", interpreters())
def test_through_ansible_check_predicts_the_run_and_the_second_run_does_nothing(site: Site, interpreter: str) -> None:
    (site.code / "requirements.txt").write_text("six==1.17.0\n")
    variables = {f"app_{name}": value for name, value in site.raw.items()}
    variables.update(
        app_requirements=["requirements.txt"],
        app_secrets={"TOKEN": "geheim"},
        app_env={"A": "1"},
        app_release_commands=[["python", "-c", "import six"]],
    )
    hosts = {name: {"ansible_connection": "local", "ansible_python_interpreter": interpreter} for name in ("web1",)}
    (site.folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": variables}}))
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "roles": ["workfleet.core.app"],
            "post_tasks": [
                {
                    "ansible.builtin.copy": {
                        "dest": f"{site.folder}/result-{{{{ ansible_check_mode }}}}",
                        "content": "{{ __app_release | to_json }}",
                    },
                    "check_mode": False,
                    "diff": False,
                }
            ],
        }
    ]
    (site.folder / "play.yml").write_text(yaml.safe_dump(play))
    said = playbook(site, "--check", "--diff", "-vvv")
    assert site.snapshot() == []
    said += playbook(site, "--diff", "-vvv")
    predicted, done = (json.loads((site.folder / f"result-{check}").read_text()) for check in (True, False))
    assert predicted["changed"] and done["changed"]
    assert [predicted[key] for key in ("release", "previous", "steps", "diff")] == [
        done[key] for key in ("release", "previous", "steps", "diff")
    ]
    assert site.run("python", "-c", "import six, os; print(six.__version__, os.environ['TOKEN'])") == "1.17.0 geheim"
    said += playbook(site, "--diff", "-vvv")
    again = json.loads((site.folder / "result-False").read_text())
    assert (again["changed"], again["steps"], again["release"]) == (False, [], done["release"])
    assert "geheim" not in said
    if interpreter == PYTHON:
        (site.code / "model.bin").write_text(f"{source.POINTER.decode()}oid sha256:{0:064}\nsize 9\n")
        for argv in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"]):
            subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *argv], cwd=site.code, check=True)
        commit = json.dumps({"app_source": {"type": "git", "location": str(site.code), "version": "main"}})
        assert "model.bin: not the content, but a pointer of git-LFS" in playbook(site, "--check", "-e", commit, rc=2)


def playbook(site: Site, *arguments: str, rc: int = 0) -> str:
    done = warm.play(["-i", str(site.folder / "hosts.yml"), str(site.folder / "play.yml"), *arguments], cwd=REPOSITORY)
    assert done.returncode == rc, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr
