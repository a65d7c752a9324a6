"""Who a process is: what an app, another user of the host, or a supervisord that is none, must not make root do or believe."""

from __future__ import annotations

import ast
import contextlib
import http.server
import json
import math
import os
import pwd
import random
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xmlrpc.client import Fault, dumps

import pytest

from plugins.module_utils.workfleet.engines import local
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import kernel, processes
from plugins.module_utils.workfleet.host.processes import Foreign, Owner
from plugins.module_utils.workfleet.managers import supervisor, supervisor_rpc
from plugins.module_utils.workfleet.managers.base import GENERATION_LINE, Present
from plugins.module_utils.workfleet.managers.records import Broken, Record, decode
from plugins.module_utils.workfleet.model import Name
from plugins.module_utils.workfleet.nodes import drain, info, leave, ledger, plan, watch
from plugins.module_utils.workfleet.nodes.host_nodes import HostNodes
from plugins.module_utils.workfleet.nodes.outcome import Outcome
from plugins.module_utils.workfleet.release import in_use
from tests.unit.test_info import FakeManager, reconciler_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from plugins.module_utils.workfleet.managers.records import Claim

PACKAGE = Path(processes.__file__).resolve().parents[1]
NAME = Name("shop", "a", 1, 1)
ME = Owner(os.geteuid())
NOBODY = pwd.getpwnam("nobody").pw_uid
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root is deceived by another user")


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start processes that do nothing, as whoever is asked for, and end them."""
    started = []

    def one(*, user: int | None = None, **more: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["/bin/sleep", "1000"], user=user, cwd="/", **more)
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.wait()


# A number is a claim


def test_no_signal_is_sent_by_number_outside_of_the_one_module() -> None:
    """``foreign`` and ``source`` send some to children of their own that they have not reaped, of which no number is another's yet."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr in ("kill", "killpg", "pidfd_send_signal", "pidfd_open"):
                of = called.value
                if isinstance(of, ast.Name) and of.id in ("os", "signal"):
                    found.append(str(path.relative_to(PACKAGE)))
    assert set(found) == {"host/processes.py", "host/foreign.py", "release/source.py"}


