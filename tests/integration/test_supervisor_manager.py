"""The supervisor manager against real supervisords and real programs, as the user who runs the tests."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pwd
import random
import shutil
import signal
import socketserver
import string
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import effects
from plugins.module_utils.workfleet.managers import supervisor, supervisor_rpc
from plugins.module_utils.workfleet.managers.base import Present, Wanted
from plugins.module_utils.workfleet.model import Name
from tests.patience import is_within, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
ME = effects.run(["id", "-un"]).out.strip()
MY_GROUP = effects.run(["id", "-gn"]).out.strip()

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(REPOSITORY / "templates"), undefined=jinja2.StrictUndefined, trim_blocks=True,
    lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,  # noqa: S701 - ini files are no HTML
)
TEMPLATES.filters.update(program_words=supervisor.program_words, program_value=supervisor.program_value,
                         unit_words=" ".join)

# Says when it is up; TERM makes it finish "its task" for sys.argv[1] seconds.
WORKER = """
import contextlib, os, signal, sys, time
def say(text):
    with contextlib.suppress(BrokenPipeError):
        os.write(1, text.encode() + b"\\n")
def finish(*_):
    say("draining")
    time.sleep(float(sys.argv[1]))
    say("done")
    os._exit(0)
signal.signal(signal.SIGTERM, finish)
say("up " + sys.argv[2])
while True:
    time.sleep(0.05)
