"""A declared format is that of the lines that real workers write."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.integration import arq_fleet, celery_fleet, chicory_fleet
from tests.integration.supervised import Site, site
from tests.patience import until

if TYPE_CHECKING:
    from tests.integration.conftest import RedisServer

__all__ = ["site"]
FORMAT = "(%(process)d) %(levelname)-8s %(name)s: 100%% %(message)s"


def written(site: Site, source: Path, prefix: str, redis: RedisServer, **group: Any) -> str:
    """Return the first line that a node has written in the format."""
    for runner in (celery_fleet.ROOT / "runners").glob("*.py"):
        shutil.copy(runner, Path(site.root, "workfleet"))
    site.app = {"broker_url": redis.url(), "result_url": redis.url(1),
                "env": {"PATH": f"{prefix}/bin:/usr/bin:/bin", "PYTHONPATH": str(source)}}
    site.work([{"name": "a", **group}], log={"format": FORMAT})
    node, = site.manager.present()
    mark = f"({node.pid}) INFO     "
    return str(until(lambda: next((line for line in site.manager.log(node.name, 100) if line.startswith(mark)), "")))[len(mark):]


def test_celery_writes_in_the_format(site: Site, redis_server: RedisServer) -> None:
    group = {"engine": "celery", "app": "app.celery_app", "options": {"loglevel": "INFO", "pool": "threads"}}
    line = written(site, celery_fleet.APP, sys.prefix, redis_server, **group)
    assert line.startswith("celery.worker.consumer.connection: 100% Connected to")


def test_arq_writes_in_the_format(site: Site, redis_server: RedisServer) -> None:
    line = written(site, arq_fleet.APP, str(arq_fleet.environment()), redis_server, engine="arq", app="app.worker.WorkerSettings")
    assert line.startswith("arq.worker: 100% Starting worker for")


def test_chicory_writes_in_the_format(site: Site, redis_server: RedisServer) -> None:
    line = written(site, chicory_fleet.APP, str(chicory_fleet.environment()), redis_server, engine="chicory", app="app.tasks:app")
    assert ": 100% " in line


def test_what_pool_children_write_of_tasks_has_the_format_too(site: Site, redis_server: RedisServer) -> None:
    group = {"engine": "celery", "app": "app.celery_app", "queues": ["default"], "options": {"loglevel": "INFO"}, "concurrency": 1}
    written(site, celery_fleet.APP, sys.prefix, redis_server, **group)
    node, = site.manager.present()
    client = "from app.celery_app import health_check; health_check.apply_async(queue='default')"
    variables = {"CELERY_BROKER_URL": redis_server.url(), "CELERY_RESULT_BACKEND": redis_server.url(1)}
    subprocess.run([sys.executable, "-c", client], cwd=celery_fleet.APP, env=variables, check=True)
    until(lambda: any("celery.app.trace: 100% Task app.celery_app.health_check" in line for line in site.manager.log(node.name, 100)))
