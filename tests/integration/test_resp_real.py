"""The RESP client against a real server: every byte comes back, over TCP, a socket and TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.redis import info as redis_info
from tests.patience import is_within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER, OPENSSL = shutil.which("redis-server"), shutil.which("openssl")
pytestmark = pytest.mark.skipif(SERVER is None, reason="no redis-server on this machine")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A server with a password, a plain and a TLS port, and a socket."""
    folder: Path = tmp_path_factory.mktemp("r")
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            ports.append(probe.getsockname()[1])
    argv = [str(SERVER), "--port", str(ports[0]), "--dir", str(folder), "--save", "", "--requirepass", "p@ss/w#rd",
            "--unixsocket", f"{folder}/s", "--user", "ann", "on", ">secret", "~*", "+@all"]
    if OPENSSL:
        subprocess.run(
            [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
            check=True, cwd=folder, capture_output=True,
        )
        argv += ["--tls-port", str(ports[1]), "--tls-auth-clients", "no"]
        argv += ["--tls-cert-file", "cert", "--tls-key-file", "key", "--tls-ca-cert-file", "cert"]
    with subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL) as server:
        url = f"redis://:p%40ss%2Fw%23rd@127.0.0.1:{ports[0]}/1"
        for _ in range(300):
            try:
                resp.connect(url).close()
                break
            except WorkfleetError:
                time.sleep(0.01)
        yield {"url": url, "port": ports[0], "tls": ports[1], "folder": str(folder)}
        server.kill()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=300), max_size=30))
def test_every_byte_comes_back_through_lists_and_scripts(redis: dict[str, Any], values: list[bytes]) -> None:
    with resp.connect(redis["url"]) as client:
        client.call("DEL", "l")
        client.pipeline([("RPUSH", "l", value) for value in values])
        assert client.call("LRANGE", "l", 0, -1) == values
        script = "return {ARGV, {1, {2, false}, redis.status_reply('S')}, redis.error_reply('ERR inner')}"
        back = client.call("EVAL", script, 0, *values)
        assert back[:2] == [values, [1, [2, None], b"S"]]
        assert isinstance(back[2], resp.RespError)


def test_large_values_and_long_pipelines_come_back_whole(redis: dict[str, Any]) -> None:
    big = bytes(range(256)) * 40_000
    with resp.connect(redis["url"]) as client:
        client.call("SET", "big", big)
        assert client.call("GET", "big") == big
        echoed = client.pipeline([("ECHO", number) for number in range(5000)])
    assert echoed == [b"%d" % number for number in range(5000)]


def test_a_wrong_password_none_and_an_acl_user(redis: dict[str, Any]) -> None:
    port = redis["port"]
    with pytest.raises(resp.RespError, match=r"WRONGPASS.*password given: a wrong one") as caught:
        resp.connect(f"redis://:hunter2@127.0.0.1:{port}")
    assert "hunter2" not in str(caught.value)
    refused = pytest.raises(resp.RespError, match=r"NOAUTH.*password given: none")
    with resp.connect(f"redis://127.0.0.1:{port}") as bare, refused:
        bare.call("PING")
    with resp.connect(f"redis://ann:secret@127.0.0.1:{port}") as client:
        assert client.call("ACL", "WHOAMI") == b"ann"


def test_a_blocking_call_has_its_own_deadline(redis: dict[str, Any]) -> None:
    with resp.connect(redis["url"], timeout=0.2) as client:
        assert client.call("BRPOP", "none", 0.4, timeout=5) is None
        with pytest.raises(resp.RespConnectionError, match=r"within 0.2 s"):
            client.call("BRPOP", "none", 1)


def test_a_socket_as_kombu_writes_it(redis: dict[str, Any]) -> None:
    with resp.connect(f"redis+socket://:p%40ss%2Fw%23rd@{redis['folder']}/s?virtual_host=2") as client:
        assert b"db=2" in client.call("CLIENT", "INFO")


@pytest.mark.skipif(OPENSSL is None, reason="no openssl to make a certificate with")
def test_tls_is_verified_unless_the_url_says_otherwise(redis: dict[str, Any]) -> None:
    url = f"rediss://:p%40ss%2Fw%23rd@localhost:{redis['tls']}/0"
    with pytest.raises(resp.RespConnectionError, match=r"certificate is not accepted.*ssl_ca_certs"):
        resp.connect(url)
    for options in ("ssl_cert_reqs=CERT_NONE", f"ssl_ca_certs={redis['folder']}/cert"):
        with resp.connect(f"{url}?{options}") as client:
            assert client.call("PING") == b"PONG"
    numeric = url.replace("localhost", "127.0.0.1")
    with pytest.raises(resp.RespConnectionError, match="certificate is not accepted"):
        resp.connect(f"{numeric}?ssl_ca_certs={redis['folder']}/cert")


def test_the_figures_of_redis_server_info(redis: dict[str, Any]) -> None:
    with resp.connect(redis["url"]) as client:
        client.call("FLUSHALL")
        client.call("SET", "k", "v")
    told = redis_info.look(redis["url"], 5)
    assert told["keys"] == {"1": 1}
    assert (told["flavor"], told["role"], told["maxmemory_policy"]) == ("redis", "master", "noeviction")
    assert (told["appendonly"], told["persistence"], told["evicted_keys"], told["loading"]) == (False, "ok", 0, False)
    assert "p@ss" not in repr(told)


@pytest.mark.parametrize("way", ["tcp", "socket", "tls"])
def test_a_subscriber_hears_every_message_once_and_waits_no_longer_than_it_is_told(redis: dict[str, Any], way: str) -> None:
    if way == "tls" and not OPENSSL:
        pytest.skip("no openssl on this machine")
    login = ":p%40ss%2Fw%23rd@"
    url = {"tcp": redis["url"], "socket": f"unix://{login}{redis['folder']}/s",
           "tls": f"rediss://{login}localhost:{redis['tls']}/0?ssl_cert_reqs=none"}[way]
    with resp.connect(url) as ears, resp.connect(redis["url"]) as mouth:
        ears.subscribe("a/*", "b")
        begun = time.monotonic()
        assert ears.message(0.1) is None
        took = time.monotonic() - begun
        assert took > 0.09 and is_within(took, 2)
        large = b"x" * 100_000 + b"\r\n"
        mouth.pipeline([("PUBLISH", "a/1", b"\xff"), ("PUBLISH", "b", large), ("PUBLISH", "c", "nobody"),
                        *(("PUBLISH", "a/2", str(number)) for number in range(3000))])
        assert [ears.message(1), ears.message(1)] == [("a/1", b"\xff"), ("b", large)]
        assert [ears.message(1) for _ in range(3000)] == [("a/2", str(number).encode()) for number in range(3000)]
        mouth.call("CLIENT", "KILL", "TYPE", "pubsub")
        with pytest.raises(resp.RespConnectionError, match="the server closed it"):
            ears.message(5)
        with pytest.raises(resp.RespConnectionError, match="it is closed"):
            ears.message(5)
