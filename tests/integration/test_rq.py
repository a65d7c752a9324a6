"""Real rq workers by the runner: readiness, the stop, the drain mark, kills, the scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import engines
from plugins.module_utils.workfleet.engines.base import Place
from plugins.module_utils.workfleet.engines.rq import options as rq_options
from plugins.module_utils.workfleet.errors import WorkfleetError
from tests.integration.rq_fleet import APP, ROOT, Fleet, environment, fleet, group
from tests.integration.test_arq import late_replies
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import RedisServer

ENGINE = engines.named("rq")
NODE = "rq.mails.1.1@h"


@pytest.fixture(params=["3.0.0", pytest.param("2.12.0", marks=pytest.mark.full)])
def workers(request: pytest.FixtureRequest, scratch: Path, redis_server: RedisServer) -> Iterator[Fleet]:
    with fleet(scratch, redis_server, request.param) as started:
        yield started


def idle(workers: Fleet) -> bool:
    """Whether no queue holds what no worker would run."""
    return not any(workers.redis.call("EXISTS", key) for key in ("rq:queue:default", "rq:queue:default:intermediate", "rq:wip:default"))


def test_the_table_has_every_option_of_the_installed_rq_and_no_other() -> None:
    program = "import json; from rq.cli import main; print(json.dumps([each.name for each in main.commands['worker'].params]))"
    told = subprocess.run([environment() / "bin" / "python", "-c", program], check=True, capture_output=True, text=True).stdout
    assert set(json.loads(told)) - {"queues"} == set(rq_options.OPTIONS)


def test_a_node_that_is_ready_consumes_and_its_stop_ends_with_the_running_job(workers: Fleet) -> None:
    node = workers.start().ready()
    told = ENGINE.inspect(workers.url, [NODE, "nobody"], {}, 1)
    assert list(told) == [NODE]
    assert (told[NODE].pid, told[NODE].running, told[NODE].queues) == (node.process.pid, 0, ["default"])
    workers.python("q.enqueue(tasks.record, 'runs', 0.3, True)\nq.enqueue(tasks.record, 'waits', 0)")
    until(lambda: workers.told("begin"))
    assert ENGINE.inspect(workers.url, [NODE], {}, 1)[NODE].running == 1
    for _ in range(2):  # a second signal is no other one
        node.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in node.record)
    assert node.process.wait(20) == 0, node.log
    assert workers.told("end") == ["runs"]
    assert ENGINE.waiting(workers.url, ["default"], {}) == {"default": 1}
    assert ENGINE.everybody(workers.url, {}, 1) == ({}, True)


@pytest.mark.parametrize("keys", [{}, {"command": ["rq", "worker", "-u", "URL"]}], ids=["the runner's class", "rq's own"])
def test_a_stop_while_a_job_is_popped_strands_it_with_rqs_own_class_alone(workers: Fleet, keys: dict[str, list[str]]) -> None:
    with late_replies(workers.redis.port, 0.3) as port:
        url = f"redis://127.0.0.1:{port}/0"
        words = [url if word == "URL" else word for word in keys.get("command", ())]
        given: dict[str, Any] = {"command": [f"{workers.environment}/bin/{words[0]}", *words[1:]]} if words else {}
        node = workers.start(variables={"WORKFLEET_BROKER_URL": url}, **given)
        until(lambda: workers.redis.call("PUBSUB", "CHANNELS", "rq:pubsub:*"))
        if not words:
            node.ready()
        workers.enqueue(1, 0.1)
        until(lambda: workers.redis.call("LLEN", "rq:queue:default:intermediate"))
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(30) == 0, node.log
    assert (workers.told("end"), workers.status("j0")) == (([], "queued") if words else (["j0"], "finished"))
    assert idle(workers) is not bool(words)


def test_a_node_with_its_mark_takes_nothing_and_tells_what_it_runs(workers: Fleet) -> None:
    node = workers.start().ready()
    workers.python("q.enqueue(tasks.record, 'runs', 0.5, True, retry=Retry(2))")
    until(lambda: workers.told("begin"))
    node.mark.touch()
    held = until(lambda: node.record.get("holds", {}).get("tasks"))
    assert [(task["task"], task["acked"]) for task in held] == [("app.tasks.record", False)]
    workers.enqueue(1, 0)
    until(lambda: node.record["holds"]["idle"])
    time.sleep(1.5)  # longer than one read
    assert workers.told("begin") == ["runs"]
    node.mark.unlink()
    until(lambda: workers.told("end") == ["runs", "j0"])
    assert "quiesced" not in node.record
    node.mark.touch()
    until(lambda: "quiesced" in node.record)
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(10) == 0


def test_a_node_that_starts_with_its_mark_takes_nothing(workers: Fleet) -> None:
    workers.enqueue(1, 0)
    (workers.folder / f"{NODE}.quiesced").touch()
    node = workers.start().ready()
    until(lambda: "quiesced" in node.record)
    assert ENGINE.waiting(workers.url, ["default"], {}) == {"default": 1}


def test_a_suspended_database_is_waited_for_and_a_stop_is_heard(workers: Fleet) -> None:
    workers.redis.call("SET", "rq:suspended", 1)
    workers.enqueue(1, 0)
    node = workers.start().ready()
    assert workers.redis.call("LLEN", "rq:queue:default") == 1
    workers.redis.call("DEL", "rq:suspended")
    until(lambda: workers.told("end"))
    workers.redis.call("SET", "rq:suspended", 1)
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(10) == 0


def test_a_killed_node_takes_its_job_with_it_and_starts_again_under_its_name(workers: Fleet) -> None:
    node = workers.start().ready()
    workers.enqueue(1, 600)
    until(lambda: workers.told("begin"))
    until(lambda: len(node.children()) == 2)  # the job's and the scheduler's
    children = node.children()
    node.process.kill()
    node.process.wait()
    until(lambda: not any(alive(pid) for pid in children))
    assert workers.redis.call("HEXISTS", f"rq:worker:{NODE}", "death") == 0
    again = workers.start().ready()
    workers.python("q.enqueue(tasks.record, 'next', 0)")
    until(lambda: "next" in workers.told("end"))
    assert ENGINE.inspect(workers.url, [NODE], {}, 1)[NODE].pid == again.process.pid


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_scheduler_a_queue_sends_what_is_due_and_another_takes_over(workers: Fleet) -> None:
    first = workers.start("rq.mails.1.1@h").ready()
    until(first.children)
    second = workers.start("rq.mails.2.1@h").ready()
    workers.python("q.enqueue_in(timedelta(seconds=1), tasks.record, 'due', 0)")
    until(lambda: workers.told("end") == ["due"])
    until(lambda: second.children() == [])  # it may have run the job
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    until(second.children)


def test_an_emptied_database_leaves_a_node_known(workers: Fleet) -> None:
    workers.start().ready()
    workers.redis.call("FLUSHDB")
    until(lambda: NODE in ENGINE.everybody(workers.url, {}, 1)[0])


def test_what_cannot_be_run_is_said_in_one_sentence_before_a_start(workers: Fleet) -> None:
    place = Place(NODE, str(APP), str(workers.environment), str(ROOT / "runners"))
    wrong = {"options": {"job_class": "app.tasks.Nosuch"}}
    for keys, said in (({}, ""), ({"app": "app.nosuch"}, "workfleet_rq: app.nosuch: there is no module or name nosuch in app"),
                       (wrong, "workfleet_rq: app.tasks.Nosuch: there is no module or name Nosuch")):
        words = ENGINE.trial(ENGINE.command(group(**keys), place), place.runners, 300)
        done = subprocess.run(words, cwd=APP, env={**os.environ, "PYTHONPATH": str(APP)}, check=False, capture_output=True, text=True)
        assert done.stderr.startswith(said)
        assert done.returncode == bool(said), done.stderr


def test_a_key_of_another_kind_is_named(workers: Fleet) -> None:
    workers.redis.call("SET", "rq:queue:default", 1)
    with pytest.raises(WorkfleetError, match="queue default: the key rq:queue:default in Redis is no queue of rq's"):
        ENGINE.waiting(workers.url, ["default"], {})
