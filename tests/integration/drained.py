"""Real workers of each engine under a supervisord, drained and resumed as the action plugin does it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from plugins.module_utils.workfleet.nodes import drain, info
from tests.integration import arq_fleet, chicory_fleet
from tests.integration.celery_fleet import ROOT
from tests.patience import until

if TYPE_CHECKING:
    from tests.integration.conftest import RedisServer
    from tests.integration.supervised import Site

Group = dict[str, Any]
#: Makes the app of an engine by its name.
Made = Callable[[str], "Drained"]
#: The task notes its begin and its end, with the time.
CELERY_APP = """
import os, time
from celery import Celery
app = Celery("noted")
app.conf.update(task_ignore_result=True, task_default_queue="work", broker_connection_retry_on_startup=True)

def note(word, name):
    with open(os.environ["EVENTS_LOG"], "a") as file:
        file.write(f"{word} {name} {time.time()}\\n")

@app.task(name="work")
def work(name, seconds):
    note("begin", name); time.sleep(seconds); note("end", name)

@app.task(name="late", acks_late=True)
def late(name, seconds):
    work(name, seconds)
"""
ARQ_APP = """
import asyncio, os, time

def note(word, name):
    with open(os.environ["EVENTS_LOG"], "a") as file:
        file.write(f"{word} {name} {time.time()}\\n")

def is_held(name):
    return os.path.exists(os.environ["EVENTS_LOG"] + "." + name)

async def work(ctx, name, seconds):
    note("begin", name); await asyncio.sleep(seconds)
    while is_held(name):
        await asyncio.sleep(0.02)
    note("end", name)

class WorkerSettings:
    functions = [work]
    job_timeout = 900
"""
CHICORY_APP = """
import asyncio, os, time
from chicory import BrokerType, Chicory, DeliveryMode
app = Chicory(broker=BrokerType.REDIS)

def note(word, name):
    with open(os.environ["EVENTS_LOG"], "a") as file:
        file.write(f"{word} {name} {time.time()}\\n")

def is_held(name):
    return os.path.exists(os.environ["EVENTS_LOG"] + "." + name)

@app.task(name="work")
async def work(name: str, seconds: float) -> None:
    note("begin", name); await asyncio.sleep(seconds)
    while is_held(name):
        await asyncio.sleep(0.02)
    note("end", name)

@app.task(name="once", delivery_mode=DeliveryMode.AT_MOST_ONCE)
async def once(name: str, seconds: float) -> None:
    await work.fn(name, seconds)
"""
APPS = {"celery": CELERY_APP, "arq": ARQ_APP, "chicory": CHICORY_APP}
NAMES = {"celery": "noted", "arq": "noted.WorkerSettings", "chicory": "noted:app"}
SEND_ARQ = """
import asyncio, json, sys
from arq import create_pool
from arq.connections import RedisSettings
async def main():
    pool = await create_pool(RedisSettings(port=int(sys.argv[1]), database=int(sys.argv[2])))
    for name, seconds in json.loads(sys.argv[3]):
        await pool.enqueue_job("work", name, seconds, _queue_name="work")
asyncio.run(main())
"""
SEND_CHICORY = """
import asyncio, json, sys
import noted
async def main():
    await noted.app.connect()
    for name, seconds in json.loads(sys.argv[1]):
        await noted.app.broker.publish(noted.TaskMessage(id=name, name=sys.argv[2], args=[name, seconds], kwargs={}), "work")
    await noted.app.disconnect()
