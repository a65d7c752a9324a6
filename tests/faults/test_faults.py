"""Faults of a fleet that is at work. After each the ledger: what was sent, what was done once, more than once, never.

A fleet of two hosts runs four apps (Celery in three ways, arq, Chicory, rq) under a steady load. An orderly fault may lose nothing;
of the others the ledger is what there is to know. ``bin/test faults`` prints it, docs/faults.md keeps it.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .load import PAIRS, VISIBLE_SECONDS, Ledger, Load, Pair
from .site import APPS, REDIS, ROOT, WORKERS, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ROWS = ROOT / "build" / "faults"
#: Celery looks for messages that nobody acknowledged every 100 s, whatever their visibility timeout.
RESTORED_SECONDS = VISIBLE_SECONDS + 130
WORKER = ("--tags", "app,worker")
#: A rollout that takes little time, so that many can be killed.
SWIFT = {"monitor_seconds": 0, "parallelism": "100%"}
REFUSAL = re.compile(r"is changing the nodes of|another run works on the release")
CELERY = tuple(pair for pair in PAIRS if pair.engine == "celery")
HEAD = ("fault", "pair", "acknowledges", "sent", "done once", "repeated", "lost", "seconds to the last")


class Suite:
    """The site, its rows, and how much is asked for."""

    def __init__(self, site: Site, *, whole: bool) -> None:
        self.site, self.whole = site, whole
        self.rows: list[Ledger] = []

    @contextmanager
    def under_load(self, fault: str, pairs: tuple[Pair, ...] = PAIRS, *, orderly: bool = True) -> Iterator[Load]:
        """Have the fleet at work while a fault happens, and judge what became of the tasks."""
        urls = {app: self.site.url(app) for app in APPS}
        load = Load(fault, pairs, urls, self.site.ledger_url, long=self.whole)
        try:
            load.await_work()
            yield load
            time.sleep(3)
        finally:
            rows = load.settle(90 if orderly else RESTORED_SECONDS if self.whole else 60)
            self.keep(rows)
        if orderly:
            assert {row.pair: (row.lost, row.repeated) for row in rows} == {row.pair: (0, 0) for row in rows}

    def keep(self, rows: list[Ledger]) -> None:
        """Put rows behind the others, where they stay whatever comes."""
        self.rows += rows
        ROWS.mkdir(parents=True, exist_ok=True)
        (ROWS / "ledger.jsonl").write_text("".join(f"{json.dumps(asdict(row))}\n" for row in self.rows))
        (ROWS / "ledger.md").write_text(table(self.rows))


@pytest.fixture(scope="session")
def suite() -> Iterator[Suite]:
    """Everything on clean hosts."""
    with tempfile.TemporaryDirectory(prefix="workfleet-faults-") as directory:
        site = Site(Path(directory))
        made = Suite(site, whole=bool(os.environ.get("WORKFLEET_FULL")))
        try:
            site.up()
            yield made
        finally:
            site.down()


def table(rows: list[Ledger]) -> str:
    """Return the rows in Markdown."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(tuple(map(str, asdict(row).values())) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def colour() -> dict[str, str]:
    """Return an environment that no node has yet."""
    return {"COLOUR": f"{time.time():.3f}"}


# -- orderly --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_a_rollout(suite: Suite, order: str) -> None:
    with suite.under_load(f"rollout, {order}"):
        suite.site.play_all("site", *WORKER, env=colour(), rollout={"order": order})


def test_scale_up_and_down(suite: Suite) -> None:
    with suite.under_load("scale up and down"):
        suite.site.play_all("site", *WORKER, nodes=4)
        suite.site.play_all("site", *WORKER, nodes=1)
        suite.site.play_all("site", *WORKER)


