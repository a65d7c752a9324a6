"""Automagik Spark as its inventory has it: real tasks through workers, scheduler, API and PostgreSQL."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from fleet import Fleet, wait

DATA = "spark-data"
#: What of Langflow Spark's workers need: a flow that is posted to is answered.
LANGFLOW = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Flow(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers['Content-Length']))
        said = b'{"result": "answered"}'
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(said)))
        self.end_headers()
        self.wfile.write(said)
HTTPServer(('127.0.0.1', 7861), Flow).serve_forever()
"""
#: A workflow of a source with a schedule, as Spark's API stores them; prints the schedule's id.
SCHEDULE = """
from automagik_spark.core.database.models import Schedule, Workflow, WorkflowSource
from automagik_spark.core.database.session import get_sync_session
with get_sync_session() as session:
    source = WorkflowSource(source_type='langflow', url='http://127.0.0.1:{port}', encrypted_api_key=WorkflowSource.encrypt_api_key('key'))
    workflow = Workflow(name='greet', source='langflow', remote_flow_id='greet', workflow_source=source)
    schedule = Schedule(workflow=workflow, schedule_type='interval', schedule_expr='2s', status='{status}', params={{'value': 'hello'}})
    session.add(schedule)
    session.commit()
    print(schedule.id)
"""


def query(fleet: Fleet, sql: str) -> list[str]:
    """Ask Spark's database, past Spark."""
    return fleet.run(DATA, "runuser", "-u", "postgres", "--", "psql", "-At", "-d", "spark", "-c", sql).splitlines()


def runs(fleet: Fleet, schedule: str, status: str) -> int:
    """Return how many runs of a schedule Spark has noted with a status."""
    return query(fleet, "SELECT schedule_id, status FROM tasks").count(f"{schedule}|{status}")


def http(fleet: Fleet, path: str, *headers: str) -> tuple[int, str]:
    """Ask the API from its own host; return status and text."""
    code = ("import sys, urllib.error, urllib.request\n"
            f"request = urllib.request.Request('http://127.0.0.1:8883{path}', headers=dict(item.split('=') for item in sys.argv[1:]))\n"
            "try: reply = urllib.request.urlopen(request, timeout=20)\n"
            "except urllib.error.HTTPError as error: reply = error\n"
            "print(reply.status, reply.read().decode())")
    status, _, text = fleet.run(fleet.worker, "python3", "-c", code, *headers).partition(" ")
    return int(status), text


def test_workers_scheduler_and_api_run_as_declared(fleet: Fleet) -> None:
    status = fleet.status()
    told = status["hosts"][fleet.worker]
    found = [(node["group"], node["engine"], node["state"], node["queues"]) for node in (*told["nodes"], told["scheduler"])]
    assert found == [("api", "process", "ready", None), *[("workflows", "celery", "ready", ["celery", "direct"])] * 3,
                     ("scheduler", "beat", "ready", None)]
    assert status["problems"] == []


def test_a_canary_comes_back_from_both_queues(fleet: Fleet) -> None:
    fleet.play("verify")


def test_the_api_sees_its_workers_and_lets_in_whoever_has_the_key(fleet: Fleet) -> None:
    code, text = http(fleet, "/health")
    told = json.loads(text)
    assert (code, told["status"], told["services"]["worker"]["active_workers"]) == (200, "healthy", 3)
    assert [http(fleet, "/", *header)[0] for header in ([], ["X-API-Key=wrong"], ["X-API-Key=of-this-scenario"])] == [401, 401, 200]


def test_a_schedule_in_the_database_makes_the_scheduler_send_and_a_restart_of_it_too(fleet: Fleet) -> None:
    fleet.run(fleet.worker, "systemd-run", "--unit=langflow", "python3", "-c", LANGFLOW)
    schedule = fleet.in_app(SCHEDULE.format(port=7861, status="active")).splitlines()[-1]
    wait(lambda: runs(fleet, schedule, "completed") >= 3, 30)
    assert query(fleet, "SELECT DISTINCT output_data::text FROM tasks WHERE status = 'completed'") == [r'"{\"result\": \"answered\"}"']
    fleet.play("restart", worker_only="scheduler")
    assert fleet.status()["hosts"][fleet.worker]["scheduler"]["state"] == "ready"
    before = runs(fleet, schedule, "completed")
    wait(lambda: runs(fleet, schedule, "completed") > before + 1, 20)
    query(fleet, "UPDATE schedules SET status = 'paused'")
    assert runs(fleet, schedule, "failed") == 0


