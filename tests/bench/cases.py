"""What is measured, and what must be true on the host for a figure to count."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.bench.machine import APP, ROOT, UNITS

if TYPE_CHECKING:
    from tests.bench.machine import Machine, World

GROUP_SIZE = 10
CHANGED = "g00"
#: The idiom does not watch what it started, so ours does not either where the two are compared.
UNWATCHED = {"monitor_seconds": 0, "parallelism": "100%"}


class Fleet:
    """So many nodes of a cheap command on one machine, in groups of ten."""

    def __init__(self, machine: Machine, nodes: int) -> None:
        self.machine = machine
        self.nodes = nodes
        self.groups = [f"g{number:02d}" for number in range(nodes // GROUP_SIZE)]
        self.turn = 0

    def declare(self, rollout: dict[str, Any] | None = None, **more: Any) -> None:
        """Write the inventory; ``turn`` is a value in the environment of one group, so a change of it is a change there."""
        groups = [{"name": name, "engine": "process", "command": ["/bin/sleep", "infinity"], "nodes": GROUP_SIZE, "drain_seconds": 5,
                   "env": self.env(name), **more} for name in self.groups]
        units = [{"unit": f"idiom-{name}-{slot}", "env": self.env(name)} for name in self.groups for slot in range(1, GROUP_SIZE + 1)]
        self.machine.declare({"app_name": APP, "worker_rollout": UNWATCHED if rollout is None else rollout,
                              "worker_groups": groups, "idiom_nodes": units})

    def env(self, group: str) -> dict[str, str]:
        """Return a group's environment."""
        return {"GROUP": group, "TURN": str(self.turn if group == CHANGED else 0)}

    def first(self) -> float:
        """Converge a clean host."""
        self.declare()
        seconds = self.machine.playbook("site")
        assert len(self.machine.world().processes) == self.nodes
        return seconds

    def repair(self) -> float:
        """Edit a unit, delete an environment file, stop a node: the next converge must repair exactly these."""
        before = self.machine.world()
        edited, bare, stopped = (f"workfleet.{APP}.{CHANGED}.{slot}.1" for slot in (2, 5, 9))
        self.machine.run("sed", "-i", "s/^RestartSec=.*/RestartSec=77/", f"{UNITS}/{edited}.service")
        self.machine.run("rm", f"/opt/{APP}/env/{bare}.env")
        self.machine.run("systemctl", "stop", f"{stopped}.service")
        seconds = self.machine.playbook("site")
        done = {(step["unit"], step["action"]) for step in self.machine.steps()}
        assert done == {(edited, "write"), (bare, "write"), (None, "reload"), (stopped, "start")}, done
        after = self.machine.world()
        assert after.files == before.files
        assert changed(before, after) == {stopped}
        return seconds

    def no_op(self) -> float:
        """Converge a host on which nothing is to do."""
        return self.machine.playbook("site", idle=True)

    def change(self, rollout: dict[str, Any] | None = None) -> float:
        """Change one group of ten: exactly its nodes are replaced."""
        before = self.machine.world()
        self.turn += 1
        self.declare(rollout)
        seconds = self.machine.playbook("site")
        after = self.machine.world()
        new = f"workfleet.{APP}.{CHANGED}."
        assert {unit for unit in changed(before, after) if not unit.startswith(new)} == set()
        assert not {unit for unit in before.processes if unit.startswith(new)} & set(after.processes)
        assert len([unit for unit in after.processes if unit.startswith(new)]) == GROUP_SIZE
        started = [step["unit"] for step in self.machine.steps() if step["action"] == "start"]
        assert sorted(started) == sorted(unit for unit in after.processes if unit.startswith(new)), started
        assert len(after.processes) == self.nodes
        if rollout is not None:
            self.declare()
        return seconds

    def absent(self) -> None:
        """Remove every node again."""
        self.declare(state="absent")
        self.machine.playbook("site")
        world = self.machine.world()
        left = [path for path in world.files if not path.endswith("/app.env")]
        assert (world.processes, left) == ({}, []), (world.processes, left)

    def status(self) -> float:
        """Look at all nodes."""
        return self.machine.playbook("status")

    def idiom(self, rounds: int) -> dict[str, list[float]]:
        """The usual idiom on the same host: first converge, no-op (and the pings around each), one group changed."""
        self.declare()
        told = {"first converge": [self.machine.idiom()]}
        world = self.idiom_world()
        assert len(world.processes) == self.nodes
        pings = [self.machine.ping()]
        told["no-op"] = []
        for _ in range(rounds):
            told["no-op"].append(self.machine.idiom())
            pings.append(self.machine.ping())
        told["ping"] = [(before + after) / 2 for before, after in pairwise(pings)]
        assert changed(world, self.idiom_world()) == set()
        self.turn += 1
        self.declare()
        told["one group changed"] = [self.machine.idiom()]
        restarted = changed(world, self.idiom_world())
        assert restarted == {f"idiom-{CHANGED}-{slot}" for slot in range(1, GROUP_SIZE + 1)}, restarted
        return told

    def idiom_world(self) -> World:
        """Look at the idiom's nodes."""
        return self.machine.world("idiom-*.service", "idiom")


def changed(before: World, after: World) -> set[str]:
    """Return the units whose process came, went, or is another one."""
    return {unit for unit in {*before.processes, *after.processes} if before.processes.get(unit) != after.processes.get(unit)}


def celery(machine: Machine, nodes: int, rounds: int) -> dict[str, Any]:
    """Ask live Celery nodes of the example app, with a Redis on the same host; every one must have answered."""
    groups = [{"name": name, "app": "app.celery_app", "nodes": nodes // 2, "queues": [queue], "concurrency": 1, "drain_seconds": 5,
               "options": {"pool": "threads"}} for name, queue in (("build", "reports"), ("rest", "default"))]
    url = "redis://localhost:6379/0"
    machine.declare({
        "app_name": APP, "app_source": {"type": "directory", "location": str(ROOT / "examples" / "reports")},
        "app_requirements": ["requirements.txt"], "app_broker_url": url, "app_broker_env": ["REDIS_URL"], "app_result_env": ["REDIS_URL"],
        "worker_groups": groups, "worker_rollout": {"ready_timeout_seconds": 300},
    }, groups=("redis",))
    machine.playbook("site")
    no_op = [machine.playbook("site", idle=True) for _ in range(2)]
    told = machine.inside("worker_info", "status", rounds)
    states = [node["state"] for node in told["result"]["nodes"]]
    assert states == ["ready"] * nodes, told["result"]["problems"]
    assert all(node["processed"] is not None for node in told["result"]["nodes"])
    return {**told, "no_op": no_op}
