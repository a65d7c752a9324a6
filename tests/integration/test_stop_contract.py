"""The stop contract under supervisor on this machine: what becomes of 8 running and 20 waiting tasks, for each way to run them.

All pairs are measured at the same time, each with a supervisord and a database of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import stop_contract
from tests.integration import arq_fleet, chicory_fleet, rq_fleet
from tests.integration.conftest import running
from tests.integration.supervised import Site, made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import RedisServer
    from tests.stop_contract import Pair, Row

ROOT = stop_contract.ROOT
WHERE = "this machine"
CASES = ("stop", "restart", "kill")
ENVIRONMENTS = {"reports": lambda: Path(sys.prefix), "flow": arq_fleet.environment, "events": chicory_fleet.environment,
                "rq": rq_fleet.environment}


class Managed:
    """A pair under supervisor."""

    def __init__(self, pair: Pair, site: Site, redis: RedisServer, number: int) -> None:
        self.pair, self.site = pair, site
        self.url = redis.url(number)
        results = redis.url(number + 8) if pair.engine == "chicory" else self.url
        self.example = ROOT / "examples" / pair.example
        self.python = ENVIRONMENTS[pair.example]() / "bin" / "python"
        names = {"celery": ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"), "arq": ("REDIS_URL", "UNUSED"),
                 "rq": ("RQ_REDIS_URL", "UNUSED"),
                 "chicory": ("CHICORY_BROKER_REDIS_URL", "CHICORY_BACKEND_REDIS_URL")}[pair.engine]
        self.client = {**os.environ, names[0]: self.url, names[1]: results}
        for path in (ROOT / "runners").glob("workfleet_*.py"):
            shutil.copy(path, Path(site.root, "workfleet"))
        site.app = {"broker_url": self.url, "result_url": results, "env": {
            "PATH": f"{self.python.parent}:/usr/bin:/bin", "PYTHONPATH": str(self.example)}}
        if pair.engine == "arq":
            site.app["broker_env"] = ["REDIS_URL"]

    def reconcile(self, state: str = "started", group: dict[str, Any] | None = None, **more: Any) -> None:
        """Do as ``site.yml``, ``start.yml`` and ``stop.yml`` do, with ``restart_since`` as ``restart.yml``."""
        rollout = {"parallelism": self.pair.nodes, "ready_timeout_seconds": 180, "wait_for_drain": group is not None}
        self.site.work([{**(group or self.pair.group), "state": state}], rollout=rollout, **more)

    def kill(self) -> None:
        """Kill every process of the nodes with -9; supervisor starts the nodes again."""
        mains = {node.pid for node in self.site.manager.present() if node.pid}
        told = subprocess.run(["ps", "-eo", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
        children = {int(pid) for pid, parent in (line.split() for line in told.splitlines()) if int(parent) in mains}
        for pid in mains | children:
            os.kill(pid, signal.SIGKILL)

    def measure(self) -> dict[str, Row]:
        """Return the rows of all cases."""
        self.reconcile()
        return {case: self.case(case) for case in CASES}

    def case(self, case: str) -> Row:
        """Have 8 tasks run and 20 wait, do it, and wait until all is over."""
        if case == "kill":
            self.reconcile(group=self.pair.killed)
        trial = stop_contract.Trial(self.pair, "supervisor", WHERE, case, self.url)
        subprocess.run([self.python, "-c", stop_contract.SEND[self.pair.example], json.dumps(trial.calls)], cwd=self.example,
                       env=self.client, timeout=180, check=True)
        trial.await_running()
        exits = stop_contract.Exits({str(node.name): node.pid for node in self.site.manager.present() if node.pid})
        stopped = None
        if case == "kill":
            self.kill()
        elif case == "restart":
            self.reconcile(restart_since=0)
        else:
            self.reconcile("stopped")
            stopped = trial.stopped()
            self.reconcile()
        trial.await_done()
        return trial.row(exits.times(), stopped)


@pytest.fixture(scope="module")
def measured() -> Iterator[dict[str, Future[dict[str, Row]]]]:
    """The rows of each pair, or what went wrong with it."""

    def measure(pair: Pair, number: int) -> dict[str, Row]:
        with made() as site:
            return Managed(pair, site, redis, number).measure()

    pairs = stop_contract.PAIRS
    with running(None) as redis, ThreadPoolExecutor(len(pairs)) as pool:
        found = {pair.name: pool.submit(measure, pair, number) for number, pair in enumerate(pairs)}
        rows: list[Row] = []
        for future in found.values():
            with contextlib.suppress(Exception):  # told by the pair's own tests
                rows += future.result().values()
        stop_contract.write("this-machine", rows)
        yield found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pair", [pair.name for pair in stop_contract.PAIRS])
def test_every_task_is_done_once_and_a_stop_ends_with_its_last_task(
    measured: dict[str, Future[dict[str, Row]]], pair: str, case: str,
) -> None:
    assert measured[pair].result()[case].faults() == []
