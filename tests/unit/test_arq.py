"""What is said about declarations of arq groups, and what they become."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from plugins.module_utils.workfleet import engines, model
from plugins.module_utils.workfleet.decode import BadEntry
from plugins.module_utils.workfleet.engines import pickled
from plugins.module_utils.workfleet.engines.arq import options as arq_options
from plugins.module_utils.workfleet.engines.arq import queues as arq_queues
from plugins.module_utils.workfleet.engines.base import Place
from plugins.module_utils.workfleet.engines.verbs.report import Report
from plugins.module_utils.workfleet.spec import checker
from plugins.module_utils.workfleet.spec import workers as spec

PLACE = Place(node="flow.flows.1.1@h", directory="/opt/flow/src", environment="/opt/flow/venv", runners="/opt/flow/workfleet")
VALUES: dict[str, Any] = {"flag": True, "text": "x", "int": 3, "float": 2.5}


def declared(**keys: Any) -> model.Declaration:
    entry = {"name": "flows", "engine": "arq", "app": "app.worker.WorkerSettings", **keys}
    return spec.parse({"app": {"name": "flow"}, "groups": [entry]})


def problems(**keys: Any) -> list[str]:
    with pytest.raises(checker.SpecError) as raised:
        declared(**keys)
    return raised.value.problems


def test_a_group_becomes_the_runners_command_line() -> None:
    group = declared(queues=["a b"], concurrency=4, drain_seconds=600,
                     options={"job_timeout": 2.5, "timezone": "Europe/Berlin", "retry_jobs": False}).groups[0]
    assert engines.named("arq").command(group, PLACE) == [
        "/opt/flow/venv/bin/python", "/opt/flow/workfleet/workfleet_arq.py", "--node", "flow.flows.1.1@h", "--queue", "a b",
        "--drain-seconds", "600", "app.worker.WorkerSettings", "max_jobs=4", "job_timeout=2.5", "retry_jobs=false",
        'timezone="Europe/Berlin"',
    ]


def test_without_queues_the_classes_own_queue_stays() -> None:
    group = declared().groups[0]
    assert "--queue" not in engines.named("arq").command(group, PLACE)
    assert engines.named("arq").queues(group) == ("arq:queue",)


def test_every_usable_option_is_taken_and_rendered() -> None:
    usable = {name: VALUES[option.kind] for name, option in arq_options.OPTIONS.items() if not option.refused}
    assert arq_options.check(usable) == []
    assert [word.partition("=")[0] for word in arq_options.render(usable)] == list(usable)


@pytest.mark.parametrize(("keys", "said"), [
    ({"app": None}, "app: is required for engine arq: the dotted path of the settings class"),
    ({"app": "worker"}, "app = 'worker': must be the dotted path of the settings class"),
    ({"app": "app.worker; rm"}, "must be the dotted path"),
    ({"queues": ["a", "b"]}, "queues: an arq worker consumes one queue, given are 2; declare a worker group for each"),
    ({"settings": {"max_jobs": 1}}, "settings: arq has no settings beside its worker's options; use options"),
    ({"concurrency": 2, "options": {"max_jobs": 2}}, "concurrency and options.max_jobs are the same"),
    ({"command": ["python", "start.py"], "options": {"max_jobs": 2}}, "command: replaces the runner"),
    ({"options": {"max_job": 2}}, "options.max_job: no such name; did you mean max_jobs? Known: allow_abort_jobs, custom_log_dict, "),
    ({"options": {"max_jobs": 0}}, "options.max_jobs = 0: must be a whole number, 1 or more"),
    ({"options": {"job_timeout": 0}}, "options.job_timeout = 0: must be a number of seconds above 0"),
    ({"options": {"keep_result": -1}}, "options.keep_result = -1: must be a number of seconds, 0 or more"),
    ({"options": {"retry_jobs": "no"}}, "options.retry_jobs = 'no': must be true or false"),
    ({"options": {"burst": True}}, "options.burst: refused: a node that ends when its queue is empty is started again"),
    ({"options": {"max_burst_jobs": 1}}, "options.max_burst_jobs: refused"),
    ({"options": {"queue_name": "a"}}, "options.queue_name: refused: use the group's key queues, a list of one"),
    ({"options": {"job_completion_wait": 1}}, "use the group's key drain_seconds"),
    ({"options": {"health_check_key": "k"}}, "each node has its own"),
    ({"options": {"redis_settings": "x"}}, "the broker is app_broker_url"),
    ({"options": {"functions": []}}, "options.functions: refused: it is code"),
])
def test_a_wrong_entry_is_refused_with_the_way_out(keys: dict[str, Any], said: str) -> None:
    found = problems(**keys)
    assert len(found) == 1
    assert found[0].startswith("worker_groups[0] (flows): ")
    assert said in found[0]


@pytest.mark.parametrize(("keys", "said"), [
    ({"options": {"job_timeout": 3600}}, "drain_seconds = 300 is below options.job_timeout = 3600"),
    ({"drain_seconds": 60}, "drain_seconds = 60 is below arq's own job_timeout of 300 s"),
    ({"options": {"health_check_interval": 3600}}, "a node that hangs passes for a healthy one"),
    ({"command": ["python", "start.py"]}, "without the toolkit's runner a stop cancels running jobs"),
])
def test_what_will_hurt_is_warned_about(keys: dict[str, Any], said: str) -> None:
    warnings = declared(**keys).warnings
    assert len(warnings) == 1
    assert said in warnings[0]


def test_a_sound_group_has_no_warnings() -> None:
    assert declared(drain_seconds=600, options={"job_timeout": 600}).warnings == ()


def test_a_nodes_figures_are_read_and_those_of_arqs_own_worker_too() -> None:
    ours = "Nov-23 08:17:52 j_complete=5 j_failed=2 j_retried=1 j_ongoing=3 queued=9 pid=77 max_jobs=10 queue=my queue=1"
    assert arq_queues.report(ours) == Report(77, 10, 3, 0, 7, 2, ["my queue=1"])
    assert arq_queues.report("nonsense") == Report(None, None, None, 0, None, None, None)


@pytest.mark.parametrize("data", [b"", b"{}", b"\x80\x04N", b"cos\nsystem\n(S'true'\n", b"." * 2_000_000])
def test_bytes_that_are_no_pickle_are_said_to_be_none(data: bytes) -> None:
    with pytest.raises(BadEntry):
        pickled.read(data)


def test_plain_values_come_out_of_a_pickle_as_they_went_in() -> None:
    value = {"s": True, "r": [1, "two", None, (3.0,), {"k": b"v"}]}
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        assert pickled.read(pickle.dumps(value, protocol)).told == value
