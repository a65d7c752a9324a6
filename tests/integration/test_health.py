"""``bin/workfleet-health`` beside real nodes: it judges by what they consume, not by a process being there."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.nodes import control as live
from plugins.module_utils.workfleet.release.declared import Declared
from plugins.module_utils.workfleet.release.foundation import health_script
from runners import workfleet_health
from tests import printed, warm
from tests.integration import conftest
from tests.integration.drained import Drained
from tests.integration.supervised import ME, MY_GROUP, Site, site
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import RedisServer

__all__ = ["site"]
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")


#: As a host's bin/workfleet-health does: the system's own Python, not that of a virtualenv.
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
#: Where a judgement cost 36 ms, Python's own start cost 13; a busy machine makes both dearer.
START_SECONDS = 0.013


def health(fleet: Drained, *words: str) -> dict[str, Any]:
    command = [PYTHON, "-IS", workfleet_health.__file__, "--app", "shop", "--root", fleet.site.root, "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    told = dict(json.loads(done.stdout))
    assert (done.returncode, done.stderr) == (told["code"], "")
    return told


def nodes(told: dict[str, Any]) -> dict[str, tuple[bool | None, str]]:
    return {node["unit"].split(".", 2)[2]: (node["ok"], node["reason"]) for node in told["nodes"]}


def tell(fleet: Drained, group: dict[str, Any], control: str, **arguments: Any) -> None:
    host_nodes = fleet.site.host_nodes(fleet.site.request([group]))
    live.control(host_nodes, live.Order("w", control, arguments), check=False)


def cost(act: Callable[[], Any]) -> float:
    """The CPU seconds of a child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    act()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_celery_nodes_are_judged_by_what_they_consume(site: Site, tmp_path: Path) -> None:
    with conftest.running(None) as redis:
        fleet = Drained(site, redis, tmp_path, "celery")
        group = fleet.group(nodes=2, options={"pool": "threads"})
        assert (health(fleet)["code"], health(fleet)["declared"]) == (2, 0)

        fleet.converge(group)
        keys = set(redis.call("KEYS", "*", db=3))
        told = health(fleet)
        assert (told["code"], nodes(told)) == (0, {"w.1.1": (True, "consumes work"), "w.2.1": (True, "consumes work")})
        # What it asks by is gone again; a worker that answers may note the exchange it answered to.
        assert {key for key in redis.call("KEYS", "*", db=3) if b"workfleet.pidbox" in key} <= keys
        # Each judgement beside a start of its own moment: what else the machine has to do changes by the second.
        pairs = [(cost(lambda: subprocess.run([PYTHON, "-IS", "-c", "pass"], check=True)), cost(lambda: health(fleet))) for _ in range(10)]
        assert min(judged / max(1.0, start / START_SECONDS) for start, judged in pairs) < 0.05

        tell(fleet, group, "cancel_consumer", queue="work")
        told = until(lambda: (found := health(fleet))["code"] == 2 and found)
        assert nodes(told)["w.1.1"] == (False, "answers, and consumes no queue")
        tell(fleet, group, "add_consumer", queue="work")
        until(lambda: health(fleet)["code"] == 0)

        pid = fleet.site.pids()["w.2.1"]
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            told = health(fleet, "--timeout", "1")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (told["code"], told["well"]) == (1, 1)
        assert nodes(told)["w.2.1"] == (False, "no answer over the broker")

        fleet.call(group)  # drain.yml
        told = health(fleet)
        assert (told["code"], nodes(told)["w.1.1"]) == (2, (False, "told to take no new tasks; resume.yml ends that"))
        fleet.call(group, resume=True)
        until(lambda: health(fleet)["code"] == 0)

        redis.call("CONFIG", "SET", "requirepass", "changed meanwhile")
        told = health(fleet)
        assert (told["code"], nodes(told)["w.1.1"]) == (3, (None, "the broker says: NOAUTH Authentication required."))
    told = health(fleet)
    assert (told["code"], nodes(told)["w.1.1"]) == (2, (False, "the broker cannot be reached: Connection refused"))

    # stop.yml: nothing is declared to run any more.
    fleet.site.work([{**group, "state": "stopped"}])
    told = health(fleet)
    assert (told["code"], told["declared"]) == (2, 0)
    assert "stop.yml" in told["problem"]


@pytest.mark.parametrize("engine", ["arq", "chicory"])
def test_a_node_without_a_heartbeat_does_not_consume(site: Site, redis_server: RedisServer, tmp_path: Path, engine: str) -> None:
    fleet = Drained(site, redis_server, tmp_path, engine)
    fleet.converge(fleet.group())
    told = until(lambda: (found := health(fleet))["code"] == 0 and found)
    assert nodes(told)["w.1.1"][0] is True
    pid = fleet.site.pids()["w.1.1"]
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # a process is there all the same
    try:
        key = {"arq": "arq:health-check:shop.w.1.1@h1", "chicory": "chicory:heartbeat:shop.w.1.1@h1"}[engine]
        assert redis_server.call("DEL", key, db=3) == 1  # as its time to live would do in a while
        told = health(fleet)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert told["code"] == 2
    assert "no heartbeat" in nodes(told)["w.1.1"][1]


def test_the_playbook_shows_the_judgement_of_the_hosts_own_program_and_fails_where_nothing_consumes(site: Site, tmp_path: Path) -> None:
    program = Path(site.root, "bin", "workfleet-health")
    program.parent.mkdir()
    declared = Declared("web1", "shop", ME, MY_GROUP, site.root, "python3", broker_options={"global_keyprefix": "it's:"})
    program.write_text(health_script(declared))
    program.chmod(0o755)
    shutil.copy(workfleet_health.__file__, Path(site.root, "workfleet"))
    group = {"name": "w", "engine": "process", "command": ["sleep", "1000"], "drain_seconds": 5}
    variables = {"app_name": "shop", "app_user": ME, "app_group": MY_GROUP, "app_root": site.root, "worker_manager": "supervisor",
                 "worker_groups": [group], "worker_run_directory": site.run_directory, "ansible_connection": "local",
                 "ansible_python_interpreter": sys.executable, "ansible_become": False}
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"workers": {"hosts": {"web1": variables}}}))

    def play() -> tuple[int, str]:
        done = warm.play(["-i", str(inventory), "playbooks/health.yml"])
        return done.returncode, done.stdout + done.stderr

    code, said = play()
    assert code == 2, said
    printed.same("docs/health.md", "none", said)
    site.work([group])
    code, said = play()
    assert code == 0, said
    printed.same("docs/health.md", "well", said)
