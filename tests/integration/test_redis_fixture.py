"""The fixtures themselves: a real server, empty, and shut to those without the password."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet import resp

if TYPE_CHECKING:
    from .conftest import RedisServer


@pytest.mark.parametrize("turn", ["first", "second"])
def test_each_test_finds_an_empty_server(redis_server: RedisServer, turn: str) -> None:
    assert redis_server.call("DBSIZE") == 0
    redis_server.call("SET", "left behind", turn)


def test_the_locked_server_wants_its_password(locked_redis_server: RedisServer) -> None:
    assert locked_redis_server.call("DBSIZE") == 0
    with pytest.raises(resp.RespError, match=r"(?i)auth"):
        resp.connect(f"redis://127.0.0.1:{locked_redis_server.port}/0").call("PING")
