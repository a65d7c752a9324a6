"""Live controls: what is refused before anything is sent, and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils.workfleet import engines
from plugins.module_utils.workfleet.engines.verbs import controls
from plugins.module_utils.workfleet.errors import WorkfleetError

REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("arq", "revoke", {"task_id": "x"}, "control = revoke: engine arq does not have it; celery has"),
    ("process", "pool_grow", {}, "control = pool_grow: engine process does not have it; celery has"),
    ("celery", "log_level", {}, "control = log_level: there is no such control; known are add_consumer, autoscale, cancel_consumer, "),
    ("celery", "add_consumer", {}, "queue: is required for add_consumer"),
    ("celery", "add_consumer", {"queue": "q", "task_id": "x"}, "task_id: means nothing to add_consumer, which takes queue"),
    ("celery", "pool_grow", {"processes": "0"}, "processes = '0': must be a whole number, 1 or more"),
    ("celery", "pool_grow", {"processes": "two"}, "must be a whole number"),
    ("celery", "autoscale", {"autoscale_max": "2", "autoscale_min": "3"}, "autoscale_min: is above autoscale_max"),
    ("celery", "rate_limit", {"task_name": "t", "rate_limit": "10/d"}, "rate_limit = '10/d': must be a number of tasks a second, or such"),
    ("celery", "time_limit", {"task_name": "t", "time_limit": "5", "soft_time_limit": "6"}, "soft_time_limit: is above time_limit"),
    ("celery", "time_limit", {"task_name": "t", "time_limit": "0"}, "must be a number of seconds above 0"),
    ("celery", "revoke", {"task_id": "x", "terminate": "perhaps"}, "terminate = 'perhaps': must be true or false"),
]

CONTROLS = {engine.name: engine.controls for engine in engines.ENGINES.values()}


@pytest.mark.parametrize(("engine", "control", "arguments", "said"), REFUSED)
def test_what_is_wrong_is_said(engine: str, control: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkfleetError) as raised:
        controls.check(engine, CONTROLS, control, arguments)
    assert said in str(raised.value)


def test_texts_of_a_command_line_become_what_the_engine_takes() -> None:
    assert controls.check("celery", CONTROLS, "pool_grow", {"processes": "2"}) == {"processes": 2}
    assert controls.check("celery", CONTROLS, "revoke", {"task_id": "x", "terminate": "true"}) == {"task_id": "x", "terminate": True}
    assert controls.check("celery", CONTROLS, "time_limit", {"task_name": "t", "time_limit": "5", "soft_time_limit": 2.5}) == {
        "task_name": "t", "time_limit": 5.0, "soft_time_limit": 2.5}
