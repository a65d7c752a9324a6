"""The scheduler and the dashboard as nodes: real Celery beat and real Flower under a real supervisord."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shelve
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines.celery import flower
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.nodes import info
from plugins.module_utils.workfleet.nodes.host_nodes import HostNodes
from plugins.module_utils.workfleet.nodes.request import Request
from tests.integration import flower_environment
from tests.integration.supervised import Site, site
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import RedisServer

__all__ = ["site"]
pytest.importorskip("celery")

ROOT = Path(__file__).resolve().parents[2]
LOCK = "workfleet:shop:scheduler"
SHOP = """
from celery import Celery
app = Celery("shop")
app.conf.beat_schedule = {"tick": {"task": "shop.tick", "schedule": 0.5}, "daily": {"task": "shop.daily", "schedule": 86400}}
"""
#: The same, which is told to stop in the middle of its own work.
STOPS = SHOP + """
import os, signal
from celery.beat import PersistentScheduler
from celery.signals import before_task_publish

def stop():
    os.kill(os.getpid(), signal.SIGTERM)

class Dropped:
    def __del__(self):
        stop()
"""
BEAT: dict[str, Any] = {"app": "shop", "options": {"loglevel": "info"}}


@pytest.fixture(scope="session")
def with_flower() -> Path:
    return flower_environment.environment() / "bin"


@pytest.fixture
def shop(site: Site, redis_server: RedisServer) -> Site:
    """An app with a periodic task, whose programs are those of the tests' own environment."""
    for runner in (ROOT / "runners").glob("*.py"):
        shutil.copy(runner, os.path.join(site.root, "workfleet"))
    Path(site.root, "shop.py").write_text(SHOP)
    site.app = {"broker_url": redis_server.url(), "env": {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}}
    return site


def sent(redis: RedisServer, task: str = "shop.tick") -> list[str]:
    """Return which process sent each waiting task."""
    heads = [json.loads(message)["headers"] for message in redis.call("LRANGE", "celery", "0", "-1")]
    return [head["origin"] for head in heads if head["task"] == task]


def log(site: Site, unit: str) -> str:
    return Path(site.root, "log", f"workfleet.shop.{unit}.log").read_text()


def holder(redis: RedisServer) -> dict[str, Any]:
    found = redis.call("GET", LOCK)
    return dict(json.loads(found)) if found else {}