def test_a_play_killed_at_random_moments_of_a_rollout_and_run_again(suite: Suite) -> None:
    moments = random.Random(11)
    times = 30 if suite.whole else 2
    with suite.under_load(f"play killed with -9, {times} times", CELERY):
        begun = time.monotonic()
        suite.site.play("reports", "site", *WORKER, env=colour(), rollout=SWIFT)
        whole = time.monotonic() - begun
        killed = 0
        while killed < times:
            env = colour()
            moment = moments.uniform(2, 0.8 * whole)
            if not suite.site.play_and_kill("reports", "site", *WORKER, after=moment, env=env, rollout=SWIFT):
                whole = moment  # it was over by then: the machine had more to do before
                continue
            killed += 1
            suite.site.play("reports", "site", *WORKER, env=env, rollout=SWIFT)
            assert suite.site.status("reports", env=env)["problems"] == []


@pytest.mark.parametrize("playbook", ["site", pytest.param("deploy", marks=pytest.mark.full)])
def test_two_plays_at_once(suite: Suite, playbook: str) -> None:
    env = colour()
    release(suite, f"# {time.time()}")
    with suite.under_load(f"{playbook}.yml twice at once", CELERY):
        plays = [subprocess.Popen(suite.site.command("reports", playbook, env=env), cwd=ROOT, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
        said = [play.communicate()[0] for play in plays]
        # The second one waits, or says whom it will not disturb; one of them has done it all.
        assert all(play.returncode == 0 or REFUSAL.search(text) for play, text in zip(plays, said)), said
        assert any(play.returncode == 0 for play in plays), said
        assert suite.site.status("reports", env=env)["problems"] == []
    assert len(running_releases(suite, env=env)) == 1


def test_a_host_is_rebooted(suite: Suite) -> None:
    # A worker host that goes down in order drains its nodes first.
    with suite.under_load("host rebooted"):
        suite.site.reboot(WORKERS[0])
        for app in APPS:
            suite.site.await_ready(app)


# -- deploys --------------------------------------------------------------------------------------------------------


def release(suite: Suite, text: str, app: str = "reports") -> None:
    """Put a line at the end of an app's tasks: another source, another release."""
    path = suite.site.apps / app / "app" / "tasks.py"
    original = (ROOT / "examples" / app / "app" / "tasks.py").read_text()
    path.write_text(f"{original}\n{text}\n")


#: A small disk in place of the releases' own, with the same releases on it and room for one more, until the next one is begun.
FILL = """set -e
cd /opt/reports
cp -a releases /tmp/full
mount -t tmpfs -o size=$(( $(du -sm releases | cut -f1) + 600 ))m none releases
cp -a /tmp/full/. releases/
there=$(ls -A releases | wc -l)
systemd-run --quiet sh -c "while [ \\$(ls -A /opt/reports/releases | wc -l) -le $there ]; do sleep 0.05; done
dd if=/dev/zero of=/opt/reports/releases/fill bs=1M"
"""


def running_releases(suite: Suite, app: str = "reports", **changes: Any) -> set[str]:
    """Return the releases that ready nodes of an app run."""
    hosts = suite.site.status(app, **changes)["hosts"].values()
    return {node["release"] for host in hosts for node in host["nodes"] if node["state"] == "ready"}


def test_a_deploy(suite: Suite) -> None:
    before = {app: running_releases(suite, app) for app in APPS}
    for app in APPS:
        release(suite, f"# {time.time()}", app)
    with suite.under_load("deploy"):
        suite.site.play_all("deploy")
    for app in APPS:
        after = running_releases(suite, app)
        assert len(after) == 1 and not after & before[app], app


@pytest.mark.full
def test_a_deploy_while_the_generation_before_still_drains(suite: Suite) -> None:
    with suite.under_load("deploy upon deploy", CELERY) as load:
        for _ in range(3):
            release(suite, f"# {time.time()}")
            load.producers[0].send_at_once(6, 120.0)
            time.sleep(2)
            suite.site.play("reports", "deploy", rollout=SWIFT)
            states = [node["state"] for host in suite.site.status("reports")["hosts"].values() for node in host["nodes"]]
            assert "draining" in states, states


@pytest.mark.full
def test_a_deploy_killed_at_random_moments_and_run_again(suite: Suite) -> None:
    moments = random.Random(12)
    with suite.under_load("deploy killed with -9, 5 times", CELERY):
        release(suite, f"# {time.time()}")
        begun = time.monotonic()
        suite.site.play("reports", "deploy", rollout=SWIFT)
        whole = time.monotonic() - begun
        for _ in range(5):
            release(suite, f"# {time.time()}")
            assert suite.site.play_and_kill("reports", "deploy", after=moments.uniform(0.3, 0.8) * whole, rollout=SWIFT)
            suite.site.play("reports", "deploy", rollout=SWIFT)
            assert suite.site.status("reports")["problems"] == []
            assert len(running_releases(suite)) == 1


BAD = {
    "crashes at import": "raise RuntimeError('no such luck')",
    "crashes after 3 s": "import threading, os\nthreading.Timer(3, os._exit, [9]).start()",
    "hangs before it is ready": "from celery import signals\nsignals.worker_init.connect(lambda **_: time.sleep(900), weak=False)",
    "lacks a task": "celery_app.tasks.pop(record.name)",
}


@pytest.mark.parametrize("how", [pytest.param(how, marks=[] if how == "crashes after 3 s" else pytest.mark.full) for how in BAD])
def test_a_deploy_of_a_bad_release(suite: Suite, how: str) -> None:
    before = running_releases(suite)
    release(suite, BAD[how])
    rollout = {"ready_timeout_seconds": 20, "monitor_seconds": 5}
    with suite.under_load(f"deploy of a release that {how}", CELERY) as load:
        if how == "lacks a task":
            load.producers[0].send_at_once(200, 1.0)
        said = suite.site.play("reports", "deploy", expect=2, rollout=rollout)
    assert running_releases(suite) == before, said
    release(suite, f"# good again {time.time()}")
    suite.site.play("reports", "deploy")


@pytest.mark.full
def test_the_disk_is_full_while_a_release_is_built(suite: Suite) -> None:
    before = running_releases(suite)
    release(suite, f"# {time.time()}")
    host = WORKERS[1]
    with suite.under_load("disk full during a build", CELERY):
        suite.site.run(host, "sh", "-c", FILL)
        said = suite.site.play("reports", "deploy", expect=2)
        assert "The disk is full" in said, said
        suite.site.run(host, "umount", "-l", "/opt/reports/releases")
    assert running_releases(suite) == before


# -- not orderly: measured, and no more promised than that ------------------------------------------------------------


def kill(suite: Suite, *, tree: bool) -> None:
    """Kill one node of each pair with -9, alone or with its children."""
    for pair in PAIRS:
        pid = suite.site.main_pid(WORKERS[0], pair.app, pair.name)
        script = f"kill -9 {pid} $(pgrep -P {pid})" if tree else f"kill -9 {pid}"
        suite.site.run(WORKERS[0], "sh", "-c", script, check=False)


@pytest.mark.parametrize("tree", [False, pytest.param(True, marks=pytest.mark.full)])
def test_kill_9(suite: Suite, tree: bool) -> None:
    with suite.under_load(f"kill -9 of a {'tree' if tree else 'main process'}", orderly=False) as load:
        load.occupy()
        kill(suite, tree=tree)
        time.sleep(5)
    for app in APPS:
        suite.site.await_ready(app)


@pytest.mark.full
def test_the_power_of_a_host_is_cut(suite: Suite) -> None:
    with suite.under_load("power cut of a worker host", orderly=False) as load:
        load.occupy()
        suite.site.cut_power(WORKERS[0])
        for app in APPS:
            suite.site.await_ready(app)


def test_redis_is_restarted(suite: Suite) -> None:
    with suite.under_load("Redis restarted", orderly=False):
        suite.site.run(REDIS, "systemctl", "restart", "redis-server")
        time.sleep(8)
    for app in APPS:
        suite.site.await_ready(app)


def test_redis_cannot_be_reached_from_one_host_for_20_seconds(suite: Suite) -> None:
    with suite.under_load("Redis cut off from one host for 20 s", orderly=False):
        suite.site.cut_off(WORKERS[0], 20)
        time.sleep(10)
    for app in APPS:
        suite.site.await_ready(app)
