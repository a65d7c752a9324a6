"""Which node a process belongs to, and that counters prove a process where a number does not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.engines import local

if TYPE_CHECKING:
    from collections.abc import Iterator

#: All processes of this machine are looked at, those of other tests too.
APP = f"shop{os.getpid()}"
NODES = [f"{APP}.a.1.1@h", f"{APP}.a.2.1@h"]
TELL = """
import json, resource
for _ in iter(input, "end"):
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"minflt": usage.ru_minflt, "utime": usage.ru_utime}), flush=True)
"""


class Worker:
    """A process that tells its counters when it is asked."""

    def __init__(self, unit: str) -> None:
        variables = {**os.environ, "WORKFLEET_RECORD": f"/run/workfleet/shop/{unit}.json"}
        self.process = subprocess.Popen([sys.executable, "-c", TELL], env=variables, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid

    def tell(self) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    started = [Worker(f"workfleet.{APP}.a.1.1"), Worker(f"workfleet.{APP}.a.2.1")]
    for worker in started:
        worker.tell()
    yield started
    for worker in started:
        worker.process.communicate("end\n")


def test_processes_are_found_by_what_the_launcher_left_in_their_environment(workers: list[Worker]) -> None:
    found = local.of_nodes(NODES)
    assert {pid: found[pid].node for pid in found} == {worker.pid: node for worker, node in zip(workers, NODES)}
    assert set(local.of_nodes(NODES[1:])) == {workers[1].pid}


def test_counters_tell_a_process_from_another_of_its_number(workers: list[Worker]) -> None:
    one, other = workers
    for _ in range(20):
        before = local.of_nodes(NODES)
        told = one.tell()
        after = local.of_nodes(NODES, [one.pid, other.pid])
        assert local.is_same(before[one.pid], told, after[one.pid])
        assert not local.is_same(before[one.pid], {**told, "minflt": after[one.pid].faults + 1}, after[one.pid])
        assert not local.is_same(before[one.pid], {**told, "utime": told["utime"] + 0.1}, after[one.pid])
        assert not local.is_same(before[one.pid], told, replace(after[one.pid], started=after[one.pid].started + 1))
    for usage in ({}, {"minflt": None, "utime": 0.0}, {"minflt": "x", "utime": 1}):
        assert not local.is_same(before[one.pid], usage, after[one.pid])


CONNECT = """
import socket, sys
kept = []
for _ in iter(input, "end"):
    kept.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    print("connected", flush=True)
"""


class Client:
    """A process of a unit that connects when it is told to."""

    def __init__(self, port: int, unit: str = "workfleet.shop.a.1.1") -> None:
        variables = {**os.environ, "WORKFLEET_RECORD": f"/run/workfleet/shop/{unit}.json"}
        self.process = subprocess.Popen([sys.executable, "-c", CONNECT, str(port)], env=variables, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid

    def connect(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "connected\n"


def test_a_worker_behind_a_wrapper_is_the_one_that_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=8) as broker:
        port = broker.getsockname()[1]
        main, other, foreign = clients = [Client(port), Client(port), Client(port, "workfleet.shop.a.2.1")]

        def wrapped() -> int | None:
            return local.wrapped(main.pid, "workfleet.shop.a.1.1", port)

        try:
            foreign.connect()
            assert wrapped() is None, "a process that is not connected yet is no wrapper"
            other.connect()
            monkeypatch.setattr(local, "_NO_LOOK_SECONDS", 3600.0)
            assert wrapped() is None, "what has just begun may be a look at the broker"
            monkeypatch.setattr(local, "_NO_LOOK_SECONDS", 0.0)
            assert wrapped() == other.pid
            assert local.wrapped(main.pid, "workfleet.shop.a.1.1", port + 1) is None, "connected to something else"
            main.connect()
            assert wrapped() is None, "the main process is a worker itself"
        finally:
            for client in clients:
                client.process.communicate("end\n")
        assert wrapped() is None, "what cannot be read is no wrapper"