def test_a_workflow_whose_source_is_down_is_tried_four_times_and_then_has_failed(fleet: Fleet) -> None:
    schedule = fleet.in_app(SCHEDULE.format(port=7862, status="paused")).splitlines()[-1]
    task = fleet.in_app("from automagik_spark.core.celery.celery_app import app\n"
                        f"print(app.send_task('automagik_spark.core.tasks.workflow_tasks.execute_workflow', ['{schedule}']).id)")
    state = f"from automagik_spark.core.celery.celery_app import app; print(app.AsyncResult('{task}').state)"
    wait(lambda: runs(fleet, schedule, "failed") == 4, 40)
    wait(lambda: fleet.in_app(state) == "FAILURE", 10)
    assert "connection" in query(fleet, "SELECT DISTINCT error FROM tasks WHERE status = 'failed'")[0].lower()


def test_sparks_own_command_is_found_out_as_a_wrapper_and_nothing_of_it_stays(fleet: Fleet) -> None:
    """Its worker has a name of its own on the broker, and a scheduler for a brother: it is known by its process alone."""
    own = {"name": "own", "app": "automagik_spark.core.celery.celery_app", "queues": ["celery", "direct"], "drain_seconds": 10,
           "command": ["automagik-spark", "worker", "start"]}
    groups = [*fleet.vars["spark_workers"], own]
    before = fleet.main_processes()
    run = fleet.play("site", "--tags", "worker", expect=2, spark_workers=groups,
                     worker_rollout={"monitor_seconds": 1, "failure_action": "pause"})
    assert "workfleet.spark.own.1.1 is no good: wrapper: the worker is process" in " ".join(run.out.split())
    node, = [node for node in fleet.status(spark_workers=groups)["hosts"][fleet.worker]["nodes"] if node["group"] == "own"]
    assert node["state"] == "failed"
    children = fleet.run(fleet.worker, "ps", "-ww", "-o", "pid=,args=", "--ppid", str(node["pid"])).splitlines()
    worker, beat = sorted(children, key=lambda line: " beat " in line)
    assert (" worker " in worker, " beat " in beat) == (True, True)
    assert f"wrapper: the worker is process {worker.split()[0]}, but the unit's main process is {node['pid']}" in node["reason"]
    fleet.play("site", "--tags", "worker")
    assert fleet.main_processes() == before
    ended = fleet.run(fleet.worker, "journalctl", "--no-pager", "-u", "workfleet.spark.own.1.1")
    assert f"Killing process {worker.split()[0]} (celery) with signal SIGKILL" in ended, "the stop did reach it"
    assert fleet.run(fleet.worker, "ps", "-o", "args=", "-p", f"{node['pid']},{worker.split()[0]},{beat.split()[0]}", check=False) == ""


def test_a_second_scheduler_is_refused_before_a_host_is_touched(fleet: Fleet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        more = Path(folder) / "more.yml"
        more.write_text(f"scheduler: {{hosts: {{{DATA}: }}}}\n")
        run = fleet.play("site", "-i", str(more), expect=2)
    assert "the app spark would have 2 schedulers, on spark-1, spark-data" in " ".join(run.out.split())
    assert run.steps == []


@pytest.mark.parametrize(("change", "said"), [
    (("%23se@", "wrong@"), 'refuses user spark: password authentication failed for user "spark"'),
    (("5432/spark", "5432/nowhere"), 'refuses user spark: no pg_hba.conf entry for host'),
], ids=["password", "database"])
def test_a_database_that_does_not_let_the_app_in_is_named_and_no_node_is_touched(fleet: Fleet, change: tuple[str, str], said: str) -> None:
    before = fleet.main_processes()
    url = f"postgresql://spark:d%40ta%20b%23se@{fleet.hostvars[DATA]['ansible_host']}:5432/spark".replace(*change)
    groups = [{**group, "secrets": {"AUTOMAGIK_SPARK_DATABASE_URL": url}} for group in fleet.vars["spark_workers"]]
    run = fleet.play("site", "--tags", "app,worker", expect=2, spark_workers=groups)
    assert "nodes of workflows were not started, and none was stopped for them: AUTOMAGIK_SPARK_DATABASE_URL: " in run.out
    assert said in run.out
    assert "b%23se" not in run.out
    assert fleet.main_processes() == before


def test_with_the_database_down_no_release_becomes_current_and_a_restart_warns(fleet: Fleet) -> None:
    before = fleet.main_processes()
    current = fleet.run(fleet.worker, "readlink", "/opt/spark/current")
    fleet.run(DATA, "systemctl", "stop", "postgresql@15-main")
    commands = [[*fleet.vars["app_release_commands"][0], "again"]]
    run = fleet.play("site", "--tags", "app,worker", expect=2, app_release_commands=commands)
    assert "release command 1 of 1 (python) of spark failed" in run.out
    assert "Connection refused" in run.out
    assert (fleet.main_processes(), fleet.run(fleet.worker, "readlink", "/opt/spark/current")) == (before, current)
    run = fleet.play("restart", worker_only="api")
    assert "AUTOMAGIK_SPARK_DATABASE_URL: no PostgreSQL answers at" in " ".join(run.out.split())
    fleet.play("site")
    assert fleet.is_well()
