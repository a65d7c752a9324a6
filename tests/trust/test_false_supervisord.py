"""A supervisord that systemd started and the app has made its own: what it can no longer have root do, on a test host."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import effects
from plugins.module_utils.workfleet.managers.base import Wanted
from plugins.module_utils.workfleet.managers.supervisor import Supervisor
from plugins.module_utils.workfleet.model import Name
from plugins.module_utils.workfleet.release import in_use
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.systemd
APP, USER = "trust", "nobody"
RUN, ROOT = Path("/run/workfleet", APP), Path("/opt", APP)
UNIT = Path(f"/etc/systemd/system/workfleet.{APP}.supervisord.service")
NAME = Name(APP, "a", 1, 1)
# Says that its one program runs as the process whose number stands in the file; that of the second word by itself.
FALSE = """
import http.server, os, pathlib, socketserver, subprocess, sys
from xmlrpc.client import dumps
run, unit = pathlib.Path(sys.argv[1]), sys.argv[2]
child = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        state, pid = (run / "says").read_text().split()
        program = {"group": unit, "statename": state, "pid": child.pid if pid == "child" else int(pid), "spawnerr": "", "exitstatus": 0,
                   "stdout_logfile": ""}
        told = {"getIdentification": sys.argv[3], "getAllProcessInfo": [program], "reloadConfig": [[[], [], []]]}
        self.send_response(200)
        self.end_headers()
        methods = [part.split("<")[0] for part in asked.split("<string>supervisor.")[1:]]
        self.wfile.write(dumps(([told.get(method, True) for method in methods],), methodresponse=True).encode())
    def address_string(self):
        return "socket"
    def log_message(self, *words):
        pass
(run / "supervisor.sock").unlink(missing_ok=True)
socketserver.UnixStreamServer(str(run / "supervisor.sock"), Answer).serve_forever()
"""


@pytest.fixture
def manager() -> Iterator[Supervisor]:
    for path in (ROOT / "supervisor" / "programs", ROOT / "env", ROOT / "state", RUN):
        path.mkdir(parents=True, exist_ok=True)
    shutil.chown(RUN, USER)
    script = ROOT / "false.py"
    script.write_text(FALSE)
    UNIT.write_text(f"[Service]\nUser={USER}\nSlice=trust-here.slice\nExecStart=/usr/bin/python3 {script} {RUN} {NAME} workfleet.{APP}\n")
    (RUN / "says").write_text("RUNNING child")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "restart", UNIT.name], check=True)
    until((RUN / "supervisor.sock").exists)
    yield Supervisor(APP, str(ROOT), str(RUN))
    subprocess.run(["systemctl", "stop", UNIT.name], check=True)
    UNIT.unlink()
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    for path in (ROOT, RUN):
        shutil.rmtree(path)


def test_a_process_outside_of_the_service_is_not_the_apps_though_it_is_the_users(manager: Supervisor) -> None:
    child, = manager.present()
    assert child.activity == "running" and child.pid
    with subprocess.Popen(["/bin/sleep", "1000"], user=USER) as outside:
        (RUN / "says").write_text(f"RUNNING {outside.pid}")
        try:
            shown, = manager.present()
            assert shown.pid is None and shown.doubt is not None
            assert re.search(rf"process {outside.pid} is not the app's: .* control group .*, not that of {UNIT.name}", shown.doubt)
            manager.stop([NAME])
            manager.kill([replace(shown, pid=outside.pid)])
            assert outside.poll() is None
        finally:
            outside.kill()


def test_a_node_that_took_another_account_is_the_apps_and_keeps_its_release(manager: Supervisor) -> None:
    """As one by ``sudo`` does; its control group tells."""
    source = ROOT / "releases" / "aaaaaaaaaaaa" / "src"
    source.mkdir(parents=True)
    with subprocess.Popen(["/bin/sleep", "1000"], user="daemon", cwd=source) as other:
        (RUN / "says").write_text(f"RUNNING {other.pid}")
        try:
            assert manager.present()[0].pid is None
            assert in_use.running(APP, str(source.parent.parent), USER) == set()
            Path("/sys/fs/cgroup/trust.slice/trust-here.slice", UNIT.name, "cgroup.procs").write_text(str(other.pid))
            shown, = manager.present()
            assert (shown.pid, shown.doubt) == (other.pid, None)
            assert in_use.running(APP, str(source.parent.parent), USER) == {"aaaaaaaaaaaa"}
            manager.kill([shown])
            assert other.wait(30) == -signal.SIGKILL
        finally:
            other.kill()


def test_systemd_is_asked_for_the_service_once_a_call(manager: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    run = effects.run

    def counted(words: list[str], **more: Any) -> Any:
        asked.append(words[:2])
        return run(words, **more)

    monkeypatch.setattr(effects, "run", counted)
    manager.present()
    manager.prepare(Wanted({}, USER, "nogroup", 5))
    manager.sweep()
    assert asked.count(["systemctl", "show"]) == 1


def test_nothing_is_said_to_a_process_of_the_app_that_systemd_did_not_start_as_supervisord(manager: Supervisor) -> None:
    (RUN / "supervisor.sock").unlink()
    words = ["/usr/bin/python3", str(ROOT / "false.py"), str(RUN), str(NAME), f"workfleet.{APP}"]
    with subprocess.Popen(words, user=USER, start_new_session=True) as another:
        until((RUN / "supervisor.sock").exists)
        try:
            with pytest.raises(WorkfleetError, match=rf"listens process {another.pid} of user \d+, and not process \d+ of user .* systemd"):
                manager.present()
        finally:
            another.kill()


def test_what_a_false_supervisord_hides_is_killed_when_no_node_is_to_run(manager: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    child, = manager.present()
    assert child.pid and manager.sweep() == []
    (RUN / "says").write_text("STOPPED 0")
    assert manager.sweep() == [f"no node of {APP} is up, and what was left of them was killed: process {child.pid}"]
    until(lambda: not Path(f"/proc/{child.pid}/cmdline").exists() or not Path(f"/proc/{child.pid}/cmdline").read_bytes())
    monkeypatch.setattr(manager, "present", lambda: pytest.fail("nothing is left, so no node is asked for"))
    assert manager.sweep() == []


def test_a_supervisord_that_is_started_again_is_known_again(manager: Supervisor) -> None:
    first, = manager.present()
    subprocess.run(["systemctl", "restart", UNIT.name], check=True)
    until(lambda: manager.server.path in Path("/proc/net/unix").read_text())
    until(lambda: first.pid != manager.present()[0].pid)
