"""Redis over TLS: the modules' client and the health program verify the server, and say why where they cannot."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from plugins.module_utils.workfleet import resp
from runners import workfleet_health

pytest.importorskip("cryptography")
from tests.certificates import Authority, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="no redis-server on this machine")


class Server:
    """A Redis with a plain port and one for TLS; its certificate can be replaced while it runs."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.good = self.authority.sign("good", "localhost")
        self.client = self.authority.sign("client")
        self.ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.ports.append(int(probe.getsockname()[1]))
        self.process = subprocess.Popen(
            [str(SERVER), "--bind", "127.0.0.1", "--port", str(self.ports[0]), "--tls-port", str(self.ports[1]), "--dir", str(folder),
             "--save", "", "--tls-cert-file", str(self.good.cert), "--tls-key-file", str(self.good.key),
             "--tls-ca-cert-file", str(self.authority.cert), "--tls-auth-clients", "no"], stdout=subprocess.DEVNULL)
        self.plain = f"redis://127.0.0.1:{self.ports[0]}/0"
        until = time.monotonic() + 30
        while True:
            try:
                self.show(self.good)
                return
            except resp.RespConnectionError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def show(self, pair: Pair, clients: str = "no") -> None:
        """Have it show this certificate, and ask its clients for theirs."""
        with resp.connect(self.plain) as client:
            client.call("CONFIG", "SET", "tls-cert-file", str(pair.cert), "tls-key-file", str(pair.key), "tls-auth-clients", clients)

    def url(self, **options: object) -> str:
        """The URL of its TLS port, with the CA unless ``ca=None``."""
        given = {"ssl_ca_certs": options.pop("ca", self.authority.cert), **{f"ssl_{name}": value for name, value in options.items()}}
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in given.items() if value is not None)
        return f"rediss://localhost:{self.ports[1]}/0?{query}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("tls"))
    yield server
    server.process.terminate()
    server.process.wait(10)


@pytest.fixture
def server(running: Server) -> Server:
    running.show(running.good)
    return running


def answer(url: str) -> str:
    """PONG, or why not, as the modules' client says it."""
    try:
        with resp.connect(url, timeout=2) as client:
            return resp.text(client.call("PING"))
    except resp.RespConnectionError as error:
        return str(error)


def is_healthy(url: str) -> bool:
    """Whether the health program gets an answer there."""
    try:
        return bool(workfleet_health.Broker(url, time.monotonic() + 2).call("PING") == b"PONG")
    except (OSError, workfleet_health.CannotTell):
        return False


def test_a_server_whose_ca_is_named_is_believed(server: Server) -> None:
    assert answer(server.url()) == "PONG"
    assert is_healthy(server.url())


def test_a_server_that_cannot_prove_itself_is_refused_with_what_to_do(server: Server) -> None:
    """The options that look away are what they say they are, to the modules and the health program alike."""
    cases = {
        server.authority.sign("expired", "localhost", ends_in_days=-1): ("has expired", ("none",)),
        server.authority.sign("other", "elsewhere.example"): ("as its certificate does (subjectAltName)", ("none", "optional", "name")),
        Authority(server.good.cert.parent, "stranger").sign("strange", "localhost"): ("give its file by ssl_ca_certs", ("none",)),
    }
    looser = {"none": {"cert_reqs": "none"}, "optional": {"cert_reqs": "optional"}, "name": {"check_hostname": "false"}}
    for pair, (says, accepted) in cases.items():
        server.show(pair)
        assert says in answer(server.url())
        assert not is_healthy(server.url())
        for name, options in looser.items():
            url = server.url(**options)
            assert (answer(url) == "PONG", is_healthy(url)) == (name in accepted, name in accepted), (pair.cert.name, name)


def test_without_a_named_ca_the_systems_decides(server: Server) -> None:
    assert "give its file by ssl_ca_certs in the URL" in answer(server.url(ca=None))
    assert not is_healthy(server.url(ca=None))


def test_a_server_that_wants_a_certificate_gets_it_or_is_told_as_such(server: Server) -> None:
    server.show(server.good, clients="yes")
    ours = {"certfile": server.client.cert, "keyfile": server.client.key}
    assert answer(server.url(**ours)) == "PONG"
    assert is_healthy(server.url(**ours))
    assert "ssl_certfile" in answer(server.url())


def test_tls_where_none_is_spoken_and_the_other_way_round(server: Server) -> None:
    assert "does the server speak TLS on" in answer(server.plain.replace("redis:", "rediss:"))
    assert "the URL must begin with rediss://" in answer(f"redis://localhost:{server.ports[1]}/0")


def test_files_that_are_not_what_they_must_be_are_named(server: Server, tmp_path: Path) -> None:
    pair = server.client
    assert f"ssl_ca_certs={tmp_path}/none: No such file" in answer(server.url(ca=tmp_path / "none"))
    assert "in PEM form" in answer(server.url(ca=pair.key))
    assert "the key is not the certificate's" in answer(server.url(certfile=pair.cert, keyfile=server.good.key))
    assert "in PEM form" in answer(server.url(certfile=pair.cert, keyfile=server.authority.cert))


def test_a_certificate_is_renewed_while_a_connection_goes_on(server: Server) -> None:
    with resp.connect(server.url()) as client:
        server.show(server.authority.sign("next", "localhost"))
        assert client.call("PING") == b"PONG"
    assert answer(server.url()) == "PONG"