"""
DUMP = """
import json, os, sys, time
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(sys.argv[2:], file)
os.replace(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""


class Fleet:
    """An app with its manager in a short directory of its own, and shorthands for tests."""

    def __init__(self, root: str, app: str = "foo") -> None:
        self.app, self.root = app, root
        self.run = os.path.join(root, "run")
        self.manager = supervisor.Supervisor(app, root, self.run)
        self.log = os.path.join(root, "logs")
        effects.directory(self.log)

    def wanted(self, drain: int = 10) -> Wanted:
        service = {**supervisor.service_values(self.app, self.root, self.run, ME, MY_GROUP, drain), "sandbox": []}
        texts = {path: TEMPLATES.get_template(f"supervisor/{template}").render(service=service)
                 for template, path in supervisor.service_paths(self.app, self.root).items()}
        return Wanted(texts, ME, MY_GROUP, drain)

    def name(self, slot: int, incarnation: int = 1, group: str = "g") -> Name:
        return Name(self.app, group, slot, incarnation)

    def text(self, name: Name, command: list[str], stop_seconds: int = 20, generation: str = "gen1") -> str:
        env = os.path.join(self.root, f"{name}.env")
        effects.write(env, 'MARK="x y"\n', mode=0o600)
        launch = [sys.executable, str(REPOSITORY / "runners" / "launch.py"), "--env-file", env, "--unit", str(name),
                  "--generation", generation, "--run-directory", self.run, "--json", supervisor.command_json(command)]
        node: dict[str, Any] = {
            "app": self.app, "generation": generation, "unit": str(name), "launch_json": launch, "directory": self.root,
            "stop_seconds": stop_seconds, "log_path": os.path.join(self.log, f"{name}.log"),
            "log_max_bytes": 1000000, "log_backups": 1,
        }
        return TEMPLATES.get_template("supervisor/node.conf.j2").render(node=node)

    def worker(self, slot: int, drain: float = 0, mark: str = "a", **options: Any) -> Name:
        """Write the program of a worker, not yet loaded."""
        name = self.name(slot)
        self.manager.write(name, self.text(name, [sys.executable, "-c", WORKER, str(drain), mark], **options))
        return name

    def started(self, *slots: int, **options: Any) -> list[Name]:
        names = [self.worker(slot, **options) for slot in slots]
        self.manager.reload()
        self.manager.enable(names)
        self.manager.start(names)
        self.until(lambda: all("up" in "".join(self.manager.log(name, 9)) and self.of(name).record for name in names))
        return names

    def of(self, name: Name) -> Present:
        return next(node for node in self.manager.present() if node.name == name)

    def until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        until(holds, seconds, why=lambda: str(self.manager.present()))

    def supervisord(self) -> int:
        return int(Path(self.run, "supervisord.pid").read_text())

    def end(self) -> None:
        with contextlib.suppress(WorkfleetError, OSError):
            os.kill(self.supervisord(), signal.SIGKILL)
        for node in self.manager.present():
            if node.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(node.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def venv() -> Iterator[str]:
    """Supervisor as ``install`` gets it from the package index, once."""
    root = tempfile.mkdtemp(prefix="wf-", dir="/tmp")
    fleet = Fleet(root)
    try:
        fleet.manager.install(fleet.wanted())
        assert fleet.manager.prepare(fleet.wanted()) == []
        yield os.path.join(root, "supervisor", "venv")
    finally:
        fleet.end()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def make(venv: str) -> Iterator[Callable[[str], Fleet]]:
    """Make fleets whose virtualenv is there already."""
    made: list[Fleet] = []

    def one(app: str) -> Fleet:
        fleet = Fleet(tempfile.mkdtemp(prefix="wf-", dir="/tmp"), app)
        effects.directory(fleet.manager.home)
        os.symlink(venv, fleet.manager.venv)
        made.append(fleet)
        fleet.manager.install(fleet.wanted())
        return fleet

    yield one
    for fleet in made:
        fleet.end()
        shutil.rmtree(fleet.root, ignore_errors=True)


@pytest.fixture
def fleet(make: Callable[[str], Fleet]) -> Fleet:
    return make("foo")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_node_goes_from_file_to_process_and_away(fleet: Fleet) -> None:
    name = fleet.worker(1)
    text = fleet.text(name, [sys.executable, "-c", WORKER, "0", "a"])
    assert (fleet.of(name).activity, fleet.of(name).text, fleet.of(name).enabled) == ("stopped", text, False)
    fleet.manager.reload()
    fleet.manager.start([name])
    fleet.until(lambda: fleet.of(name).activity == "running")
    node = fleet.of(name)
    assert node.generation == node.file_generation == "gen1"
    assert node.record is not None and node.restarts == 0 and not node.needs_reload and not node.enabled
    assert b"WORKFLEET_GENERATION=gen1" in Path(f"/proc/{node.pid}/environ").read_bytes()
    assert node.memory_bytes and node.memory_bytes > 1_000_000 and node.cpu_seconds is not None
    assert node.uptime_seconds is not None and node.uptime_seconds >= 0 and is_within(node.uptime_seconds, 15)
    fleet.manager.stop([name])
    fleet.until(lambda: fleet.of(name).activity == "stopped")
    assert node.pid and not alive(node.pid)
    fleet.manager.remove([name])
    fleet.manager.reload()
    assert fleet.manager.present() == []
    assert not list(Path(fleet.run).glob("workfleet.*")) and not list(Path(fleet.manager.programs).iterdir())
    assert fleet.manager.server.call("supervisor.getAllProcessInfo") == []


def test_a_supervisord_that_comes_back_by_itself_starts_what_is_enabled_only(fleet: Fleet) -> None:
    old, = fleet.started(1)
    new = fleet.worker(2)
    fleet.manager.reload()
    fleet.end()
    effects.run([os.path.join(fleet.manager.venv, "bin", "supervisord"), "-c", fleet.manager.conf])
    fleet.until(lambda: fleet.of(old).activity == "running")
    assert fleet.of(new).activity == "stopped"


def test_installing_starts_no_node_and_leaves_enabled_what_was(fleet: Fleet) -> None:
    old, = fleet.started(1)
    new = fleet.worker(2)
    fleet.end()
    fleet.manager.install(fleet.wanted())
    time.sleep(1.2)  # supervisord starts programs once a second
    assert [(node.name, node.activity, node.enabled) for node in fleet.manager.present()] == [
        (old, "stopped", True), (new, "stopped", False)]


def test_a_long_drain_is_waited_for_and_told(fleet: Fleet) -> None:
    name, other = fleet.started(1, 2, drain=2.5)
    pids = fleet.of(name).pid, fleet.of(other).pid
    began = time.monotonic()
    fleet.manager.stop([name])
    assert is_within(time.monotonic() - began, 1)
    fleet.manager.disable([name])
    time.sleep(0.5)
    node = fleet.of(name)
    assert (node.activity, node.pid, node.enabled) == ("stopping", pids[0], False)
    assert node.stopping_seconds is not None and node.stopping_seconds > 0.3 and is_within(node.stopping_seconds, 2)
    assert fleet.of(other).stopping_seconds is None
    with pytest.raises(WorkfleetError, match=rf"{name}: still stopping"):
        fleet.manager.start([name])
    fleet.manager.stop([name])  # a second stop neither kills nor begins anew
    fleet.until(lambda: fleet.of(name).activity == "stopped")
    assert time.monotonic() - began > 2.4
    assert fleet.manager.log(name, 2) == ["draining", "done"]
    assert (fleet.of(other).activity, fleet.of(other).pid) == ("running", pids[1])


def test_what_overruns_its_stop_time_is_killed(fleet: Fleet) -> None:
    name, = fleet.started(1, drain=60, stop_seconds=1)
    fleet.manager.stop([name])
    fleet.until(lambda: fleet.of(name).activity == "stopped", 6)
    assert fleet.manager.log(name, 1) == ["draining"]


def test_a_removed_file_leaves_the_draining_process_alone_and_is_forgotten_afterwards(fleet: Fleet) -> None:
    name, = fleet.started(1, drain=1.5)
    pid = fleet.of(name).pid
    fleet.manager.stop([name])
    fleet.manager.remove([name])
    fleet.manager.reload()
    node = fleet.of(name)
    assert (node.activity, node.text, node.pid, node.enabled) == ("stopping", None, pid, False)
    fleet.until(lambda: fleet.of(name).activity == "stopped")
    assert fleet.of(name).needs_reload
    fleet.manager.reload()
    assert fleet.manager.present() == []


def test_others_keep_their_process_while_nodes_come_and_go(fleet: Fleet) -> None:
    first, second = fleet.started(1, 2)
    pids = [fleet.of(name).pid for name in (first, second)]
    third, = fleet.started(3)
    fleet.manager.stop([third])
    fleet.until(lambda: fleet.of(third).activity == "stopped")
    fleet.manager.remove([third])
    fleet.manager.reload()
    assert [node.name for node in fleet.manager.present()] == [first, second]
    assert [node.pid for node in fleet.manager.present()] == pids


def test_a_text_changed_under_a_running_node_counts_from_its_next_start(fleet: Fleet) -> None:
    name, = fleet.started(1, mark="before")
    pid = fleet.of(name).pid
    fleet.worker(1, mark="after", stop_seconds=77)
    fleet.manager.reload()
    fleet.manager.start([name])  # it runs: nothing to do
    node = fleet.of(name)
    assert (node.pid, node.enabled, node.needs_reload) == (pid, True, False)
    assert node.text is not None and "stopwaitsecs=77" in node.text
    fleet.manager.stop([name])
    fleet.until(lambda: fleet.of(name).activity == "stopped")
    fleet.manager.start([name])
    fleet.until(lambda: "up after" in fleet.manager.log(name, 1))


def test_a_crash_loop_is_failed_with_its_restarts_and_last_words(fleet: Fleet) -> None:
    name = fleet.name(1)
    fleet.manager.write(name, fleet.text(name, [sys.executable, "-c", "import sys; sys.exit('no broker here')"]))
    fleet.manager.reload()
    fleet.manager.start([name])
    fleet.until(lambda: fleet.of(name).activity == "failed" and fleet.of(name).restarts >= 1)
    node = fleet.of(name)
    assert node.pid is None and node.result and "Exited too quickly" in node.result
    assert fleet.manager.log(name, 1) == ["no broker here"]
    # Its restart pause is no obstacle to a start on purpose, with the mended text and a new count.
    fleet.worker(1)
    fleet.manager.start([name])
    fleet.until(lambda: fleet.of(name).activity == "running" and fleet.of(name).record is not None)
    assert fleet.of(name).restarts == 0


def test_a_crash_loop_can_be_stopped_and_removed(fleet: Fleet) -> None:
    name, other = fleet.name(1), fleet.name(2)
    for one in (name, other):
        fleet.manager.write(one, fleet.text(one, ["/bin/false"]))
    fleet.manager.start([name, other])
    fleet.until(lambda: {node.activity for node in fleet.manager.present()} == {"failed"})
    fleet.manager.stop([name])
    fleet.until(lambda: fleet.of(name).activity == "stopped")
    fleet.until(lambda: fleet.of(other).activity == "failed")
    fleet.manager.remove([name, other])
    assert fleet.manager.present() == []


def test_a_node_that_dies_later_is_restarted_and_counted(fleet: Fleet) -> None:
    name, = fleet.started(1)
    fleet.until(lambda: fleet.of(name).activity == "running")
    before = fleet.of(name).pid
    assert before
    os.kill(before, signal.SIGKILL)
    fleet.until(lambda: fleet.of(name).activity == "running" and fleet.of(name).restarts == 1)
    assert fleet.of(name).pid != before


def test_nodes_outlive_a_killed_supervisord_and_are_told_to_finish_before_a_new_one_takes_over(fleet: Fleet) -> None:
    name, off = fleet.started(1, 2, drain=1)
    fleet.manager.disable([off])
    orphan, other = fleet.of(name).pid, fleet.of(off).pid
    assert orphan and other
    os.kill(fleet.supervisord(), signal.SIGKILL)
    fleet.until(lambda: fleet.of(name).result == "orphan")
    node = fleet.of(name)
    assert (node.activity, node.pid, node.generation) == ("stopping", orphan, "gen1")
    assert fleet.manager.prepare(fleet.wanted()) == ["supervisord is not running"]
    with pytest.raises(supervisor_rpc.Down, match=r"no supervisord of workfleet\.foo listens"):
        fleet.manager.start([name])
    fleet.manager.stop([off])
    fleet.until(lambda: fleet.of(off).activity == "stopped")
    began = time.monotonic()
    fleet.manager.install(fleet.wanted())
    assert time.monotonic() - began > 1, "the orphan was not given its second"
    assert not alive(orphan) and not alive(other)
    assert [node.activity for node in fleet.manager.present()] == ["stopped", "stopped"]
    fleet.manager.start([name])
    fleet.until(lambda: fleet.of(name).activity == "running")


def test_a_hundred_nodes_start_and_stop_in_one_request_each(fleet: Fleet) -> None:
    names = [fleet.name(slot) for slot in range(1, 41)]
    for name in names:
        fleet.manager.write(name, fleet.text(name, ["/bin/sleep", "600"]))
    fleet.manager.start(names)
    fleet.until(lambda: all(node.activity == "running" for node in fleet.manager.present()))
    fleet.manager.stop(names)
    fleet.until(lambda: all(node.activity == "stopped" for node in fleet.manager.present()))


def generated(count: int) -> list[str]:
    """Values of all the awkward characters; the same ones in every run."""
    source = random.Random(4711)
    alphabet = string.ascii_letters + " '\"%$\\\n\t\r#;=()[]{}`*?~&|<>!,:é漢🐙\x7f" + "%;#' \\\n" * 3
    hand = ["", " ", "%(here)s", "%(ENV_PATH)s", "%%", "$HOME", "${HOME}", "\\", "\n", " ; x", " # x", ";", "#", "'",
            '"', "-----BEGIN KEY-----\nabc\n  def\n\n-----END KEY-----\n", "-c", "--json", "a" * 5000]
    return hand + ["".join(source.choices(alphabet, k=source.randint(0, 30))) for _ in range(count)]


def test_a_process_gets_exactly_the_declared_words(fleet: Fleet) -> None:
    name, out = fleet.name(1), os.path.join(fleet.root, "argv.json")
    values = generated(400)
    fleet.manager.write(name, fleet.text(name, [sys.executable, "-c", DUMP, out, *values]))
    fleet.manager.reload()
    fleet.manager.start([name])
    fleet.until(lambda: os.path.exists(out))
    assert json.loads(Path(out).read_text(encoding="utf-8")) == values


@pytest.mark.parametrize("folder", ["50% off", "a;b", "it's", "ünï", "%(x)s"])
def test_paths_with_awkward_characters_work(make: Callable[[str], Fleet], folder: str) -> None:
    fleet = make("foo")
    fleet.log = os.path.join(fleet.log, folder)
    effects.directory(fleet.log)
    name, = fleet.started(1)
    assert os.path.exists(os.path.join(fleet.log, f"{name}.log"))


def test_an_app_root_with_awkward_characters_works(venv: str) -> None:
    root = tempfile.mkdtemp(prefix="w 5% ", dir="/tmp")
    fleet = Fleet(root)
    effects.directory(fleet.manager.home)
    os.symlink(venv, fleet.manager.venv)
    try:
        fleet.manager.install(fleet.wanted())
        fleet.started(1)
    finally:
        fleet.end()
        shutil.rmtree(root)


def test_apps_with_similar_names_do_not_see_each_other(make: Callable[[str], Fleet]) -> None:
    foo, foobar = make("foo"), make("foo-bar")
    one, = foo.started(1)
    two, = foobar.started(1)
    shutil.copy(foobar.manager.path(two), foo.manager.programs)
    assert [node.name for node in foo.manager.present()] == [one]
    foo.manager.reload()
    assert foobar.of(two).is_up


def test_a_supervisord_of_another_app_on_the_socket_is_refused(make: Callable[[str], Fleet]) -> None:
    foo, bar = make("foo"), make("bar")
    name, = foo.started(1)
    bar.manager.server.path = foo.manager.server.path
    for act in (bar.manager.present, bar.manager.reload, lambda: bar.manager.prepare(bar.wanted())):
        with pytest.raises(WorkfleetError, match=r"answers the supervisord 'workfleet\.foo', not 'workfleet\.bar'"):
            act()
    bar.manager.server.identifier = "workfleet.bar"
    with pytest.raises(WorkfleetError, match="another app"):
        bar.manager.server.batch([("supervisor.stopProcess", (str(name), False))])
    assert foo.of(name).is_up


def test_a_stale_socket_means_down(fleet: Fleet) -> None:
    name = fleet.worker(1)
    os.kill(fleet.supervisord(), signal.SIGKILL)
    time.sleep(0.2)
    assert os.path.exists(fleet.manager.server.path)
    assert fleet.of(name).activity == "stopped"
    fleet.manager.reload()
    fleet.manager.stop([name])
    assert fleet.manager.prepare(fleet.wanted()) == ["supervisord is not running"]
    fleet.manager.install(fleet.wanted())
    assert fleet.manager.prepare(fleet.wanted()) == []


def test_something_else_on_the_socket_is_an_error_that_says_so(fleet: Fleet) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello")

        def address_string(self) -> str:
            return "socket"

        def log_message(self, *_: Any) -> None:
            pass

    path = os.path.join(fleet.root, "other.sock")
    with socketserver.UnixStreamServer(path, Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fleet.manager.server.path = path
        with pytest.raises(WorkfleetError, match=r"other\.sock"):
            fleet.manager.present()
        server.shutdown()


def test_a_file_that_cannot_be_read_is_named_and_what_runs_goes_on(fleet: Fleet) -> None:
    good, = fleet.started(1)
    bad = fleet.name(2)
    text = fleet.text(bad, ["/bin/sleep", "9"])
    fleet.manager.write(bad, text.replace(fleet.log, "/no/such/directory"))
    with pytest.raises(WorkfleetError, match=rf"what runs goes on as it was.*{bad}"):
        fleet.manager.start([bad])
    with pytest.raises(WorkfleetError, match="/no/such/directory"):
        fleet.manager.reload()
    assert fleet.of(good).is_up
    assert fleet.of(bad).activity == "stopped"


def test_a_launcher_that_is_missing_is_told_with_the_programs_name(fleet: Fleet) -> None:
    good, bad = fleet.worker(1), fleet.name(2)
    text = fleet.text(bad, ["/bin/sleep", "9"])
    fleet.manager.write(bad, text.replace(f"command={sys.executable}", "command=/no/such/python"))
    with pytest.raises(WorkfleetError, match=rf"could not start {bad}: NO_FILE.*no/such/python"):
        fleet.manager.start([bad, good])
    fleet.until(lambda: fleet.of(good).activity == "running")


def test_texts_that_would_not_be_ours_are_refused(fleet: Fleet) -> None:
    name = fleet.name(1)
    text = fleet.text(name, ["/bin/sleep", "9"])
    for wrong in (text.replace("[program:", "[program:x"), text.replace("X-Workfleet-App=foo", "X-Workfleet-App=bar"),
                  text + "AutoStart = true\n"):
        with pytest.raises(WorkfleetError, match="template"):
            fleet.manager.write(name, wrong)
    assert fleet.manager.present() == []


def test_missing_names_are_told(fleet: Fleet) -> None:
    with pytest.raises(WorkfleetError, match="without its program file"):
        fleet.manager.start([fleet.name(7)])
    with pytest.raises(WorkfleetError, match="cannot enable"):
        fleet.manager.enable([fleet.name(7)])
    fleet.manager.disable([fleet.name(7)])
    fleet.manager.stop([fleet.name(7)])
    fleet.manager.remove([fleet.name(7)])
    assert fleet.manager.log(fleet.name(7), 5) == []


def test_a_rotated_log_is_read_on(fleet: Fleet) -> None:
    name = fleet.worker(1)
    Path(fleet.log, f"{name}.log").write_text("new\n")
    Path(fleet.log, f"{name}.log.1").write_text("older\nold\n")
    assert fleet.manager.log(name, 2) == ["old", "new"]
    assert fleet.manager.log(name, 1) == ["new"]


def test_prepare_tells_what_is_missing_and_changes_nothing(venv: str) -> None:
    root = tempfile.mkdtemp(prefix="wf-", dir="/tmp")
    try:
        bare = supervisor.Supervisor("foo", root, os.path.join(root, "run"))
        service = Fleet.wanted(Fleet(root))
        before = sorted(os.listdir(root))
        reasons = bare.prepare(service)
        assert any("supervisor 4.3.0 is not installed" in reason for reason in reasons)
        assert any("supervisord.conf is not there" in reason for reason in reasons)
        assert "supervisord is not running" in reasons
        assert sorted(os.listdir(root)) == before
        assert bare.present() == []
    finally:
        shutil.rmtree(root)


def test_a_changed_configuration_is_written_and_supervisord_goes_on(fleet: Fleet) -> None:
    name, = fleet.started(1)
    pids = fleet.supervisord(), fleet.of(name).pid
    effects.write(fleet.manager.conf, "; hand-made\n" + (effects.read(fleet.manager.conf) or ""))
    assert fleet.manager.prepare(fleet.wanted()) == [f"{fleet.manager.conf} differs"]
    fleet.manager.install(fleet.wanted())
    assert fleet.manager.prepare(fleet.wanted()) == []
    assert (fleet.supervisord(), fleet.of(name).pid) == pids


def test_uninstall_refuses_while_a_node_is_up_and_removes_everything_afterwards(fleet: Fleet) -> None:
    name, = fleet.started(1, drain=0.5)
    with pytest.raises(WorkfleetError, match=str(name)):
        fleet.manager.uninstall()
    fleet.manager.stop([name])
    fleet.until(lambda: fleet.of(name).activity == "stopped")
    fleet.manager.remove([name])
    pid = fleet.supervisord()
    fleet.manager.uninstall()
    fleet.until(lambda: not alive(pid))
    assert not os.path.exists(fleet.manager.home)
    assert fleet.manager.present() == []


def test_supervisord_that_cannot_come_up_says_why(fleet: Fleet) -> None:
    os.kill(fleet.supervisord(), signal.SIGKILL)
    time.sleep(0.2)
    Path(fleet.manager.programs, "foreign.conf").write_text("[program:x]\n")
    with pytest.raises(WorkfleetError, match="does not specify a command"):
        fleet.manager.install(fleet.wanted())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a supervisord for another account")
def test_root_runs_everything_as_the_apps_user() -> None:
    root = tempfile.mkdtemp(prefix="wf-", dir="/tmp")
    os.chmod(root, 0o711)
    fleet = Fleet(root)
    mine = fleet.wanted()
    wanted = Wanted(mine.texts, "nobody", "nogroup", 10)
    try:
        fleet.manager.install(wanted)
        assert fleet.manager.prepare(wanted) == []
        shutil.chown(fleet.log, "nobody", "nogroup")
        name, out = fleet.name(1), os.path.join(fleet.log, "who")
        text = fleet.text(name, ["/bin/sh", "-c", f"id -un > {out}; sleep 600"])
        os.chmod(os.path.join(root, f"{name}.env"), 0o644)
        shutil.copy(REPOSITORY / "runners" / "launch.py", root)
        fleet.manager.write(name, text.replace(sys.executable, "/usr/bin/python3")
                            .replace(str(REPOSITORY / "runners"), root))
        fleet.manager.start([name])
        fleet.until(lambda: os.path.exists(out) and Path(out).read_text() == "nobody\n")
        assert fleet.of(name).generation == "gen1"
        nobody = pwd.getpwnam("nobody").pw_uid
        assert {os.stat(f"/proc/{pid}").st_uid for pid in (fleet.supervisord(), fleet.of(name).pid)} == {nobody}
        assert os.stat(fleet.manager.programs).st_uid == os.stat(fleet.manager.conf).st_uid == 0
        assert os.stat(fleet.manager.server.path).st_mode & 0o777 == 0o700
        assert b"LANG=C.UTF-8" in Path(f"/proc/{fleet.supervisord()}/environ").read_bytes()
        assert b"PYTEST" not in Path(f"/proc/{fleet.supervisord()}/environ").read_bytes()
    finally:
        fleet.end()
        shutil.rmtree(root)