asyncio.run(main())
"""


@pytest.fixture
def made(site: Site, redis_server: RedisServer, tmp_path: Path) -> Made:
    """What makes the app of an engine."""
    return lambda engine: Drained(site, redis_server, tmp_path, engine)


class Drained:
    """An app of one engine with the one queue ``work``."""

    def __init__(self, site: Site, redis: RedisServer, folder: Path, engine: str) -> None:
        self.site, self.redis, self.engine, self.folder = site, redis, engine, folder
        self.events = folder / "events.log"
        self.events.touch()
        prefix = {"celery": lambda: sys.prefix, "arq": arq_fleet.environment, "chicory": chicory_fleet.environment}[engine]()
        self.interpreter = f"{prefix}/bin/python"
        text = APPS[engine].replace("Chicory, DeliveryMode", "Chicory, DeliveryMode, TaskMessage")
        (folder / "noted.py").write_text(text)
        for path in (ROOT / "runners").glob("workfleet_*.py"):
            shutil.copy(path, Path(site.root, "workfleet"))
        self.variables = {"PATH": f"{prefix}/bin:/usr/bin:/bin", "PYTHONPATH": str(folder), "EVENTS_LOG": str(self.events)}
        site.app = {"broker_url": redis.url(3), "env": self.variables}

    def group(self, **keys: Any) -> Group:
        """Return a worker group on the queue."""
        return {"name": "w", "engine": self.engine, "app": NAMES[self.engine], "queues": ["work"], "concurrency": 2, "drain_seconds": 60,
                **keys}

    def converge(self, *groups: Group) -> None:
        """Have the nodes run; a machine with much else to do takes its time."""
        self.site.work(list(groups), rollout={"ready_timeout_seconds": 60})

    def at_work(self, *tasks: tuple[str, float], task: str = "work", **keys: Any) -> Group:
        """Have a group's node run, and wait until it has begun as many of these tasks as it has places for; return the group."""
        group = self.group(**keys)
        self.converge(group)
        self.send(*tasks, task=task)
        self.begun(min(len(tasks), group["concurrency"]))
        return group

    def send(self, *tasks: tuple[str, float], task: str = "work", **options: Any) -> None:
        """Send tasks: name and seconds."""
        if self.engine == "celery":
            with Celery(broker=self.redis.url(3)) as client:
                for name, seconds in tasks:
                    client.send_task(task, [name, seconds], queue="work", **options)
            return
        words = {"arq": [SEND_ARQ, str(self.redis.port), "3", json.dumps(tasks)], "chicory": [SEND_CHICORY, json.dumps(tasks), task]}
        environment = {**os.environ, **self.variables, "CHICORY_BROKER_REDIS_URL": self.redis.url(3)}
        subprocess.run([self.interpreter, "-c", *words[self.engine]], env=environment, check=True, timeout=180, cwd=self.folder)

    def hold(self, *names: str) -> None:
        """Have these tasks of arq or Chicory run until they are let go, however long that is."""
        for name in names:
            Path(f"{self.events}.{name}").touch()

    def let_go(self) -> None:
        """Have all that is held end."""
        for path in self.folder.glob(f"{self.events.name}.*"):
            path.unlink()

    def noted(self, word: str) -> dict[str, list[float]]:
        """Return when which tasks began or ended, and how often."""
        found: dict[str, list[float]] = {}
        for line in self.events.read_text().splitlines():
            kind, name, when = line.split()
            if kind == word:
                found.setdefault(name, []).append(float(when))
        return found

    def queued(self) -> list[str]:
        """The names of a Celery app's tasks in the order in which they are to be taken."""
        return [json.loads(base64.b64decode(json.loads(message)["body"]))[0][0]
                for message in reversed(self.redis.call("LRANGE", "work", 0, -1, db=3))]

    def begun(self, count: int) -> None:
        """Wait until so many tasks have begun."""
        until(lambda: len(self.noted("begin")) >= count)

    def call(self, *groups: Group, check: bool = False, wait: bool = True, resume: bool = False, patience: float = 60,
             calls: int = 100, **more: Any) -> dict[str, Any]:
        """Drain, call by call; return the last result with the steps of all."""
        order: dict[str, Any] = {"resume": resume, "wait": wait, "patience": {group["name"]: patience for group in groups}}
        steps: list[str] = []
        self.progress: list[str] = []
        for _ in range(calls):
            host_nodes = self.site.host_nodes(self.site.request(list(groups), **{"deadline_seconds": 5, **more}))
            result = drain.Drain(host_nodes, drain.Order(**order), check=check).call()
            steps += [f"{step['action']} {step['group']}.{step['slot']}.{step['incarnation']}" for step in result["steps"]]
            self.progress += result["progress"]
            if not result["more"]:
                break
            order.update(since=result["since"], known=result["known"])
        return {**result, "steps": steps, "ended": time.time()}

    def states(self, *groups: Group) -> dict[str, tuple[str, str | None]]:
        """Return the state of each node and its reason."""
        told = info.look(self.site.host_nodes(self.site.request(list(groups))), 1.0)
        return {f"{node['group']}.{node['slot']}": (node["state"], node["reason"]) for node in told["nodes"]}
