"""The stop contract on whole hosts, under systemd and under supervisor: a stop, a restart and a reboot of all pairs at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from fleet import PROJECT, Fleet

from tests import stop_contract
from tests.stop_contract import Exits, Pair, Row, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CASES = ("stop", "restart", "reboot")
PAIRS = stop_contract.PAIRS
DATABASES = {"reports": 0, "flow": 1, "events": 2}
HOSTS_COMMAND = str(PROJECT / "molecule/resources/hosts")
#: Prints unit → pid of all nodes of a host.
NODES = """
import glob, json, os
records = {path: json.load(open(path)) for path in glob.glob("/run/workfleet/*/*.json")}
print(json.dumps({os.path.basename(path)[:-5]: record["pid"] for path, record in records.items()
                  if os.path.exists("/proc/%d" % record["pid"])}))
"""


def app(example: str) -> dict[str, Any]:
    """Return the variables of an example's app."""
    url, results = (f"redis://:geheim@127.0.0.1:6379/{DATABASES[example] + number}" for number in (0, 1))
    return {
        "app_name": example, "app_broker_url": url, "app_result_url": {"reports": url, "flow": "", "events": results}[example],
        **({"app_broker_env": ["REDIS_URL"]} if example == "flow" else {}),
        "app_source": {"type": "directory", "location": f"{PROJECT}/examples/{example}", "exclude": ["tests"]},
        "worker_rollout": {"monitor_seconds": 1, "parallelism": "100%"},
        "worker_groups": [pair.group for pair in PAIRS if pair.example == example],
    }


APPS = {example: app(example) for example in DATABASES}


class Site:
    """Both hosts with all apps."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.managers = {host: fleet.hostvars[host]["worker_manager"] for host in fleet.workers}

    def everywhere(self, act: Callable[[str], Any], what: Any) -> None:
        """Do it for each at the same time."""
        with ThreadPoolExecutor(len(what)) as pool:
            list(pool.map(act, what))

    def play(self, playbook: str, *options: str) -> None:
        """Run a playbook for all apps at the same time."""
        self.everywhere(lambda example: self.fleet.play(playbook, *options, **APPS[example]), APPS)

    def restart(self) -> None:
        """Roll out what is declared, on each host for itself: one host after the other would take twice as long."""
        jobs = [(host, example) for host in self.managers for example in APPS]
        self.everywhere(lambda job: self.fleet.play("restart", "--limit", job[0], **APPS[job[1]]), jobs)

    def trials(self, case: str) -> list[tuple[str, Trial]]:
        """Send all tasks of a case, and wait until 8 of each pair run."""
        found = [(host, Trial(pair, manager, "systemd host", case, self.url(host, pair))) for host, manager in self.managers.items()
                 for pair in PAIRS]
        for host in self.managers:
            for example in APPS:
                calls = [call for where, trial in found if where == host and trial.pair.example == example for call in trial.calls]
                self.fleet.run(host, f"/opt/{example}/bin/run", "python", "-c", stop_contract.SEND[example], json.dumps(calls))
        for _, trial in found:
            trial.await_running()
        return found

    def url(self, host: str, pair: Pair) -> str:
        """Return a pair's broker as this machine reaches it."""
        return f"redis://:geheim@{self.fleet.hostvars[host]['ansible_host']}:6379/{DATABASES[pair.example]}"

    def exits(self, host: str) -> Exits:
        """Watch the nodes of a host."""
        return Exits(json.loads(self.fleet.run(host, "python3", "-c", NODES)), [HOSTS_COMMAND, "run", host])

    def measure(self, case: str) -> list[Row]:
        """Return the rows of a case."""
        trials = self.trials(case)
        exits = {host: self.exits(host) for host in self.managers}
        stopped: dict[int, tuple[int, int]] = {}
        if case == "stop":
            self.play("stop")
            stopped = {id(trial): trial.stopped() for _, trial in trials}
            self.play("start")
        elif case == "restart":
            self.restart()
        else:
            self.everywhere(self.fleet.reboot, self.managers)
        for _, trial in trials:
            trial.await_done()
        times = {host: watched.times() for host, watched in exits.items()}
        return [trial.row(times[host], stopped.get(id(trial))) for host, trial in trials]


@pytest.fixture(scope="session")
def rows() -> Iterator[dict[tuple[str, str, str], Row]]:
    """All rows by manager, pair and case."""
    site = Site(Fleet())
    site.play("site", "--tags", "app,worker")
    found = [row for case in CASES for row in site.measure(case)]
    stop_contract.write("hosts", found)
    yield {(row.manager, row.pair, row.case): row for row in found}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pair", [pair.name for pair in PAIRS])
@pytest.mark.parametrize("manager", ["systemd", "supervisor"])
def test_every_task_is_done_once_and_a_stop_ends_with_its_last_task(
    rows: dict[tuple[str, str, str], Row], manager: str, pair: str, case: str,
) -> None:
    assert rows[manager, pair, case].faults() == []
