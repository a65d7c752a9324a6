"""A shipped inventory on the hosts of a scenario that have its names: one under systemd, one under supervisor."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from fleet import ANSIBLE, INVENTORY, PROJECT, Fleet, wait

#: What the scenarios have in place of the placeholders of the inventories' secrets.
REDIS_PASSWORD = "of-this-scenario"


class System(Fleet):
    """The fleet of one of the five systems."""

    def __init__(self, inventory: str) -> None:
        super().__init__()
        self.inventory = f"inventories/{inventory}"

    # -- the world ----------------------------------------------------------------------------------------------------

    def processes(self) -> dict[str, int]:
        """Return the main process of every node on all hosts."""
        return {node: pid for host in self.workers for node, pid in self.main_processes(host).items()}

    def declared(self) -> set[str]:
        """Return the names of the nodes that the inventory declares, before anything was replaced."""
        return {f"{self.app}.{group['name']}.{slot}.1@{host}"
                for host in self.workers for group in self.vars["worker_groups"] for slot in range(1, group["nodes"] + 1)}

    def ask(self, *words: Any) -> Any:
        """Return what Redis answers to a command."""
        return json.loads(self.run(self.redis, "env", f"REDISCLI_AUTH={REDIS_PASSWORD}", "redis-cli", "--json", *map(str, words)))

    def nodes(self, group: str, *options: str, **extra: Any) -> list[dict[str, Any]]:
        """Return the nodes of a group as the status JSON tells them; it must tell of no problem."""
        status = self.status(*options, **extra)
        assert status["problems"] == []
        return [node for host in status["hosts"].values() for node in host["nodes"] if node["group"] == group]

    def long(self) -> float:
        """Return how many seconds a task must take to be seen running, on a machine as busy as it is; less than any drain."""
        begun = time.monotonic()
        self.status()
        return min(50.0, max(10.0, 3 * (time.monotonic() - begun)))

    def waiting(self, status: dict[str, Any]) -> dict[str, int]:
        """Return what waits in each queue."""
        return {queue["queue"]: queue["waiting"] for queue in status["queues"]}

    def kill_redis(self) -> None:
        """Kill it, and keep it down."""
        self.run(self.redis, "systemctl", "mask", "--runtime", "redis-server")
        self.run(self.redis, "systemctl", "kill", "--signal=KILL", "redis-server")
        wait(lambda: "inactive" in self.redis_state() or "failed" in self.redis_state(), 20)

    def start_redis(self) -> None:
        """Let it come back with what it has on its disk."""
        self.run(self.redis, "systemctl", "unmask", "--runtime", "redis-server")
        self.run(self.redis, "systemctl", "start", "redis-server")

    def redis_state(self) -> str:
        """Return whether it runs, in systemd's words."""
        return self.run(self.redis, "systemctl", "is-active", "redis-server", check=False).strip()

    # -- what holds for each of them ----------------------------------------------------------------------------------

    def memberships(self, inventory: str) -> dict[str, set[str]]:
        """Return host → groups of an inventory."""
        listing = json.loads(subprocess.run([str(Path(ANSIBLE).parent / "ansible-inventory"), "-i", inventory, "--list"],
                                            check=True, capture_output=True, text=True, cwd=PROJECT).stdout)
        groups = set(listing) - {"_meta", "all", "ungrouped"}

        def within(group: str) -> set[str]:
            told = listing.get(group, {})
            return set(told.get("hosts", [])).union(*map(within, told.get("children", [])))

        return {host: {group for group in groups if host in within(group)} for host in listing["_meta"]["hostvars"]}

    def check_hosts(self) -> None:
        """The scenario's hosts are in the groups that the inventory puts them into."""
        shipped = self.memberships(self.inventory)
        assert self.memberships(str(INVENTORY)) == shipped

    def check_nodes(self) -> None:
        """What is declared runs, one process a node, as the app's own user."""
        assert set(self.processes()) == self.declared()
        for host in self.workers:
            owners = self.run(host, "ps", "-o", "user=", "-p", ",".join(map(str, self.main_processes(host).values()))).split()
            assert set(owners) == {self.app}

    def check_refused(self, said: str, worker_groups: list[dict[str, Any]]) -> None:
        """A run with these groups fails with these words and touches no process."""
        before = self.processes()
        run = self.play("site", "--tags", "worker", expect=2, worker_groups=worker_groups)
        assert said in run.out
        assert run.steps == []
        assert self.processes() == before


def asked_for(fleet: Fleet, host: str, requests: list[tuple[str, str]]) -> list[int]:
    """Return what Flower on a host's loopback answers to (path, login), the HTTP status of each."""
    code = "\n".join([
        "import base64, json, sys, urllib.error, urllib.request",
        "def get(path, login):",
        "    request = urllib.request.Request('http://127.0.0.1:5555' + path)",
        "    if login: request.add_header('Authorization', 'Basic ' + base64.b64encode(login.encode()).decode())",
        "    try: return urllib.request.urlopen(request, timeout=20).status",
        "    except urllib.error.HTTPError as error: return error.code",
        "print(json.dumps([get(*one) for one in json.loads(sys.argv[1])]))",
    ])
    return list(json.loads(fleet.run(host, "python3", "-c", code, json.dumps(requests))))


def open_to(fleet: Fleet, host: str, port: int) -> list[str]:
    """Return the addresses on which something on a host listens at a port."""
    listening = [line.split()[3] for line in fleet.run(host, "ss", "-Hltn").splitlines()]
    return [address for address in listening if address.endswith(f":{port}")]
