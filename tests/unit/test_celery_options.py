"""The option table against the installed Celery, and what is said about wrong declarations."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils.workfleet.engines.celery import beat, options
from plugins.module_utils.workfleet.spec import workers as spec

VALUES: dict[str, Any] = {"flag": True, "text": "/x/%n", "int": 3, "float": 2.5, "list": ["a", "b"], "pair": [10, 2]}


def parameters() -> dict[str, Any]:
    """Every parameter of the real ``celery worker``."""
    pytest.importorskip("celery")
    from celery.bin.worker import worker

    return {parameter.name: parameter for parameter in worker.params}


def test_the_table_has_every_option_of_the_installed_celery_and_no_other() -> None:
    assert set(options.OPTIONS) == set(parameters())


def test_flags_and_kinds_are_those_of_the_installed_celery() -> None:
    for name, parameter in parameters().items():
        option = options.OPTIONS[name]
        assert option.flag in parameter.opts, name
        assert (option.kind == "flag") == parameter.is_flag, name
        if option.kind == "choice":
            assert set(parameter.type.choices) - {"custom"} == set(option.choices) - {"custom"}, name


def test_rendered_options_arrive_in_the_real_command_as_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters()
    declared = {
        name: option.choices[0] if option.choices else VALUES[option.kind]
        for name, option in options.OPTIONS.items() if not option.refused
    }
    assert options.check(declared) == []
    import click
    from celery import Celery
    from celery.bin.base import CLIContext
    from celery.bin.worker import worker

    context = click.Context(worker, obj=CLIContext(app=Celery("x"), no_color=True, workdir=None), allow_extra_args=True)
    worker.parse_args(context, options.render(declared))
    for name, value in declared.items():
        if name not in ("pool", "loglevel", "autoscale"):  # these arrive as a class, a number, a tuple
            assert context.params[name] == value, name
    assert context.params["autoscale"] == (10, 2)


@pytest.mark.parametrize(("declared", "said"), [
    ({"prefetch_multipler": 1}, "did you mean prefetch_multiplier?"),
    ({"prefetch_multiplier": 0}, "options.prefetch_multiplier = 0: must be a whole number, 1 or more"),
    ({"prefetch_multiplier": True}, "must be a whole number"),
    ({"max_memory_per_child": "200MB"}, "options.max_memory_per_child = '200MB': must be a whole number"),
    ({"time_limit": -1}, "options.time_limit = -1: must be a number of seconds above 0"),
    ({"pool": "forks"}, "must be one of prefork, eventlet"),
    ({"loglevel": "verbose"}, "must be one of DEBUG, INFO"),
    ({"task_events": "yes"}, "must be true or false"),
    ({"include": "a.b"}, "must be a list of names"),
    ({"autoscale": "many"}, "[MAX, MIN]"),
    ({"autoscale": [0, 0]}, "MAX at least 1"),
    ({"soft_time_limit": 300, "time_limit": 240}, "must not be above time_limit = 240"),
    ({"autoscale": [4, 1], "pool": "solo"}, "pool solo cannot grow"),
    ({"statedb": "/var/lib/x"}, "must hold %n"),
    ({"concurrency": 4}, "use the group's key concurrency"),
    ({"queues": ["a"]}, "use the group's key queues"),
    ({"purge": True}, "would delete all waiting tasks"),
    ({"detach": True}, "refused"),
    ({"pidfile": "/x"}, "refused"),
    ({"uid": "a"}, "app_user"),
    ({"beat": True}, "worker_scheduler"),
])
def test_a_wrong_option_is_refused_with_the_way_out(declared: dict[str, Any], said: str) -> None:
    problems = options.check(declared)
    assert len(problems) == 1
    assert said in problems[0]


def test_all_mistakes_are_said_at_once() -> None:
    assert len(options.check({"pool": "x", "nonsense": 1, "time_limit": 0})) == 3


def test_an_unknown_option_lists_the_usable_ones_only() -> None:
    said = options.check({"nonsense": 1})[0]
    assert "max_tasks_per_child" in said
    assert "purge" not in said


def test_rendering_is_in_one_order_whatever_the_declaration_s() -> None:
    given = {"time_limit": 300, "loglevel": "warning", "autoscale": "2,10", "without_gossip": True,
             "task_events": False}
    expected = ["--loglevel=WARNING", "--time-limit=300", "--without-gossip", "--autoscale=10,2"]
    assert options.render(given) == options.render(dict(reversed(given.items()))) == expected


def test_each_name_that_the_real_command_line_reads_from_the_environment_is_warned_of() -> None:
    for name in parameters():
        said = options.check_environment({f"CELERY_WORKER_{name.upper()}": "s3cret"})
        assert len(said) == 1, name
        assert "s3cret" not in said[0]


def test_bare_names_of_the_real_command_line_are_warned_of() -> None:
    pytest.importorskip("celery")
    from celery.bin.celery import celery

    bare = {parameter.envvar for parameter in celery.params if getattr(parameter, "envvar", None)} - {"NO_COLOR"}
    assert bare == set(options._BARE)
    assert all(len(options.check_environment({name: "x"})) == 1 for name in bare)


def test_the_url_names_that_the_toolkit_itself_sets_and_names_for_the_app_are_fine() -> None:
    fine = {"CELERY_BROKER_URL": "redis://x", "CELERY_RESULT_BACKEND": "redis://x", "CELERY_TASK_TIME_LIMIT": "300",
            "ENABLE_CELERY": "true", "REDIS_URL": "x", "CELERY_WORKER_CONCURRENCY": ""}
    assert options.check_environment(fine) == []


def test_a_name_that_celery_only_seems_to_read_is_told() -> None:
    assert "does not read it" in options.check_environment({"CELERY_WORKER_SEND_TASK_EVENTS": "1"})[0]


def test_what_beat_s_command_line_reads_is_warned_of_for_the_scheduler_and_not_for_workers() -> None:
    pytest.importorskip("celery")
    from celery.bin.beat import beat as command

    for name in {parameter.name for parameter in command.params} - {"workdir"}:
        given = {f"CELERY_BEAT_{str(name).upper()}": "s3cret"}
        said = options.check_environment(given, "beat", beat.OPTIONS)
        assert len(said) == 1 and "s3cret" not in said[0], name
        assert options.check_environment(given) == []
    assert "declare options.max_interval" in options.check_environment({"CELERY_BEAT_MAX_INTERVAL": "1"}, "beat", beat.OPTIONS)[0]
    assert "use schedule_directory" in options.check_environment({"CELERY_BEAT_SCHEDULE": "x"}, "beat", beat.OPTIONS)[0]
    assert options.check_environment({"CELERY_WORKER_CONCURRENCY": "1"}, "beat", beat.OPTIONS) == []


@pytest.mark.parametrize("command", ["worker", "beat", "flower"])
def test_a_module_that_is_an_app_s_whole_configuration_is_warned_of(command: str) -> None:
    said, = options.check_environment({"CELERY_CONFIG_MODULE": "s3cret"}, command, {})
    assert "CELERY_CONFIG_MODULE" in said and "all of it from that module" in said and "s3cret" not in said


@pytest.mark.parametrize(("keys", "warns"), [
    ({"pool": "gevent"}, True),
    ({"pool": "gevent", "prefetch_multiplier": 2}, True),
    ({"pool": "gevent", "prefetch_multiplier": 1}, False),
    ({"pool": "gevent", "disable_prefetch": True}, False),
    ({"pool": "gevent", "time_limit": 10}, False),
    ({"pool": "threads", "prefetch_multiplier": 8}, False),
    ({"pool": "prefork", "prefetch_multiplier": 8}, False),
])
def test_a_pool_that_keeps_what_it_prefetched_beyond_its_drain_is_warned_of(keys: dict[str, Any], warns: bool) -> None:
    entry = {"name": "a", "app": "app", "drain_seconds": 60, "options": {"time_limit": 60, **keys}}
    found = spec.parse({"app": {"name": "shop"}, "groups": [entry]}).warnings
    assert ["has run what it prefetched" in text for text in found] == [True] * warns
