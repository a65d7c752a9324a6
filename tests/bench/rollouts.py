"""The figures of rollouts, drains and deploys: ``python -m tests.bench.rollouts [--tasks N] [--rounds N] [CASE...]``.

Two worker hosts and a Redis host with the example app ``reports``, made anew and removed again; as root, with podman. What a
figure is compared with is measured beside it, on the same hosts. Exits with 1 where a number to reach is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugins.module_utils.workfleet import resp
from tests.bench.__main__ import target
from tests.faults.load import EXECUTIONS, send_celery, until
from tests.faults.site import HOSTS, ROOT, WORKERS, Site

if TYPE_CHECKING:
    from collections.abc import Iterable

APP, GROUP, TASK_SECONDS = "reports", "build", 0.25
#: What the feeder keeps in the queue, so that no worker is ever idle for want of a task.
BACKLOG = 400
STEADY_SECONDS = 20
IDLE_NODES, BATCH = 20, 5
#: So that every figure is the toolkit's: nothing is watched for longer than it takes to become ready.
UNWATCHED = {"monitor_seconds": 0, "delay_seconds": 0}
STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) .*?\| (PLAY|TASK) \[(.*)\]")


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rollouts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=10_000, help="how many are sent at least, through three rollouts (10000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of drains and of the rollout of idle nodes (3)")
    parser.add_argument("cases", nargs="*", choices=["load", "drains", "idle", "deploy", []], help="what is measured (everything)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hosts are removed then too
    with tempfile.TemporaryDirectory(prefix="workfleet-bench-") as folder:
        site = Site(Path(folder), [APP])
        try:
            say("hosts")
            site.up()
            bench = Bench(site)
            cases = {"load": lambda: bench.under_load(options.tasks), "drains": lambda: bench.drains(options.rounds),
                     "idle": lambda: bench.idle_nodes(options.rounds), "deploy": bench.deploy}
            targets = []
            for case in options.cases or cases:
                noted = len(bench.notes)
                found = cases[case]()
                targets += found
                say("\n  ".join([case, *bench.notes[noted:], *(f"{one['name']}: {one['value']:g}" for one in found)]))
        finally:
            site.down()
    show([f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.1f}", "", *bench.notes, "",
          "| number to reach | wanted | measured | |", "|---|--:|--:|---|",
          *(f"| {one['name']} | {one['limit']} | {one['value']:g} | {'reached' if one['reached'] else 'missed'} |" for one in targets)])
    sys.exit(0 if all(one["reached"] for one in targets) else 1)


class Feeder:
    """Keeps tasks in the queue, numbered from 0, until it is told to end."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url, self.seconds, self.sent = url, seconds, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Fill up whenever there is room."""
        with resp.connect(self.url) as client:
            while not self.ended.wait(0.2):
                for _ in range(BACKLOG - client.call("LLEN", GROUP)):
                    send_celery(client, GROUP, f"task {self.sent}", self.seconds)
                    self.sent += 1

    def end(self) -> None:
        """Send no more."""
        self.ended.set()
        self.thread.join()


