"""What is changed in a running server, in an order that its clients survive, and how it is taken back.

A password is changed in two runs of the module: first the new one is added beside the old, then, when all clients have it, the old one ends
(``ACL SETUSER``, Redis 6). That a connection is logged in already is never taken back by either.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .. import resp
from ..errors import WorkfleetError
from . import config as redis_config
from . import info as redis_info

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .service import Service

PASSWORD = "requirepass"  # noqa: S105 - the directive's name
#: From here on a server takes several directives in one CONFIG SET, and takes all or none.
TOGETHER = (7, 0)


def version(info: Mapping[str, str]) -> tuple[int, ...]:
    """Return the version of a server, Valkey's as the Redis that it is compatible with."""
    return tuple(int(part) for part in info.get("redis_version", "0").split(".")[:2] if part.isdigit())


def passwords(client: resp.Client) -> frozenset[str] | None:
    """Return the SHA-256 of each password of the default user; ``None`` where the server has no users, before Redis 6."""
    try:
        told = client.call("ACL", "GETUSER", "default")
    except resp.RespError:
        return None
    found = dict(zip(map(resp.text, told[::2]), told[1::2]))
    return frozenset(map(resp.text, found.get("passwords", ())))


def change(
    client: resp.Client, values: Mapping[str, str], info: Mapping[str, str], what: Service, wait_seconds: float, also: Collection[str] = (),
) -> None:
    """Change directives of a running server; ``also`` are the digests of the passwords that stay valid beside a new one.

    The password comes first: a wider bind is only for those who know it. What depends on one another is one command where the server
    takes it so, else in the order given. An append-only file is seen through.
    """
    rest = {name: value for name, value in values.items() if name != PASSWORD}
    if PASSWORD in values:
        set_password(client, values[PASSWORD], also)
    for part in [rest] if version(info) >= TOGETHER else [{name: value} for name, value in rest.items()]:
        if part:
            client.call("CONFIG", "SET", *(word for pair in part.items() for word in pair), timeout=60.0)
        if part.get("appendonly") == "yes":
            await_rewrite(client, what, wait_seconds)


def set_password(client: resp.Client, password: str, also: Collection[str]) -> None:
    """Have a password, alone or beside those that are valid already."""
    if also:
        client.call("ACL", "SETUSER", "default", "on", f">{password}")
        return
    client.call("CONFIG", "SET", PASSWORD, password)
    # CONFIG SET of the value it already tells changes nothing, although the user may have other passwords.
    if passwords(client) is not None:
        client.call("ACL", "SETUSER", "default", "on", *(["resetpass", f">{password}"] if password else ["nopass"]))


def take_back(
    client: resp.Client, values: Mapping[str, str], config: Mapping[str, str], info: Mapping[str, str], before: Collection[str] | None,
    what: Service, wait_seconds: float,
) -> None:
    """Give directives the values back that they had in ``config``, in the opposite order; ``before`` are the passwords' digests."""
    old = {name: config[name] for name in reversed(list(values)) if name != PASSWORD and name in config}
    change(client, old, info, what, wait_seconds)
    if PASSWORD in values:
        client.call("CONFIG", "SET", PASSWORD, config.get(PASSWORD, ""))
        if before is not None:
            words = ["resetpass", *(f"#{digest}" for digest in sorted(before))] if before else ["nopass"]
            client.call("ACL", "SETUSER", "default", "on", *words)


def kept(password: str, before: Collection[str]) -> frozenset[str]:
    """Return the digests of the passwords that stay valid beside the declared one; there is none beside no password."""
    return frozenset(before) - {redis_config.digest(password)} if password else frozenset()


def await_rewrite(client: resp.Client, what: Service, wait_seconds: float) -> None:
    """Wait until the append-only file holds everything: before that, a restart would load less than all."""
    deadline = time.monotonic() + wait_seconds
    while True:
        info = redis_info.parse(resp.text(client.call("INFO", "persistence")))
        if info.get("aof_enabled") != "1":
            return
        busy = "1" in (info.get("aof_rewrite_in_progress"), info.get("aof_rewrite_scheduled"))
        if not busy and info.get("aof_last_bgrewrite_status") == "ok":
            return
        if not busy or time.monotonic() > deadline:
            why = "failed" if not busy else f"did not end within {wait_seconds:g} s"
            raise WorkfleetError(f"the rewrite of the append-only file {why}; nothing was restarted\n{what.log()}")
        time.sleep(0.05)