@as_root
def test_a_process_of_another_user_is_neither_counted_nor_killed(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    roots = spawn()
    with pytest.raises(Foreign, match=f"process {roots.pid} is not the app's: it is of user 0, not {NOBODY}"):
        processes.look(roots.pid, Owner(NOBODY))
    assert processes.alive(roots.pid, Owner(NOBODY)) is None
    claimed = processes.Process(roots.pid, processes.start_time(roots.pid) or 0, Owner(NOBODY))
    assert not processes.send(claimed, signal.SIGKILL)
    processes.kill_group(claimed)
    assert roots.poll() is None


@as_root
def test_a_process_that_is_not_of_one_user_alone_is_not_the_apps(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    code = "import os, sys; os.setresuid(65534, 65534, 0); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as half:
        assert half.stdout is not None and half.stdout.readline()
        assert NOBODY == 65534 and processes.alive(half.pid, Owner(NOBODY)) is None
        half.communicate(b"\n")


def test_a_process_of_another_start_time_group_or_none_at_all_is_not_there(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = spawn()
    started = processes.start_time(process.pid)
    assert started is not None
    assert processes.look(process.pid, ME, started) == processes.Process(process.pid, started, ME)
    for other in (started + 1, str(started), float("nan"), [started]):
        assert processes.look(process.pid, ME, other) is None
    with pytest.raises(Foreign, match="control group"):
        processes.look(process.pid, Owner(os.geteuid(), "workfleet.shop.a.1.1.service"))
    known = processes.look(process.pid, ME)
    process.kill()
    process.wait()
    assert known is not None and not processes.send(known, signal.SIGKILL) and processes.alive(process.pid, ME, started) is None


@pytest.mark.parametrize("claim", [None, True, 0, -1, 1.5, "1", "x", [1], {"pid": 1}, 2**31, 2**63, 10**400, math.inf, math.nan])
def test_a_claim_that_is_no_number_of_a_process_is_none(claim: object) -> None:
    assert processes.look(claim, ME) is None


def test_a_python_that_was_built_before_pidfds_looks_and_kills_the_same(
    monkeypatch: pytest.MonkeyPatch, spawn: Callable[..., subprocess.Popen[bytes]]
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(signal, "pidfd_send_signal")
    process = spawn()
    known = processes.look(process.pid, ME)
    assert known is not None and not any(processes.look(claim, ME) for claim in (2**31 - 1, 2**31, 2**32 + process.pid, 10**400))
    assert processes.send(known, signal.SIGKILL) and process.wait(10) == -signal.SIGKILL
    assert not processes.send(known, signal.SIGKILL)


def test_a_zombie_is_not_a_process_that_runs(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = spawn()
    process.kill()
    while (Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]) != "Z":
        time.sleep(0.01)
    assert processes.alive(process.pid, ME) is None


@as_root
def test_a_group_is_killed_but_for_what_is_anothers_in_it(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    leader = spawn(user=NOBODY, process_group=0)
    child, foreign = spawn(user=NOBODY, process_group=leader.pid), spawn(process_group=leader.pid)
    known = processes.look(leader.pid, Owner(NOBODY))
    assert known is not None
    processes.kill_group(known)
    assert [process.wait(10) for process in (leader, child)] == [-signal.SIGKILL] * 2
    assert foreign.poll() is None


@pytest.mark.parametrize(("group", "unit"), [
    ("/system.slice/workfleet.shop.a.1.1.service", "workfleet.shop.a.1.1.service"),
    ("/app.slice/app-jobs.slice/workfleet.shop.a.1.1.service/below", "workfleet.shop.a.1.1.service"),
    ("/workfleet.shop.a.1.1.service", "workfleet.shop.a.1.1.service"),
    ("/user.slice/user-1000.slice/user@1000.service/app.slice/workfleet.shop.a.1.1.service", "user@1000.service"),
    ("/machine.slice/libpod-1.scope/system.slice/workfleet.shop.a.1.1.service", "libpod-1.scope"),
    ("/docker/1/system.slice/workfleet.shop.a.1.1.service", "docker"), ("/", ""), ("", ""),
])
def test_the_unit_of_a_control_group_is_systemds_in_whatever_slice(monkeypatch: pytest.MonkeyPatch, group: str, unit: str) -> None:
    for root in ("", "/machine.slice/host.scope"):
        monkeypatch.setattr(kernel, "_root", lambda root=root: root)
        assert processes.unit_at(root + group) == unit
    assert processes.unit_at("/machine.slice/host.scope-2" + group) == ""


# An environment is a claim


@as_root
def test_another_users_environment_puts_no_process_into_an_app(spawn: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    record = {**os.environ, "WORKFLEET_RECORD": str(run / f"{NAME}.json")}
    forged, ours = spawn(user=NOBODY, env=record), spawn(env=record)
    assert local.pids_of("shop", str(run)) == {str(NAME): [ours.pid]}
    os.chown(run, NOBODY, -1)
    assert sorted(local.pids_of("shop", str(run))[str(NAME)]) == sorted([forged.pid, ours.pid])
    assert local.node_of(forged.pid, ["shop.a.1.1@h"]) is None, "a directory of one's own is no app's"


@as_root
def test_another_user_does_not_keep_a_release_by_running_something_of_its_name(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    words = ["/bin/sh", "-c", "sleep 1000; : /opt/shop/releases/aaaaaaaaaaaa/src"]
    with subprocess.Popen(words, user=NOBODY, cwd="/", start_new_session=True) as process:
        try:
            assert in_use.running("shop", "/opt/shop/releases", "root") == set()
            assert in_use.running("shop", "/opt/shop/releases", "nobody") == {"aaaaaaaaaaaa"}
        finally:
            os.killpg(process.pid, signal.SIGKILL)


# A supervisord that is none


def program(**changes: Any) -> dict[str, Any]:
    """Return a program as supervisord tells of it."""
    return {"name": str(NAME), "group": str(NAME), "statename": "RUNNING", "state": 20, "pid": 0, "spawnerr": "", "exitstatus": 0,
            "stdout_logfile": "", **changes}


class Impostor:
    """What listens on an app's socket and answers as it likes; counts what it is asked to do."""

    def __init__(self, path: str) -> None:
        self.programs: Any = []
        self.body: bytes | None = None
        self.asked: list[str] = []
        impostor = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
                methods = [part.split("<")[0] for part in asked.split("<string>supervisor.")[1:]]
                impostor.asked += methods
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(impostor.body if impostor.body is not None else impostor.answer(methods))

            def address_string(self) -> str:
                return "socket"

            def log_message(self, *_: Any) -> None:
                pass

        class Threads(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.server = Threads(path, Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, methods: list[str]) -> bytes:
        told = {"getIdentification": "workfleet.shop", "getAllProcessInfo": self.programs, "reloadConfig": [[[], [], []]]}
        return dumps(([told.get(method, True) for method in methods],), methodresponse=True).encode()


@pytest.fixture
def manager(tmp_path: Path) -> supervisor.Supervisor:
    for folder in ("run", "supervisor/programs", "env", "state"):
        (tmp_path / folder).mkdir(parents=True)
    return supervisor.Supervisor("shop", str(tmp_path), str(tmp_path / "run"))


@pytest.fixture
def impostor(manager: supervisor.Supervisor) -> Iterator[Impostor]:
    found = Impostor(manager.server.path)
    yield found
    found.server.shutdown()
    found.server.server_close()


@as_root
def test_a_supervisord_that_names_anothers_process_has_nothing_done_to_it(
    manager: supervisor.Supervisor, impostor: Impostor, spawn: Callable[..., subprocess.Popen[bytes]]
) -> None:
    victim, node = spawn(user=NOBODY, process_group=0), spawn(process_group=0)
    other = Name("shop", "a", 2, 1)
    impostor.programs = [program(pid=victim.pid), program(group=str(other), pid=node.pid)]
    there, beside = manager.present()
    assert (there.pid, beside.pid, beside.doubt) == (None, node.pid, None), "the other nodes are what they are"
    assert there.doubt is not None and f"process {victim.pid} is not the app's: it is of user {NOBODY}" in there.doubt
    assert manager.lives([NAME])[NAME] == (None, None)
    manager.stop([NAME])
    manager.kill([there, Present(NAME, None, True, "stopping", pid=victim.pid)])
    assert victim.poll() is None


@as_root
def test_nothing_is_said_to_what_another_user_has_put_in_the_place_of_supervisord(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.sock"
    code = ("import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o777);"
            "os.setuid(65534); s.listen(); print(flush=True); c, _ = s.accept(); print(c.recv(9), flush=True)")
    manager = supervisor.Supervisor("shop", str(tmp_path), str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline()
        with pytest.raises(WorkfleetError, match=f"listens process {other.pid} of user {NOBODY}, and not one of user 0.*End process"):
            manager.present()
        assert other.stdout.readline() == "b''\n"


def test_a_directory_in_which_anybody_may_replace_the_socket_is_refused(manager: supervisor.Supervisor, impostor: Impostor) -> None:
    os.chmod(manager.run_directory, 0o777)
    with pytest.raises(WorkfleetError, match=r"can be written by more than its owner \(mode 0777\).*chmod go-w"):
        manager.present()
    assert impostor.asked == []


BODIES = {
    "nothing": b"", "no XML": b"\x00\xff", "HTML": b"<html>hello", "half": dumps((["x"],), methodresponse=True).encode()[:-9],
    "nested": b"<methodResponse><params><param>" + b"<value><array><data>" * 100_000,
    "a declaration": b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><methodResponse>&b;</methodResponse>',
    "a number without end": b"<methodResponse><params><param><value><int>" + b"9" * 3_000_000,
    "more than there is room for": b"<methodResponse>" + b" " * (5 << 20),
    "other types": b"<methodResponse><params><param><value><double>1e999</double></value></param></params></methodResponse>",
    "a fault": dumps(Fault(1, "no")).encode(),
    "a fault of another form": b"<methodResponse><fault><value><int>1</int></value></fault></methodResponse>",
    "no list": dumps(("x",), methodresponse=True).encode(),
    "too few answers": dumps(([],), methodresponse=True).encode(),
    "a key that is none": b"<methodResponse><params><param><value><struct><member><name>a</name></member></struct></value></param></params>"
                          b"</methodResponse>",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_an_answer_that_no_supervisord_gives_is_a_sentence(manager: supervisor.Supervisor, impostor: Impostor, body: bytes) -> None:
    impostor.body = body
    began = time.monotonic()
    with pytest.raises(WorkfleetError, match=r"supervisor\.sock gave no proper answer, as no supervisord does"):
        manager.present()
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("programs", [None, 1, "x", {}, [1], ["x"], [[]], [{}], [program(pid="1")], [program(group=1)],
                                      [program(statename=[])], [program(exitstatus="0")], [program(spawnerr={})]])
def test_programs_of_another_form_are_a_sentence(manager: supervisor.Supervisor, impostor: Impostor, programs: Any) -> None:
    impostor.programs = "" if programs is None else programs
    with pytest.raises(WorkfleetError, match="gave no proper answer"):
        manager.present()


def test_2000_answers_of_bytes_changed_at_random_are_answers_or_sentences() -> None:
    source = random.Random(15)
    honest = dumps((["workfleet.shop", [program(pid=7), program(spawnerr="x")], {"faultCode": 1, "faultString": "no"}],),
                   methodresponse=True).encode()
    for _ in range(2000):
        body = bytearray(honest)
        for _ in range(source.randint(1, 6)):
            at = source.randrange(len(body))
            put = source.choice((b"", b"<", b"</value>", b"&", b"\xff", bytes([source.randrange(256)])))
            body[at:at + source.choice((0, 1, 1, 9))] = put
        with contextlib.suppress(supervisor_rpc.Improper):
            supervisor_rpc.decode(bytes(body))


def test_one_that_drips_or_never_answers_keeps_nobody_waiting(manager: supervisor.Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_rpc, "ANSWER_SECONDS", 1.0)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(manager.server.path)
        server.listen()

        def drip() -> None:
            with contextlib.suppress(OSError):
                client, _ = server.accept()
                client.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    client.sendall(b"X: 1\r\n")
                    time.sleep(0.1)

        threading.Thread(target=drip, daemon=True).start()
        for _ in range(2):  # the second finds nobody who accepts
            began = time.monotonic()
            with pytest.raises(WorkfleetError, match="did not answer within 1 s"):
                manager.present()
            assert time.monotonic() - began < 10


def test_a_log_that_supervisord_names_elsewhere_is_neither_shown_nor_removed(
    manager: supervisor.Supervisor, impostor: Impostor, tmp_path: Path
) -> None:
    secret = tmp_path / f"{NAME}.log"
    secret.write_text("secret\n")
    impostor.programs = [program(stdout_logfile=str(secret), statename="STOPPED")]
    assert manager.log(NAME, 5) == []
    manager.remove([NAME])
    assert secret.exists()


def test_what_was_told_to_stop_has_not_gone_because_supervisord_says_so(
    manager: supervisor.Supervisor, impostor: Impostor, spawn: Callable[..., subprocess.Popen[bytes]]
) -> None:
    node = spawn(process_group=0)
    impostor.programs = [program(pid=node.pid)]
    manager.stop([NAME])
    assert "stopProcess" in impostor.asked and node.poll() is None
    for says in (program(statename="STOPPED"), program(pid=node.pid), None):
        impostor.programs = [] if says is None else [says]
        Path(manager.path(NAME)).write_text(f"; X-Workfleet-App=shop\n[program:{NAME}]\n")
        there, = manager.present()
        assert (there.activity, there.pid) == ("stopping", node.pid)
        assert manager.lives([NAME])[NAME][0] == node.pid
    manager.kill([there])
    assert node.wait(10) == -signal.SIGKILL


# A run record is a claim

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 7.5, -0.0, 1e400, -1e400, math.nan, 10**400, 2**63, "x", "", "\x1b[2J\n", "\ud800", "a" * 70_000, [], [1],
    {}, {"a": 1}, ["x"], {"tasks": None}, {"tasks": [1]}, {"tasks": [{"id": 1}]}, {"tasks": "abc"}, {"tasks": {}}, [[[[[]]]]],
    {"tasks": [{"id": "a", "task": "b", "since": "c", "acked": "d"}]}, {"tasks": [{"id": "a", "task": "b", "since": 1e300, "acked": True}]},
    {"tasks": [{"id": "a", "task": None, "since": 1, "acked": 0}]}, {"tasks": [], "before": "x"}, {"tasks": [], "held": -5, "idle": "now"},
]
RAW = ["", "null", "[1,2]", '"x"', "5", '[["a"]]', '[["pid",1],["starttime",1]]', "[" * 100_000, '{"a":' * 50_000,
       '{"pid":%s}' % ("9" * 5000), '{"pid": NaN}', "{", "\x00", '{"pid": 1', "\ufeff{}"]
HOLDS = {"tasks": [{"id": "1", "task": "app.fetch", "since": 100.0, "acked": True}], "before": 1, "held": 1, "returned": 0, "idle": None}


def honest(pid: int, **changes: Any) -> dict[str, Any]:
    """Return what a launcher and a runner write."""
    return {"unit": str(NAME), "pid": pid, "starttime": processes.start_time(pid), "generation": "G", "starts": 1, "ready": 1.0,
            "stopping": None, "quiesced": 90.0, "holds": HOLDS, "mark": f"/opt/shop/env/{NAME}.quiesced", **changes}


def hostile_records(pid: int, count: int) -> Iterator[str]:
    """Yield records in which one to three things at any depth are what they must not be, the same ones in every run."""
    yield from RAW
    for key in honest(pid):
        for value in HOSTILE:
            yield json.dumps({**honest(pid), key: value})
    source = random.Random(15)
    for _ in range(count):
        record = json.loads(json.dumps(honest(pid)))
        for _ in range(source.randint(1, 3)):
            within: Any = source.choice([record, record["holds"], record["holds"]["tasks"][0]]
                                        if isinstance(record["holds"], dict) and record["holds"].get("tasks") else [record])
            if isinstance(within, dict):
                within[source.choice([*within, "another"])] = source.choice(HOSTILE)
                if not (isinstance(record["holds"], dict) and isinstance(record["holds"].get("tasks"), list)
                        and record["holds"]["tasks"] and isinstance(record["holds"]["tasks"][0], dict)):
                    break
        yield json.dumps(record)


class OneNode(FakeManager):
    """A manager that tells the truth of one node, with a record of its own word."""

    pid = 0
    text = f"{GENERATION_LINE}old\n"

    def present(self) -> list[Present]:
        generation, record, doubt = self.identify(NAME, self.pid)
        return [self.as_told(Present(NAME, self.text, True, "running", pid=self.pid, generation=generation, record=record,
                                     uptime_seconds=50.0, restarts=record.starts - 1 if record else 0, doubt=doubt))]

    def stop(self, names: Any) -> None:
        pass

    def kill(self, nodes: Any) -> None:
        pass


@pytest.fixture
def lying(tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]) -> HostNodes:
    """The nodes of a host: one of a process that lives; what stands in its record is the test's."""
    (tmp_path / "env").mkdir()
    reconciler = reconciler_of(tmp_path)
    reconciler.manager = OneNode("shop", str(tmp_path), str(tmp_path))
    reconciler.manager.pid = spawn().pid
    return reconciler


def says(reconciler: HostNodes, record: dict[str, Any] | str) -> None:
    """Put a record where the node's stands."""
    text = record if isinstance(record, str) else json.dumps(record)
    Path(reconciler.manager.record_path(NAME)).write_text(text, encoding="utf-8", errors="surrogatepass")


def pid_of(reconciler: HostNodes) -> int:
    assert isinstance(reconciler.manager, OneNode)
    return reconciler.manager.pid


def decoded(text: str) -> Claim | None:
    try:
        return decode(text, str(NAME))
    except Broken as error:
        assert str(error) and len(str(error)) < 200
        return None


def test_what_a_launcher_and_a_runner_write_is_read_as_it_is() -> None:
    claim = decoded(json.dumps(honest(os.getpid())))
    assert claim is not None and (claim.pid, claim.started) == (os.getpid(), processes.start_time(os.getpid()))
    assert claim.record == Record("G", 1, 1.0, None, 90.0, HOLDS, f"/opt/shop/env/{NAME}.quiesced")
    written = honest(os.getpid())
    launched = {key: written[key] for key in ("unit", "pid", "starttime", "generation", "starts", "mark")}
    assert decoded(json.dumps(launched)) is not None


def test_a_record_of_another_node_is_not_this_ones() -> None:
    with pytest.raises(Broken, match="unit: it is another node's"):
        decode(json.dumps(honest(7, unit="workfleet.shop.b.1.1")), str(NAME))


def test_2000_hostile_records_are_read_or_refused_and_go_through_plan_status_drain_and_leave_without_a_traceback(
    lying: HostNodes
) -> None:
    tried, refused = 0, 0
    watched = ledger.Watched(time.time())
    leave.write(lying.manager, NAME, leave.Note("shop.a.1.1@h1", time.time(), 60, kills=True, by_mark=True))
    order = drain.Drain(lying, drain.Order(patience={"a": 0.0}), check=True)
    attendant = leave.Attendant(lying.manager)
    for text in hostile_records(pid_of(lying), 2000):
        says(lying, text)
        claim = decoded(text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape"))
        tried, refused = tried + 1, refused + (claim is None)
        node, = lying.manager.present()
        assert claim is None or node.record in (None, claim.record)
        made = lying.make_plan([plan.Seen(replace(node, activity="running"), "env")])
        assert made.wanted and not made.notes, "the group was left alone"
        lying.is_ready(node), lying.is_proved(node, 5)
        entry = info.entry(lying, node, None, reached=False)
        json.dumps(entry, allow_nan=False).encode()
        info.problem(entry).encode()
        for name, (pid, record) in lying.manager.lives([NAME]).items():
            assert pid == pid_of(lying), "a node that hides is not down"
            order.look(name, watched, pid, record)
            drain.doing(watched)
            json.dumps(watched.line("n"), allow_nan=False).encode()
            watched.begun()
        leave.lines(lying.manager)
        attendant.go_round()
        assert leave.pending(lying.manager), "it was taken for gone"
    assert tried > 2300 and refused > 1000


def test_a_hostile_record_is_one_named_problem_of_its_node(lying: HostNodes) -> None:
    says(lying, honest(pid_of(lying), holds={"tasks": [1]}))
    entry = info.entry(lying, lying.manager.present()[0], None, reached=False)
    assert info.problem(entry) == ("a 1: failed: its run record is not what a worker of ours writes (holds: it is no list of tasks); "
                                   "restart.yml replaces it")


def planned(reconciler: HostNodes) -> list[str]:
    seen = reconciler.observe()
    return [item.action for item in reconciler.make_plan(seen).steps(rollout=True)]


def test_a_node_does_not_escape_a_release_by_a_record_that_says_it_is_current(lying: HostNodes) -> None:
    declared = lying.intents[0].generation
    for record in (honest(pid_of(lying), generation=declared, quiesced=None), honest(pid_of(lying), generation=declared), "{"):
        says(lying, record)
        node, = lying.manager.present()
        assert not plan.is_current(node, declared) and {"start", "stop"} <= set(planned(lying))
    assert isinstance(lying.manager, OneNode)
    lying.manager.text = lying.intents[0].text(NAME)
    Path(lying.env_path(NAME)).write_text(lying.intents[0].env(NAME))
    assert planned(lying) == []
    says(lying, honest(pid_of(lying), generation="old", quiesced=None))
    assert {"start", "stop"} <= set(planned(lying)), "a record makes its own node look stale"


def test_a_node_does_not_hold_a_rollout_up_by_saying_that_it_was_told_to_take_no_tasks(lying: HostNodes) -> None:
    says(lying, honest(pid_of(lying)))
    assert {"start", "stop"} <= set(planned(lying)) and not lying.make_plan(lying.observe()).notes
    node, = lying.manager.present()
    assert lying.quiet_since(node) is None and info.judge(lying, node, lying.groups["a"], None, reached=True)[0] == "unresponsive"
    lying.manager.mark(NAME, 5.0)
    assert planned(lying) == [] and lying.quiet_since(node) == 5.0 and "resume.yml" in lying.make_plan(lying.observe()).notes[0]


def test_a_command_that_heeds_no_mark_is_told_as_the_process_that_it_is(tmp_path: Path, lying: HostNodes) -> None:
    lying.groups["a"] = replace(lying.groups["a"], notifies=False)
    says(lying, honest(pid_of(lying)))
    node, = lying.manager.present()
    lying.manager.mark(NAME, 5.0)
    assert lying.quiet_since(node) is None
    lying.manager.mark(NAME, 5.0, pid=node.pid)
    assert lying.quiet_since(node) == 5.0 and lying.quiet_since(replace(node, pid=os.getpid())) is None


def test_a_command_that_was_told_before_marks_named_a_process_stays_drained(lying: HostNodes) -> None:
    lying.groups["a"] = replace(lying.groups["a"], notifies=False)
    node, = lying.manager.present()
    Path(lying.manager.mark_path(NAME)).write_text('{"since": 5.0, "queues": ["celery"]}')
    assert lying.quiet_since(node) == 5.0 and lying.quiet_since(replace(node, pid=None)) is None


def test_a_node_that_takes_its_record_away_has_neither_drained_nor_gone(lying: HostNodes) -> None:
    assert lying.manager.lives([NAME]) == {NAME: (pid_of(lying), None)}
    order = drain.Drain(lying, drain.Order(patience={"a": 0.0}), check=True)
    watched = ledger.Watched(time.time())
    order.look(NAME, watched, pid_of(lying), None)
    assert watched.state == "asked" and not watched.is_done
    leave.write(lying.manager, NAME, leave.Note("shop.a.1.1@h1", time.time(), 60, kills=False, by_mark=True))
    attendant = leave.Attendant(lying.manager)
    for _ in range(3):
        attendant.go_round()
    assert leave.pending(lying.manager) and attendant.stopped, "it has the signal, and is waited for"


def test_a_node_that_does_not_go_when_its_manager_was_to_end_it_is_killed_and_then_is_a_sentence(
    lying: HostNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(lying.manager, OneNode)
    lying.manager.text = "TimeoutStopSec=75\n"
    killed: list[Present] = []
    waiting = watch.Watch(lying, Outcome())
    monkeypatch.setattr(lying.manager, "kill", killed.extend)
    now = [1000.0]
    monkeypatch.setattr(watch, "uptime", lambda: now[0])
    node, = lying.manager.present()
    for passed in (0, 75, 89):
        now[0] = 1000.0 + passed
        waiting.enforce([node])
    assert killed == []
    now[0] = 1091.0
    waiting.enforce([node])
    assert killed == [node]
    now[0] = 1101.0
    with pytest.raises(WorkfleetError, match=rf"{NAME} was to be gone 26 s ago, and systemd says that process {node.pid} of it is there"):
        waiting.enforce([node])


def test_one_node_that_says_it_heeds_no_mark_does_not_keep_the_others_from_a_drain(lying: HostNodes) -> None:
    says(lying, honest(pid_of(lying), mark=None))
    assert drain.Drain(lying, drain.Order(wait=False, patience={"a": 0.0}), check=True).call()["steps"][0]["action"] == "drain"


@pytest.mark.parametrize("kind", ["a directory", "a link to itself", "a link to nothing"])
def test_what_is_no_file_in_a_records_place_is_no_record(lying: HostNodes, kind: str) -> None:
    path = Path(lying.manager.record_path(NAME))
    if kind == "a directory":
        path.mkdir()
    else:
        path.symlink_to(path.name if kind == "a link to itself" else "nothing")
    node, = lying.manager.present()
    assert node.record is None and lying.manager.lives([NAME]) == {NAME: (pid_of(lying), None)}
    lying.manager.record_times([NAME])
    assert {"start", "stop"} <= set(planned(lying))
