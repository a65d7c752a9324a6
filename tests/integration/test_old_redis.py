"""A broker of Redis 5, which some apps have elsewhere: no command that came after it is needed to ask nodes and to purge arq's queues."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines.celery import wire as celery_wire
from plugins.module_utils.workfleet.engines.verbs.stash import Choice
from plugins.module_utils.workfleet.queues.purge import Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer

#: What sets, sorted sets, strings and hashes have got since.
NEWER = ("smismember", "sintercard", "zmscore", "zdiff", "zinter", "zunion", "zrangestore", "zmpop", "zrandmember", "getdel", "getex",
         "copy", "hrandfield", "expiretime", "pexpiretime", "lmpop")


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[resp.Client]:
    """A connection of an account that knows no more than a Redis 5 does."""
    redis_server.call("ACL", "SETUSER", "old", "reset", "on", ">x", "~*", "&*", "+@all", *(f"-{name}" for name in NEWER))
    try:
        with resp.connect(redis_server.url().replace("//", "//old:x@")) as connection:
            yield connection
    finally:
        redis_server.call("ACL", "DELUSER", "old")


def test_celery_nodes_are_asked(client: resp.Client) -> None:
    bound = "\x06\x16".join(["", "", "shop_a-1@h.celery.pidbox"])
    client.call("SADD", "_kombu.binding.celery.pidbox", bound)
    asked = celery_wire._Inspection(client, ["shop_a-1@h", "shop_a-2@h"], ("stats",), 0.1, celery_wire.Wire())
    assert asked._ask() == ({"shop_a-1@h"}, 0)
    assert celery_wire.inspect(client, ["shop_a-1@h"], timeout=0.1) == {"shop_a-1@h": {}}


def test_an_arq_job_of_another_queue_too_is_left_alone(client: resp.Client, tmp_path: Path) -> None:
    for job in ("ours", "both"):
        client.call("SET", f"arq:job:{job}", json.dumps(job))
        client.call("ZADD", "arq:queue", 1, job)
    work, choice = Run(client, "shop", "arq", {}, "a test", {"arq": ["arq:queue"]}), Choice("arq:queue")
    work.write("a" * 32, choice, str(tmp_path / "x.dump"), {})
    client.call("ZADD", "other", 1, "both")
    work.commit("a" * 32, choice)
    assert client.call("KEYS", "arq:job:*") == [b"arq:job:both"]