class Bench:
    """The cases, on hosts that are up."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.notes: list[str] = []
        self.colours = count()

    def declared(self, nodes: int, rollout: dict[str, Any], *, colour: bool = True, **keys: Any) -> dict[str, Any]:
        """Return an inventory's changes: one group; another ``colour`` is another generation."""
        env = {"EXECUTIONS_URL": self.site.ledger_url, "COLOUR": str(next(self.colours)) if colour else "none"}
        group = {"name": GROUP, "app": "app.celery_app", "nodes": nodes, "queues": [GROUP], "concurrency": 4, "drain_seconds": 60,
                 "env": env, "options": {"pool": "prefork", "prefetch_multiplier": 1}, **keys}
        return {"worker_groups": [group], "rollout": rollout}

    def timed(self, playbook: str, *options: str, **changes: Any) -> float:
        """Return the seconds of a playbook."""
        begun = time.perf_counter()
        self.site.play(APP, playbook, *options, **changes)
        return time.perf_counter() - begun

    def ended(self) -> list[dict[str, Any]]:
        """Return the ends of tasks that the workers have written down."""
        with resp.connect(self.site.ledger_url, timeout=30) as client:
            told = [json.loads(entry) for entry in client.call("LRANGE", EXECUTIONS, "0", "-1")]
        return [entry for entry in told if entry["what"] == "end"]

    def forget(self) -> None:
        """Begin a new ledger."""
        with resp.connect(self.site.ledger_url) as client:
            client.call("DEL", EXECUTIONS)

    # -- 10,000 tasks through three rollouts ------------------------------------------------------------------------

    def under_load(self, tasks: int) -> list[dict[str, Any]]:
        """Three start-first rollouts of a fleet whose queue is never empty: what became of each task, and how many were done a second."""
        say(f"{tasks} tasks through three rollouts")
        self.site.play(APP, "site", **self.declared(2, {}))
        self.forget()
        feeder = Feeder(self.site.url(APP), TASK_SECONDS)
        until(lambda: len(self.ended()) > 200, 60, "tasks are done")
        spans = []
        for _ in range(3):
            begin = time.time()
            time.sleep(STEADY_SECONDS)
            middle = time.time()
            self.site.play(APP, "site", "--tags", "app,worker", **self.declared(2, {"order": "start-first"}))
            spans.append((begin, middle, time.time()))
        until(lambda: feeder.sent >= tasks, 600, f"{tasks} tasks are sent")
        feeder.end()
        names = {f"task {number}" for number in range(feeder.sent)}
        until(lambda: names <= {entry["task"] for entry in self.ended()}, 120, "all tasks are done")
        time.sleep(3)  # for one that would be done again
        ended = self.ended()
        times = Counter(entry["task"] for entry in ended)
        at = [float(entry["at"]) for entry in ended]

        def rate(begin: float, end: float) -> float:
            return sum(begin <= moment < end for moment in at) / (end - begin)

        ratios = [rate(middle, end) / rate(begin, middle) for begin, middle, end in spans]
        self.notes.append(
            f"{feeder.sent} tasks of {TASK_SECONDS} s, 4 nodes of 4 places on two hosts, three start-first rollouts, each node watched "
            f"for 2 s; tasks a second in the {STEADY_SECONDS} s before each, and during it: "
            + ", ".join(f"{rate(begin, middle):.1f} and {rate(middle, end):.1f} ({end - middle:.0f} s)" for begin, middle, end in spans))
        return [
            target(f"tasks sent through three rollouts: {feeder.sent}; lost", sum(name not in times for name in names), at_most=0),
            target("of these run twice", sum(number > 1 for number in times.values()), at_most=0),
            target("tasks a second during a start-first rollout / before it, the least of three", min(ratios), at_least=0.9),
        ]

    # -- the end of a drain -----------------------------------------------------------------------------------------

    def drains(self, rounds: int) -> list[dict[str, Any]]:
        """Have four busy nodes drained: the time from the last task's end until the host's proof that all are idle."""
        changes, late = self.declared(2, {}, colour=False), []
        self.site.play(APP, "site", "--tags", "app,worker", **changes)
        result = self.site.directory / "ledger.json"
        for number in range(rounds):
            say(f"drain {number + 1} of {rounds}")
            self.forget()
            with resp.connect(self.site.url(APP)) as client:
                for task in range(16):
                    send_celery(client, GROUP, f"task {task}", 12 + number % 3 + task / 20)
            time.sleep(2)  # a node may have taken more than it has places for; these go back to the queue
            self.site.play(APP, "drain", "-e", f"result_json={result}", **changes)
            told, ended = time.time(), self.ended()
            ledger = json.loads(result.read_text())
            assert ended and sum(line["finished"] for line in ledger) == len(ended), (ledger, ended)
            with resp.connect(self.site.url(APP)) as client:
                waiting = client.call("LLEN", GROUP)
            # A host that is told a moment later may run, or give back again, what another one has given back.
            assert waiting == 16 - len(ended) <= sum(line["returned"] for line in ledger), (waiting, ended, ledger)
            assert not any(line["lost"] for line in ledger), ledger
            late.append(told - max(float(entry["at"]) for entry in ended))
            self.site.play(APP, "resume", **changes)
            until(lambda: len(self.ended()) == 16, 60, "those that went back are done")
        self.notes.append("drain.yml was over so many seconds after the last task: " + ", ".join(f"{seconds:.2f}" for seconds in late))
        return [target("drain.yml's end after the last task's end, seconds, median", statistics.median(late), at_most=0.5)]

    # -- 20 idle nodes ----------------------------------------------------------------------------------------------

    def idle_nodes(self, rounds: int) -> list[dict[str, Any]]:
        """Roll 20 idle nodes of one host out, and start as many as one batch beside the others without us, in turns."""
        host, where = WORKERS[0], ("--tags", "app,worker", "--limit", f"redis:{WORKERS[0]}")
        rollout = {**UNWATCHED, "order": "start-first", "parallelism": BATCH, "ready_timeout_seconds": 120}
        say(f"{IDLE_NODES} idle nodes")
        self.site.play(APP, "site", *where, **self.declared(IDLE_NODES, {**rollout, "parallelism": "100%"}, concurrency=1))
        rollouts, plays, told = [], [], []
        for number in range(rounds):
            say(f"rollout of {IDLE_NODES} idle nodes, {number + 1} of {rounds}")
            before = self.batch(host, self.only(IDLE_NODES, host)[:BATCH])
            play = self.timed("site", *where, **self.declared(IDLE_NODES, rollout, concurrency=1))
            new = self.only(IDLE_NODES, host)
            seconds = self.from_first_to_last(host, new)
            one = (before + self.batch(host, new[:BATCH])) / 2
            rollouts.append(seconds / (one * IDLE_NODES / BATCH))
            plays.append(play / (one * IDLE_NODES / BATCH))
            told.append(f"{seconds:.1f}, {play:.1f} and {IDLE_NODES // BATCH} x {one:.1f} s")
        self.notes.append(f"{IDLE_NODES} idle nodes, {BATCH} at a time, from the first one's start until the last one is ready, the whole "
                          f"site.yml, and {BATCH} of them started by systemctl: " + "; ".join(told))
        name = f"{IDLE_NODES} idle nodes / start-up of {BATCH} x batches"
        return [target(f"rollout of {name}", statistics.median(rollouts), at_most=1.3),
                target(f"the whole site.yml of {name}", statistics.median(plays), at_most=1.3)]

    def from_first_to_last(self, host: str, nodes: list[str]) -> float:
        """Return the seconds from the start of the first of these nodes until the last one was ready, by systemd's clock."""
        names = ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        told = self.site.run(host, "systemctl", "show", *(f"--property={name}" for name in names), *nodes)
        began, ready = ([int(line.partition("=")[2]) for line in told.splitlines() if line.startswith(name)] for name in names)
        return (max(ready) - min(began)) / 1e6

    def only(self, nodes: int, host: str) -> list[str]:
        """Return the nodes of a host, when the old ones are gone."""
        until(lambda: len(self.units(host)) == nodes, 60, "the old nodes are gone")
        return self.units(host)

    def units(self, host: str) -> list[str]:
        """Return the nodes that run on a host."""
        told = self.site.run(host, "systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating,deactivating",
                             f"workfleet.{APP}.*")
        return sorted(line.split()[0].removesuffix(".service") for line in told.splitlines())

    def batch(self, host: str, units: Iterable[str]) -> float:
        """Return the seconds that these nodes need from a plain start until they are ready."""
        with (ROOT / "tests/bench/on_host/start_units.py").open() as program:
            done = subprocess.run([HOSTS, "run", host, "python3", "-", *units], stdin=program, check=True, stdout=subprocess.PIPE)
        return float(json.loads(done.stdout)["seconds"])

    # -- what a deploy costs beyond pip and start-up ----------------------------------------------------------------

    def deploy(self) -> list[dict[str, Any]]:
        """Deploy to two hosts; take away what pip and the start-up of the workers take by themselves, measured right after."""
        changes = self.declared(2, {**UNWATCHED, "order": "start-first", "parallelism": "100%"}, colour=False)
        self.site.play(APP, "site", "--tags", "app,worker", **changes)
        tasks = self.site.apps / APP / "app" / "tasks.py"
        tasks.write_text(f"{tasks.read_text()}\n# another release\n")
        say("deploy")
        log = self.site.directory / "deploy.log"
        os.environ["ANSIBLE_LOG_PATH"] = str(log)
        try:
            whole = self.timed("deploy", **changes)
        finally:
            del os.environ["ANSIBLE_LOG_PATH"]
        with ThreadPoolExecutor(len(WORKERS)) as pool:
            pip = max(pool.map(self.pip, WORKERS))
        # A canary of one node, the other one of its host, and both of the second host.
        first, second = (self.only(2, host) for host in WORKERS)
        starts = self.batch(WORKERS[0], first[:1]) + self.batch(WORKERS[0], first[1:]) + self.batch(WORKERS[1], second)
        self.notes += [f"deploy.yml on two hosts took {whole:.1f} s; virtualenv and pip alone {pip:.1f} s, the start-up of its three "
                       f"batches {starts:.1f} s; its tasks of more than a second:",
                       *(f"  {seconds:5.1f} s {name}" for name, seconds in durations(log.read_text()) if seconds > 1)]
        return [target("deploy.yml on two hosts, less pip and start-up, seconds", whole - pip - starts, at_most=15)]

    def pip(self, host: str) -> float:
        """Return the seconds of a virtualenv with the app's requirements, made as the toolkit makes it but by hand."""
        command = (f"rm -rf /tmp/venv && python3 -m venv /tmp/venv && PIP_CACHE_DIR=/opt/{APP}/cache /tmp/venv/bin/python -m pip install "
                   f"-q --no-input --disable-pip-version-check -r /opt/{APP}/current/src/requirements.txt")
        begun = time.perf_counter()
        self.site.run(host, "runuser", "-u", APP, "--", "sh", "-c", command)
        return time.perf_counter() - begun


def durations(log: str) -> list[tuple[str, float]]:
    """Return the seconds from each play's or task's headline in Ansible's log to the next one's."""
    hits = [hit for hit in map(STAMP.match, log.splitlines()) if hit]
    found = [(datetime.fromisoformat(hit[1].replace(",", ".")), hit[3]) for hit in hits]
    return [(name, (after - begun).total_seconds()) for (begun, name), (after, _) in zip(found, found[1:])]


def say(text: str) -> None:
    """Tell how far we are."""
    print(f"bench: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a command


def show(lines: list[str]) -> None:
    """Print the result."""
    print("\n".join(lines))  # noqa: T201 - a command


if __name__ == "__main__":
    main()
