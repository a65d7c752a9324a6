"""What a Redis tells of itself, as the figures that matter for a broker."""

from __future__ import annotations

from typing import Any

from .. import resp


def parse(text: str) -> dict[str, str]:
    """The fields of ``INFO``."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def keys(info: dict[str, str]) -> dict[int, int]:
    """Number of keys by database, of those that have any."""
    return {
        int(name[2:]): int(value.split(",")[0].partition("=")[2])
        for name, value in info.items() if name.startswith("db") and name[2:].isdigit()
    }


def look(url: str, timeout: float) -> dict[str, Any]:
    """Ask the server at ``url``; what it does not tell is ``None``."""
    with resp.connect(url, timeout) as client:
        info = parse(resp.text(client.call("INFO", "everything")))

    def number(name: str) -> int | None:
        return int(info[name]) if name in info else None

    return {
        "address": str(client.address),
        "flavor": info.get("server_name", "redis"),
        "version": info.get("valkey_version") or info.get("redis_version"),
        "role": info.get("role"),
        "uptime_seconds": number("uptime_in_seconds"),
        "used_memory_bytes": number("used_memory"),
        "maxmemory_bytes": number("maxmemory"),
        "maxmemory_policy": info.get("maxmemory_policy"),
        "evicted_keys": number("evicted_keys"),
        "appendonly": info["aof_enabled"] == "1" if "aof_enabled" in info else None,
        "persistence": _persistence(info),
        "loading": info["loading"] == "1" if "loading" in info else None,
        "connected_clients": number("connected_clients"),
        "keys": {str(number): count for number, count in keys(info).items()},
    }


def _persistence(info: dict[str, str]) -> str:
    watched = {
        "rdb_last_bgsave_status": "the last snapshot failed",
        "aof_last_bgrewrite_status": "the last rewrite of the append-only file failed",
        "aof_last_write_status": "the last write to the append-only file failed",
    }
    return "; ".join(why for name, why in watched.items() if info.get(name, "ok") != "ok") or "ok"