class Rival:
    """The same scheduler as another host would start it."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.folder = folder
        words = [sys.executable, f"{site.root}/workfleet/workfleet_beat.py", "--node", "rival", "--lock", LOCK, "--directory", str(folder),
                 "--", "-A", "shop", "beat", f"--schedule={folder}/schedule", "--pidfile=", "--loglevel=info"]
        with (folder / "log").open("wb") as written:
            self.process = subprocess.Popen(words, cwd=site.root, stdout=written, stderr=written,
                                            env={**os.environ, "CELERY_BROKER_URL": site.app["broker_url"]})

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def end(self) -> int:
        """Wait for its end; a busy machine takes its time."""
        return self.process.wait(60)

    @property
    def counted(self) -> int:
        """How often it sent the task, as its schedule has it."""
        with shelve.open(str(self.folder / "schedule"), "r") as schedule:  # noqa: S301 - our own
            return int(schedule["entries"]["tick"].total_run_count)


@pytest.fixture
def rival(shop: Site, tmp_path: Path) -> Iterator[Rival]:
    started = Rival(shop, tmp_path)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def converge(site: Site, **more: Any) -> Any:
    """Converge a host that is there for one of them only; ``more`` says for which."""
    return site.converge([], **more)


def status(site: Site, **declared: Any) -> dict[str, Any]:
    """Return what ``worker_info`` tells."""
    request = Request.parse(site.request([], **declared))
    return info.look(HostNodes(request, site.manager), 1.0)


def test_the_scheduler_is_ready_when_it_sends_and_its_schedule_survives_a_new_generation(shop: Site, redis_server: RedisServer) -> None:
    done = converge(shop, scheduler=BEAT)
    assert done.steps == ["write scheduler.1.1", "reload", "enable scheduler.1.1", "start scheduler.1.1"]
    assert until(lambda: sent(redis_server))
    node = status(shop, scheduler=BEAT)["nodes"][0]
    assert (node["group"], node["engine"], node["state"], node["current"]) == ("scheduler", "beat", "ready", True)
    assert holder(redis_server)["pid"] == node["pid"]
    assert Path(shop.root, "schedule").stat().st_mode & 0o777 == 0o750
    assert not list(Path(shop.root).glob("celerybeat*"))
    until(lambda: sent(redis_server, "shop.daily") == [] and len(sent(redis_server)) > 2)
    converge(shop, scheduler={**BEAT, "env": {"NEW": "1"}})
    before = len(sent(redis_server))
    until(lambda: len(sent(redis_server)) > before)
    assert holder(redis_server)["node"] == "shop.scheduler.1.2@h1"
    assert "shop.daily" not in log(shop, "scheduler.1.2")
    converge(shop, scheduler={**BEAT, "state": "absent"})
    assert holder(redis_server) == {} and any(path.name.startswith("schedule.") for path in Path(shop.root, "schedule").iterdir())


def test_of_two_schedulers_one_sends_and_the_other_takes_over_within_seconds_of_a_kill(
    shop: Site, redis_server: RedisServer, rival: Rival,
) -> None:
    until(lambda: "Sending due task" in rival.log)
    request = shop.request([], scheduler=BEAT, rollout={"ready_timeout_seconds": 60})
    told = shop.reconciler(request).call().result()
    assert told["more"] and "starting" in told["doing"]
    assert f"held by rival (pid {rival.process.pid})" in until(lambda: log(shop, "scheduler.1.1"))
    assert status(shop, scheduler=BEAT)["nodes"][0]["state"] == "starting"
    origins = {origin.partition("@")[0] for origin in sent(redis_server)}
    assert origins == {f"gen{rival.process.pid}"}, "only the holder sends"
    rival.process.send_signal(signal.SIGKILL)
    rival.process.wait()
    killed = time.monotonic()
    until(lambda: holder(redis_server).get("node") == "shop.scheduler.1.1@h1", 15)
    assert time.monotonic() - killed < 12
    until(lambda: "Sending due task" in log(shop, "scheduler.1.1"))
    assert status(shop, scheduler=BEAT)["nodes"][0]["state"] == "ready"


def test_a_scheduler_that_is_told_to_stop_gives_the_lock_back_at_once(redis_server: RedisServer, rival: Rival) -> None:
    until(lambda: "Sending due task" in rival.log)
    rival.process.send_signal(signal.SIGTERM)
    assert (rival.end(), redis_server.call("EXISTS", LOCK)) == (0, 0)
    assert rival.counted == len(sent(redis_server))


@pytest.mark.parametrize("code", [
    "before_task_publish.connect(lambda **_: stop(), weak=False)",
    # Whatever a destructor raises Python drops. redis-py's clients, Celery's results have one.
    "before_task_publish.connect(lambda **_: Dropped() and None, weak=False)",
    """
class Scheduler(PersistentScheduler):
    once = [stop]

    def sync(self):
        while self.once:
            self.once.pop()()
        super().sync()

