"""What is said of an app's database without one: the scenario spark logs in to a real server."""

from __future__ import annotations

import socket
import threading

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.postgresql import login as postgresql_login


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_a_database_that_is_down_is_named_by_its_variable_and_without_its_password(scheme: str) -> None:
    port = closed_port()
    warned = postgresql_login.check({"PATH": "/bin", "SHOP_DB": f"{scheme}://shop:s3cret@127.0.0.1:{port}/shop"})
    assert warned == [f"SHOP_DB: no PostgreSQL answers at 127.0.0.1:{port}: Connection refused"]


def test_what_answers_and_is_no_postgresql_is_no_database() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(8)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        answering = threading.Thread(target=greet)
        answering.start()
        assert "no PostgreSQL answers" in postgresql_login.login(f"postgresql://shop:s3cret@127.0.0.1:{server.getsockname()[1]}/shop")
        answering.join()


def test_a_password_that_breaks_its_url_is_said() -> None:
    with pytest.raises(WorkfleetError, match="%-encoded") as error:
        postgresql_login.login("postgresql://shop:s3c/ret@127.0.0.1:5432/shop")
    assert "s3c" not in str(error.value)


@pytest.mark.parametrize("url", [
    "postgresql:///shop", "postgresql://shop@/shop?host=/run/postgresql", "postgresql://shop@127.0.0.1:1,127.0.0.2:1/shop",
    "postgresql://127.0.0.1:1/shop",
])
def test_what_cannot_be_judged_passes(url: str) -> None:
    assert postgresql_login.check({"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1/0"}) == []
