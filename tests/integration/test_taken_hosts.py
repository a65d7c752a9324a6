"""A host that another run holds: taken over where that run is dead, waited for while it lives, and refused in time."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from ansible_collections.workfleet.core.plugins.plugin_utils import actions

from tests import printed
from tests.integration.supervised import site
from tests.integration.test_reset import Played

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer
    from tests.integration.supervised import Site

__all__ = ["site"]


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another run's process, which lives until it is told that there is no more."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        yield child


def test_a_host_is_taken_from_the_dead_waited_for_and_refused(
    site: Site, redis_server: RedisServer, tmp_path: Path, other: subprocess.Popen[bytes],
) -> None:
    app = Played(site, redis_server, tmp_path, "celery")
    app.play("start")
    lock = os.path.join(site.root, "state", "nodes.lock")

    def hold(process: int, seconds: float) -> None:
        """Have a run keep the host from call to call, as it stands in the host's file."""
        with open(lock, "w", encoding="utf-8") as file:
            json.dump({"run": f"{actions.here()}.{process}", "holder": "anna on laptop", "until": time.time() + seconds}, file)

    before = site.pids()
    hold(other.pid, 600)
    said = app.play("restart", "-e", "worker_lock_seconds=2", expect=2)
    printed.same("docs/deploying.md", "taken", said)
    assert (site.pids(), app.steps) == (before, [])

    hold(other.pid, 20)  # longer than a playbook needs until it asks
    began = time.monotonic()
    assert "waiting for anna on laptop" in app.play("restart")
    assert app.steps
    assert time.monotonic() - began > 19

    hold(other.pid, 600)
    other.communicate()
    assert "waiting for" not in app.play("drain")
    assert app.steps
