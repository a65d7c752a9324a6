"""A Redis with an AOF is killed at each step of a purge and a restore, and starts again: nothing is lost, a rerun ends it."""

from __future__ import annotations

import itertools
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import dump, resp
from plugins.module_utils.workfleet.engines.verbs.stash import Choice
from plugins.module_utils.workfleet.queues import purge as steps
from tests.integration.conftest import program
from tests.integration.test_purge import fill, run, values
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENGINES = ["celery", "arq", "chicory"]
NUMBERS = itertools.count()


class Server:
    """A Redis that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{port}/2"
        # By `everysec` a write waits for a slow disk, and a kill takes it with it; without fsync each is the system's at once.
        self.words = [program(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "yes",
                      "--appendfsync", "no"]
        self.client: resp.Client
        self.start()

    def start(self) -> None:
        """Start it, and wait until it has read what it kept."""
        self.process = subprocess.Popen(self.words, stdout=subprocess.DEVNULL)
        self.client = until(self._connect)

    def _connect(self) -> resp.Client | None:
        try:
            client = resp.connect(self.url)
            client.call("PING")
        except resp.RespError as error:
            if error.code != "LOADING":
                raise
            return None
        except resp.RespConnectionError:
            return None
        return client

    def kill(self) -> None:
        """Kill it with -9."""
        self.process.kill()
        self.process.wait()


class Doomed(resp.Client):
    """A connection whose server is killed when so many calls were carried out, before the last reply has come."""

    def __init__(self, server: Server, calls: int) -> None:
        self.inner, self.server, self.left, self.address = server.client, server, calls, server.client.address

    def close(self) -> None:
        """Nothing: there is no connection of its own."""

    def call(self, *args: resp.Argument, timeout: float | None = None) -> resp.Reply:
        return self.pipeline([args], timeout=timeout)[0]

    def pipeline(self, commands: Any, **keys: Any) -> list[resp.Reply]:
        replies = self.inner.pipeline(commands, **keys)
        self.left -= 1
        if self.left == 0:
            self.server.kill()
            self.inner.pipeline([("PING",)])  # raises as a lost connection does
        return replies


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    try:
        yield started
    finally:
        started.kill()


def whole_purge(client: resp.Client, engine: str, path: Path) -> str:
    """Purge as the action plugin does it; return the dump's path."""
    given = {"id": f"id{next(NUMBERS)}", "step": "write", "path": str(path), "force": True, "header": {}}
    for step in ("write", "commit"):
        steps.step(run(client, engine), {**given, "step": step}, Choice("q"), check=False)
    return str(path)


def contents(client: resp.Client) -> dict[bytes, Any]:
    """What is in the queues, and what is left of ours that should not be."""
    return {key: value for key, value in values(client).items() if key != b"workfleet:shop:restoring"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_purge_in_which_redis_is_killed_loses_nothing(server: Server, tmp_path: Path, engine: str) -> None:
    for calls in range(1, 100):
        server.client.call("FLUSHDB")
        fill(server.client, engine)
        whole, path = contents(server.client), tmp_path / f"{calls}.dump"
        try:
            whole_purge(Doomed(server, calls), engine, path)
        except resp.RespConnectionError:
            server.start()
        else:
            return
        steps.restore(run(server.client, engine), "", "", force=True)
        left = contents(server.client)
        if left != whole:  # it was deleted, and so is in a dump that is whole
            assert not [key for key in left if b"workfleet:" in key], left
            assert steps.restore(run(server.client, engine), str(path), "", force=True)["restored"] == dump.verify(str(path)).records
            assert contents(server.client) == whole
        again = whole_purge(server.client, engine, tmp_path / f"{calls}.again")
        assert dump.verify(again).records == (12 if engine == "chicory" else 6)
        steps.restore(run(server.client, engine), again, "", force=True)
        assert contents(server.client) == whole
    raise AssertionError("it never ends")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_restore_in_which_redis_is_killed_is_ended_by_the_next(server: Server, tmp_path: Path, engine: str) -> None:
    for calls in range(1, 100):
        server.client.call("FLUSHDB")
        fill(server.client, engine)
        whole = contents(server.client)
        path = whole_purge(server.client, engine, tmp_path / f"{calls}.dump")
        assert contents(server.client) != whole
        try:
            steps.restore(run(Doomed(server, calls), engine), path, "", force=True)
        except resp.RespConnectionError:
            server.start()
            ended = False
        else:
            ended = True
        for _ in range(2):
            steps.restore(run(server.client, engine), path, "", force=True)
            assert contents(server.client) == whole
        assert server.client.call("HLEN", "workfleet:shop:restoring") == 0
        if ended:
            return
    raise AssertionError("it never ends")
