"""The RESP client against scripted servers: URLs, framing, errors, deadlines."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.workfleet import redis_url, resp
from plugins.module_utils.workfleet.errors import WorkfleetError
from tests.patience import is_within

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def scripted(*chunks: bytes, pause: float = 0.0) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers the first bytes it hears with ``chunks`` and hangs up; yields its URL and what it heard."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(65536))
            with suppress(OSError):  # a client that gave up
                for chunk in chunks:
                    connection.sendall(chunk)
                    time.sleep(pause)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}", heard
        thread.join(5)
    finally:
        listener.close()


def test_a_command_is_written_binary_safe() -> None:
    written = resp.encode("SET", b"\r\n\0", 5, 1.5, "é")
    assert written == b"*5\r\n$3\r\nSET\r\n$3\r\n\r\n\0\r\n$1\r\n5\r\n$3\r\n1.5\r\n$2\r\n\xc3\xa9\r\n"
    with pytest.raises(TypeError, match="not bool"):
        resp.encode("SET", "k", True)


def test_replies_survive_being_cut_at_every_byte() -> None:
    reply = b"*5\r\n$5\r\na\r\nbc\r\n:-7\r\n$-1\r\n*2\r\n+OK\r\n-ERR nested\r\n*-1\r\n"
    with scripted(*(reply[i:i + 1] for i in range(len(reply)))) as (url, _), resp.connect(url) as client:
        first, number, nothing, nested, no_list = client.call("ANY")
    assert (first, number, nothing, no_list) == (b"a\r\nbc", -7, None, None)
    assert nested[0] == b"OK"
    assert isinstance(nested[1], resp.RespError)


def test_one_error_in_a_pipeline_leaves_the_replies_behind_it_in_step() -> None:
    with scripted(b":1\r\n-WRONGTYPE no list\r\n:3\r\n:4\r\n") as (url, _), resp.connect(url) as client:
        one, error, three = client.pipeline([("A",), ("B",), ("C",)], raise_errors=False)
    assert (one, three) == (1, 3)
    assert error.code == "WRONGTYPE"
    assert str(error).endswith("/0: B: WRONGTYPE no list")


def test_a_pipeline_raises_its_first_error_only_when_all_replies_are_read() -> None:
    with scripted(b"-ERR one\r\n:2\r\n") as (url, _), resp.connect(url) as client:
        with pytest.raises(resp.RespError, match="ERR one"):
            client.pipeline([("A",), ("B",)])
        with pytest.raises(resp.RespConnectionError, match=r"closed|reset"):
            client.call("C")


def test_arguments_that_a_server_repeats_are_not_shown() -> None:
    said = b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2' \r\n"
    with scripted(said) as (url, _), pytest.raises(resp.RespError) as caught:
        resp.connect(url.replace("//", "//:hunter2@"))
    assert "hunter2" not in str(caught.value)
    assert "unknown command 'AUTH'" in str(caught.value)


@pytest.mark.parametrize(
    "junk", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$abc\r\n", b"$--1\r\n", b"$2\r\nabcd\r\n", b"\r\n"]
)
def test_what_is_no_redis_is_told_as_such(junk: bytes) -> None:
    with scripted(junk) as (url, _), resp.connect(url) as client, pytest.raises(resp.RespConnectionError) as caught:
        client.call("PING")
    assert "does not speak Redis' protocol" in str(caught.value)


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    says = pytest.raises(resp.RespConnectionError, match="protocol")
    with scripted(b"+" + b"x" * 200_000) as (url, _), resp.connect(url) as client, says:
        client.call("PING")


def test_the_deadline_is_for_the_whole_call_even_if_bytes_keep_dripping() -> None:
    began = time.monotonic()
    chunks = [b"$", b"1", b"0", b"0", b"\r\n"] + [b"x"] * 20
    with scripted(*chunks, pause=0.05) as (url, _), resp.connect(url) as client:
        with pytest.raises(resp.RespConnectionError, match=r"no answer within 0.2 s"):
            client.call("GET", "k", timeout=0.2)
        assert is_within(time.monotonic() - began, 0.6)
        with pytest.raises(resp.RespConnectionError, match="it is closed"):
            client.call("GET", "k")


def test_a_server_that_hangs_up_and_one_that_is_not_there_are_told_apart() -> None:
    with scripted(b"") as (url, _), resp.connect(url) as client, pytest.raises(resp.RespConnectionError) as caught:
        client.call("PING")
    assert "the server closed it" in str(caught.value)
    with pytest.raises(resp.RespConnectionError, match="Connection refused") as refused:
        resp.connect(url.replace("//", "//:hunter2@"))
    assert "hunter2" not in str(refused.value)
    with pytest.raises(resp.RespConnectionError, match="No such file"):
        resp.connect("unix:///nonexistent/redis.sock")


def test_tls_to_a_plain_server_says_so() -> None:
    with scripted(b"-ERR\r\n") as (url, _), pytest.raises(resp.RespConnectionError, match="does the server speak TLS"):
        resp.connect(url.replace("redis:", "rediss:"))


def test_login_and_database_are_sent_in_one_go() -> None:
    with scripted(b"+OK\r\n+OK\r\n") as (url, heard):
        resp.connect(url.replace("//", "//me:p%20w@") + "/3").close()
    assert heard == [resp.encode("AUTH", "me", "p w") + resp.encode("SELECT", "3")]


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_raise_anything_but_our_own_error(junk: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs, resp.Client(ours, redis_url.Address(), 1.0) as client:
        theirs.sendall(junk)
        theirs.shutdown(socket.SHUT_WR)
        with suppress(WorkfleetError):
            client.call("PING")
