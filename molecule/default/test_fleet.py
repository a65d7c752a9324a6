"""All that holds for a fleet, on this scenario's hosts; and what needs a Redis on another host than the workers."""

from common import *  # noqa: F403 - pytest collects the tests of that file here
from fleet import Fleet, wait


def test_a_boot_with_redis_unreachable_ends_in_ready_nodes_when_redis_is_back(fleet: Fleet) -> None:
    fleet.play("site")
    nodes = set(fleet.main_processes())
    assert nodes
    fleet.run(fleet.redis, "systemctl", "stop", "redis-server")
    fleet.reboot(fleet.worker)
    wait(lambda: set(fleet.main_processes()) == nodes, 60)
    fleet.wait_until_reachable(fleet.worker)
    assert not fleet.is_well()
    fleet.run(fleet.redis, "systemctl", "start", "redis-server")
    fleet.wait_until_ready(90)
    fleet.play("verify")
