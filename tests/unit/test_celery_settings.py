"""The table of settings against the installed Celery; secrets and slips are refused."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils.workfleet.engines.celery import settings


def test_the_table_has_every_setting_of_the_installed_celery_and_no_other() -> None:
    pytest.importorskip("celery")
    from celery.app.defaults import DEFAULTS

    assert set(settings.SETTINGS) == set(DEFAULTS)


def test_what_is_rendered_is_read_back_by_celery_with_value_and_type() -> None:
    pytest.importorskip("celery")
    from celery import Celery

    declared: dict[str, Any] = {
        "task_acks_late": True, "task_reject_on_worker_lost": False, "task_time_limit": 300,
        "worker_max_tasks_per_child": 7,
        "broker_transport_options": {"visibility_timeout": 7200, "priority_steps": [0, 9], "sep": ":"},
        "worker_log_format": "(a) %(message)s = ü\n", "accept_content": ["json"], "enable_utc": False,
        "result_compression": "zlib", "task_routes": {"a.*": {"queue": "b c"}}, "redbeat_lock_timeout": 30,
        "task_default_rate_limit": "10/m",
        "broker_connection_max_retries": None, "task_default_priority": 3,
    }
    assert settings.check(declared) == []
    read = Celery("x").loader.cmdline_config_parser(settings.render(declared))
    assert read == declared
    assert isinstance(read["task_time_limit"], float)


@pytest.mark.parametrize(("name", "value", "said"), [
    ("broker_url", "redis://x", "use app_broker_url"),
    ("result_backend", "redis://x", "use app_result_url"),
    ("redis_password", "hunter2", "it may hold a secret"),
    ("s3_secret_access_key", "hunter2", "it may hold a secret"),
    ("broker_transport_options", {"sentinel_kwargs": {"password": "hunter2"}}, "it may hold a secret"),
    ("cassandra_servers", ["http://user:hunter2@host"], "it may hold a secret"),
    ("redbeat_redis_url", "redis://:hunter2@host/1", "it may hold a secret"),
    ("task_ack_late", True, "did you mean task_acks_late?"),
    ("tsak_acks_late", True, "did you mean task_acks_late?"),
    ("task_acks_late", "yes", "must be true or false, given is a str"),
    ("worker_max_tasks_per_child", True, "must be a whole number"),
    ("task_time_limit", "300", "must be a number"),
    ("broker_transport_options", "x", "must be a dictionary"),
    ("worker_prefetch_multiplier", 1, "use options.prefetch_multiplier"),
    ("worker_concurrency", 4, "use the group's key concurrency"),
    ("beat_scheduler", "x:Y", "use options.scheduler of worker_scheduler"),
    ("beat_schedule_filename", "/x", "use schedule_directory of worker_scheduler"),
    ("timezone", "UTC", "set it in the app's code"),
])
def test_a_wrong_setting_is_refused_with_the_way_out_and_without_its_value(name: str, value: Any, said: str) -> None:
    problems = settings.check({name: value})
    assert len(problems) == 1
    assert said in problems[0]
    assert "hunter2" not in problems[0]