app.conf.beat_scheduler = "shop:Scheduler"
""",
], ids=["while it sends", "while a destructor runs", "while it writes its schedule"])
def test_a_scheduler_that_is_told_to_stop_in_its_own_work_ends_well_and_has_sent_what_its_schedule_says(
    shop: Site, redis_server: RedisServer, tmp_path: Path, code: str,
) -> None:
    Path(shop.root, "shop.py").write_text(f"{STOPS}{code}\n")
    stopped = Rival(shop, tmp_path)
    try:
        assert (stopped.end(), redis_server.call("EXISTS", LOCK)) == (0, 0), stopped.log[-2000:]
        assert stopped.counted == len(sent(redis_server))
    finally:
        stopped.process.kill()
        stopped.process.wait()


def test_a_scheduler_whose_sending_hangs_ends_all_the_same_when_it_is_told_to_and_writes_its_schedule(
    redis_server: RedisServer, rival: Rival,
) -> None:
    def hangs() -> bool:
        clients = resp.text(redis_server.call("CLIENT", "LIST")).splitlines()
        return any({"cmd=lpush", "flags=b"} <= set(client.split()) for client in clients)

    until(lambda: sent(redis_server))
    redis_server.call("CLIENT", "PAUSE", 600_000, "WRITE")
    try:
        until(hangs)
        rival.process.send_signal(signal.SIGTERM)
        rival.end()
    finally:
        redis_server.call("CLIENT", "UNPAUSE")
    assert rival.counted == rival.log.count("Sending due task")


def test_a_lock_that_was_given_back_is_not_renewed_by_who_was_about_to(shop: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    code = ("import sys, shop, workfleet_beat as beat; lock = beat.Lock(*sys.argv[1:], beat.Stop()); "
            "print(lock.take(shop.app) == '', lock.release(), lock.take(shop.app))")
    done = subprocess.run([sys.executable, "-c", code, LOCK, "rival", tmp_path], check=True, capture_output=True, text=True, cwd=shop.root,
                          env={**os.environ, "CELERY_BROKER_URL": shop.app["broker_url"], "PYTHONPATH": f"{shop.root}/workfleet"})
    assert done.stdout == "True None it was given back\n"
    assert redis_server.call("EXISTS", LOCK) == 0


def test_a_scheduler_that_lost_its_lock_ends_and_sends_nothing_more(redis_server: RedisServer, rival: Rival) -> None:
    until(lambda: "Sending due task" in rival.log)
    redis_server.call("SET", LOCK, "something")
    assert rival.end() == 1
    assert "lost the scheduler's lock and ends" in rival.log
    count = len(sent(redis_server))
    time.sleep(1)
    assert len(sent(redis_server)) == count and redis_server.call("GET", LOCK) == b"something"


def test_a_scheduler_that_slept_longer_than_its_lock_sends_nothing_when_it_wakes(redis_server: RedisServer, rival: Rival) -> None:
    until(lambda: sent(redis_server))
    rival.process.send_signal(signal.SIGSTOP)
    until(lambda: redis_server.call("EXISTS", LOCK) == 0, 15)
    count = len(sent(redis_server))
    rival.process.send_signal(signal.SIGCONT)
    assert rival.end() == 1 and len(sent(redis_server)) == count


def test_a_scheduler_waits_for_its_broker_and_says_so(shop: Site, tmp_path: Path) -> None:
    shop.app["broker_url"] = "redis://127.0.0.1:1/0"
    waiting = Rival(shop, tmp_path)
    try:
        until(lambda: "the broker does not answer" in waiting.log)
        waiting.process.send_signal(signal.SIGTERM)
        assert waiting.end() == 0 and not list(tmp_path.glob("schedule*"))
    finally:
        waiting.process.kill()
        waiting.process.wait()
    with pytest.raises(WorkfleetError, match=r"nodes of scheduler were not started.*does not reach the broker") as caught:
        shop.work([], scheduler=BEAT)
    assert "blame" not in caught.value.details, "a release is not held for its broker"


def test_a_result_store_that_is_not_reached_refuses_before_any_node_is_started(shop: Site) -> None:
    """It was found out by the canaries, after the whole fleet had been replaced."""
    shop.app["result_url"] = "redis://:hunter2@127.0.0.1:1/1"
    with pytest.raises(WorkfleetError, match=r"does not reach the result store \(app_result_url\): cannot connect to redis://127.0.0.1:1/1"):
        shop.work([], scheduler=BEAT)


@pytest.mark.parametrize(("keys", "code", "said"), [
    ({}, "import nosuch", "No module named 'nosuch'"),
    ({}, 'app.conf.imports = ["nosuch"]', "No module named 'nosuch'"),
    ({"options": {"scheduler": "nosuch:Scheduler"}}, "", "No module named 'nosuch'"),
    ({}, 'app.conf.beat_scheduler = "shop:Scheduler"', "has no attribute 'Scheduler'"),
])
def test_a_scheduler_that_could_not_be_made_is_found_before_the_old_one_is_stopped(
    shop: Site, redis_server: RedisServer, keys: dict[str, Any], code: str, said: str,
) -> None:
    converge(shop, scheduler=BEAT)
    before = shop.pids()
    Path(shop.root, "shop.py").write_text(f"{SHOP}{code}\n")
    with pytest.raises(WorkfleetError, match=r"nodes of scheduler were not started, and none was stopped for them") as raised:
        shop.work([], scheduler={**BEAT, **keys, "env": {"NEW": "1"}})
    assert said in str(raised.value)
    assert shop.pids() == before and holder(redis_server)["pid"] == before["scheduler.1.1"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def get(url: str, user: str = "") -> int:
    """Return the HTTP status of a page."""
    request = urllib.request.Request(url)  # noqa: S310 - our own Flower
    if user:
        request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_dashboard_answers_its_users_only_and_keeps_its_state(shop: Site, with_flower: Path) -> None:
    shop.app["env"]["PATH"] = f"{with_flower}:/usr/bin:/bin"
    port = free_port()
    declared = {"app": "shop", "port": port, "basic_auth": ["ann:s3cret", "bob:t0p"], "url_prefix": "/flower/",
                "options": {"max_tasks": 500}}
    converge(shop, dashboard=declared, rollout={"ready_timeout_seconds": 40})
    node = status(shop, dashboard=declared)["nodes"][0]
    assert (node["group"], node["engine"], node["state"]) == ("dashboard", "flower", "ready")
    base = f"http://127.0.0.1:{port}/flower"
    assert [get(f"{base}/workers", user) for user in ("ann:s3cret", "bob:t0p", "ann:wrong", "")] == [200, 200, 401, 401]
    assert get(f"{base}/healthcheck") == get(f"{base}/metrics") == 200
    assert b"s3cret" not in Path(f"/proc/{node['pid']}/cmdline").read_bytes()
    with contextlib.suppress(OSError), socket.create_connection((socket.gethostbyname(socket.gethostname()), port), 1):
        assert socket.gethostbyname(socket.gethostname()).startswith("127."), "bound to loopback alone"
    converge(shop, dashboard={**declared, "state": "stopped"})
    assert [path.name for path in Path(shop.root, "dashboard").iterdir()]


def test_what_the_dashboard_has_seen_is_still_there_after_a_new_generation(shop: Site, with_flower: Path) -> None:
    shop.app["env"]["PATH"] = f"{with_flower}:/usr/bin:/bin"
    declared = {"app": "shop", "port": free_port(), "basic_auth": "ann:s3cret"}
    tell = "import shop\nwith shop.app.events.default_dispatcher() as told: told.send('task-sent', uuid='seen', name='shop.tick')"
    variables = {**os.environ, "CELERY_BROKER_URL": shop.app["broker_url"]}

    def known(task: str) -> int:
        return get(f"http://127.0.0.1:{declared['port']}/api/task/info/{task}", "ann:s3cret")

    def seen() -> bool:
        subprocess.run([sys.executable, "-c", tell], check=True, cwd=shop.root, env=variables)  # again and again: Flower may not listen yet
        return known("seen") == 200

    converge(shop, dashboard=declared, rollout={"ready_timeout_seconds": 40})
    until(seen)
    assert known("other") == 404
    converge(shop, dashboard={**declared, "env": {"NEW": "1"}}, rollout={"ready_timeout_seconds": 40})
    assert list(shop.pids()) == ["dashboard.1.2"] and known("seen") == 200


def test_a_dashboard_that_is_told_to_stop_while_a_destructor_runs_ends_and_keeps_its_state(shop: Site, with_flower: Path) -> None:
    later = "from tornado.ioloop import IOLoop\nIOLoop.current().call_later(0, lambda: Dropped() and None)\n"
    Path(shop.root, "shop.py").write_text(STOPS + later)
    words = [f"{with_flower}/python", f"{shop.root}/workfleet/workfleet_flower.py", "--", "-A", "shop", "flower", f"--port={free_port()}",
             "--address=127.0.0.1", "--persistent=true", f"--db={shop.root}/seen"]
    done = subprocess.run(words, check=False, cwd=shop.root, env={**os.environ, "CELERY_BROKER_URL": shop.app["broker_url"]}, timeout=60)
    assert done.returncode == 0
    assert list(Path(shop.root).glob("seen*"))


def test_a_dashboard_without_flower_says_what_is_missing(shop: Site) -> None:
    with pytest.raises(WorkfleetError, match=r"none was stopped for them.*no module flower.*needs flower in app_requirements"):
        shop.work([], dashboard={"app": "shop", "port": free_port()})
    assert shop.present() == {}


def test_a_dashboard_whose_app_does_not_import_is_found_before_the_old_one_is_stopped(shop: Site, with_flower: Path) -> None:
    shop.app["env"]["PATH"] = f"{with_flower}:/usr/bin:/bin"
    declared = {"app": "shop", "port": free_port()}
    converge(shop, dashboard=declared, rollout={"ready_timeout_seconds": 40})
    before = shop.pids()
    Path(shop.root, "shop.py").write_text(f"{SHOP}import nosuch\n")
    with pytest.raises(WorkfleetError, match=r"nodes of dashboard were not started, and none was stopped for them") as raised:
        shop.work([], dashboard={**declared, "env": {"NEW": "1"}})
    assert "No module named 'nosuch'" in str(raised.value)
    assert shop.pids() == before and get(f"http://127.0.0.1:{declared['port']}/healthcheck") == 200


def test_the_table_has_every_option_of_the_installed_flower_and_no_other(with_flower: Path) -> None:
    code = "import flower.command, tornado.options as t; print(*t.options._options)"
    found = subprocess.run([with_flower / "python", "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {name.replace("-", "_") for name in found} == set(flower.OPTIONS) | {"help"}


def test_the_lock_is_honoured_with_a_prefix_for_keys(shop: Site, redis_server: RedisServer, tmp_path: Path) -> None:
    prefixed = SHOP + 'app.conf.broker_transport_options = {"global_keyprefix": "mine:"}\n'
    Path(shop.root, "shop.py").write_text(prefixed)
    started = Rival(shop, tmp_path)
    try:
        until(lambda: "Sending due task" in started.log)
        assert redis_server.call("EXISTS", f"mine:{LOCK}") == 1
        assert all(resp.text(key).startswith("mine:") for key in redis_server.call("KEYS", "*"))
    finally:
        started.process.kill()
        started.process.wait()
