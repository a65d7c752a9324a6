"""A wrong declaration: every mistake at once, each with entry, key, value and what is allowed; never a secret."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet.model import Policy
from plugins.module_utils.workfleet.spec import checker
from plugins.module_utils.workfleet.spec import workers as spec

PROCESS = {"name": "a", "engine": "process", "command": ["sleep", "1"]}
CELERY = {"name": "a", "app": "app.celery_app"}


def declaration(*groups: Any, app: Any = None, **top: Any) -> dict[str, Any]:
    return {"host": "h1", "app": {"name": "shop"} if app is None else app, "groups": list(groups), **top}


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(checker.SpecError) as caught:
        spec.parse(raw)
    assert str(caught.value).startswith(f"the declaration has {len(caught.value.problems)} mistake")
    assert all(f"- {text}" in str(caught.value) for text in caught.value.problems)
    return caught.value.problems


#: What is wrong with a group: the keys that are set on a right one, and all that the one message has to name.
GROUPS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an unknown key": ({"nodez": 2}, ["worker_groups[0] (a)", "nodez", "unknown key", "did you mean nodes?", "drain_seconds"]),
    "nodes below zero": ({"nodes": -1}, ["(a): nodes = -1", "a whole number, 0 or more"]),
    "nodes that are no number": ({"nodes": "many"}, ["(a): nodes = 'many'", "a whole number, 0 or more"]),
    "half a node": ({"nodes": 1.5}, ["(a): nodes = 1.5", "a whole number"]),
    "a truth value for a number": ({"nodes": True}, ["(a): nodes = True", "a whole number"]),
    "concurrency zero": ({**CELERY, "engine": "celery", "command": None, "concurrency": 0},
                         ["(a): concurrency = 0", "a whole number, 1 or more"]),
    "a name that is no unit name": ({"name": "A b"}, ["(A b): name = 'A b'", "a letter, then up to 30 of a-z 0-9 _ -"]),
    "a name that is too long": ({"name": "a" * 32}, ["name = ", "up to 30"]),
    "an unknown engine": ({"engine": "huey"}, ["(a): engine = 'huey'", "one of celery, arq, chicory, rq, process"]),
    "an unknown state": ({"state": "up"}, ["(a): state = 'up'", "one of started, stopped, absent"]),
    "an unknown sandbox": ({"sandbox": "total"}, ["(a): sandbox = 'total'", "one of basic, strict, none"]),
    "no time to drain": ({"drain_seconds": 0}, ["(a): drain_seconds = 0", "1 or more"]),
    "a command as one text": ({"command": "sleep 1"}, ["(a): command = 'sleep 1'", "a list: the program and its arguments"]),
    "NUL in a command": ({"command": ["a\0b"]}, ["(a): command = ", "a list: the program and its arguments"]),
    "no command": ({"command": None}, ["(a): command", "required for engine process", "a list"]),
    "queues without an engine": ({"queues": ["x"]}, ["(a): queues", "means nothing to engine process"]),
    "a comma in a queue": ({**CELERY, "engine": "celery", "command": None, "queues": ["x,y"]},
                           ["(a): queues = 'x,y'", "names without a comma"]),
    "an unknown limit": ({"limits": {"memory": "1G"}}, ["(a): limits: memory", "did you mean memory_max?", "open_files"]),
    "a size in other words": ({"limits": {"memory_max": "1 GB"}}, ["limits: memory_max = '1 GB'", "K, M, G or T"]),
    "a quota without a percent sign": ({"limits": {"cpu_quota": 2}}, ["limits: cpu_quota = 2", "150%"]),
    "no open files": ({"limits": {"open_files": 0}}, ["limits: open_files = 0", "1 or more"]),
    "too nice": ({"limits": {"nice": 20}}, ["limits: nice = 20", "from -20 to 19"]),
    "endlessly nice": ({"limits": {"nice": float("inf")}}, ["limits: nice = inf", "from -20 to 19"]),
    "a relative path": ({"writable_paths": ["tmp"]}, ["(a): writable_paths = 'tmp'", "absolute paths"]),
    "a directive that is none": (
        {"sandbox_without": ["NoNewPrivilege"]}, ["(a): sandbox_without = 'NoNewPrivilege'", "did you mean NoNewPrivileges?"]),
    "a directive that its level does not set": (
        {"sandbox_without": ["PrivateTmp"]}, ["'PrivateTmp'", "sandbox: basic sets CapabilityBoundingSet,"]),
    "a directive of no sandbox": ({"sandbox": "none", "sandbox_without": ["PrivateTmp"]}, ["sandbox: none sets nothing"]),
    "a path that its sandbox hides": (
        {"sandbox": "strict", "writable_paths": ["/home/x"]}, ["(a): sandbox", "hides all below /home", "'/home/x'", "ProtectHome"]),
    "an environment name with a dash": ({"env": {"A-B": "x"}}, ["(a): env.A-B", "letters, digits and _"]),
    "a name that is the toolkit's": ({"env": {"SPT_NOENV": "x"}}, ["(a): env.SPT_NOENV", "by the toolkit itself"]),
    "a value that YAML has changed": ({"env": {"DEBUG": True}}, ["(a): env.DEBUG", "put quotes around it"]),
    "NUL in a value": ({"env": {"X": "a\0b"}}, ["(a): env.X", "without NUL"]),
    "half a character in a value": ({"env": {"X": "\ud800"}}, ["(a): env.X", "unicode text"]),
    "soft limit above hard limit": (
        {**CELERY, "engine": "celery", "command": None, "options": {"time_limit": 5, "soft_time_limit": 9}},
        ["(a): options.soft_time_limit = 9", "above time_limit = 5"]),
    "an unknown option": (
        {**CELERY, "engine": "celery", "command": None, "options": {"max_task_per_child": 5}},
        ["(a): options", "max_task_per_child", "max_tasks_per_child"]),
    "no app": ({"engine": "celery", "command": None}, ["(a): app", "required for engine celery"]),
}


@pytest.mark.parametrize(("changes", "words"), GROUPS.values(), ids=GROUPS.keys())
def test_a_mistake_in_a_group_is_named(changes: dict[str, Any], words: list[str]) -> None:
    found = problems(declaration({**PROCESS, **changes}))
    assert len(found) == 1, found
    assert [word for word in words if word not in found[0]] == [], found[0]


TOPS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no name": (declaration(app={}), ["app_name: is required"]),
    "a name with capitals": (declaration(app={"name": "Shop"}), ["app_name = 'Shop'", "lower-case"]),
    "a user who would end a unit's line": (
        declaration(app={"name": "shop", "user": "x\nExecStartPre=/bin/evil"}), ["app_user = ", "name of an account"]),
    "a relative root": (declaration(app={"name": "shop", "root": "opt"}), ["app_root = 'opt'", "an absolute path"]),
    "a root with a blank that unit files lose": (
        declaration(app={"name": "shop", "root": "/opt/x "}), ["app_root = '/opt/x '", "a blank at its end"]),
    "a URL without a scheme": (
        declaration(app={"name": "shop", "broker_url": ":geheim@host"}), ["app_broker_url: must be a URL such as"]),
    "a bad environment name for the broker": (
        declaration(app={"name": "shop", "broker_env": ["A-B"]}), ["app_broker_env = 'A-B'", "environment names"]),
    "an unknown manager": (declaration(manager="runit"), ["worker_manager = 'runit'", "one of systemd, supervisor"]),
    "a run directory that systemd cannot make": (
        declaration(run_directory="/tmp/x"), ["worker_run_directory = '/tmp/x'", "below /run"]),
    "a run directory that climbs": (
        declaration(run_directory="/run/../etc"), ["worker_run_directory = '/run/../etc'", "below /run"]),
    "groups that are a mapping": ({**declaration(), "groups": {"a": 1}}, ["worker_groups", "a list"]),
    "a group that is a text": (declaration("a"), ["worker_groups[0]", "a mapping with at least a name"]),
    "a group without a name": (declaration({**PROCESS, "name": None}), ["worker_groups[0]: name: is required"]),
    "two groups of one name": (
        declaration(PROCESS, PROCESS), ["worker_groups[1] (a): name", "worker_groups[0]", "unique"]),
    "a rollout that is a text": (declaration(rollout="fast"), ["worker_rollout: must be a mapping"]),
    "an unknown word in the rollout": (declaration(rollout={"paralelism": 2}), ["paralelism", "did you mean parallelism?"]),
    "no parallelism": (declaration(rollout={"parallelism": 0}), ["worker_rollout: parallelism = 0", "a count of 1 or more"]),
    "too much parallelism": (declaration(rollout={"parallelism": "120%"}), ["parallelism = '120%'", "up to 100%"]),
    "time that runs backwards": (declaration(rollout={"delay_seconds": -1}), ["delay_seconds = -1", "0 or more"]),
    "an order that is none": (declaration(rollout={"order": "both"}), ["order = 'both'", "start-first, stop-first"]),
    "an end of a drain that is none": (
        declaration(rollout={"drain_timeout_action": "stop"}), ["drain_timeout_action = 'stop'", "wait, kill"]),
    "a wish that is neither yes nor no": (declaration(rollout={"wait_for_drain": "often"}), ["wait_for_drain = 'often'", "true or false"]),
    "a log that is a text": (declaration(log="journal"), ["worker_log: must be a mapping"]),
    "a limit that supervisor cannot keep": (
        declaration({**PROCESS, "limits": {"memory_max": "1G"}}, manager="supervisor"),
        ["limits: memory_max = '1G'", "cannot be kept by supervisor", "worker_manager: systemd"]),
    "a sandbox that supervisor cannot keep": (
        declaration({**PROCESS, "sandbox": "strict"}, manager="supervisor"),
        ["(a): sandbox = 'strict'", "cannot be kept by supervisor", "worker_manager: systemd"]),
    "an app that its sandbox hides": (
        declaration({**PROCESS, "sandbox": "strict"}, app={"name": "shop", "root": "/home/x/shop"}),
        ["(a): sandbox", "app_root = '/home/x/shop'", "ProtectHome"]),
    "a directive that supervisord's unit does not set": (
        declaration({**PROCESS, "sandbox_without": ["PrivateTmp"]}, manager="supervisor"),
        ["(a): sandbox_without", "SystemCallFilter here"]),
    "paths of a sandbox that supervisor has not": (
        declaration(scheduler={"app": "shop", "writable_paths": ["/x"]}, manager="supervisor"),
        ["worker_scheduler: writable_paths = ['/x']", "cannot be kept by supervisor"]),
}


@pytest.mark.parametrize(("raw", "words"), TOPS.values(), ids=TOPS.keys())
def test_a_mistake_outside_of_the_groups_is_named(raw: dict[str, Any], words: list[str]) -> None:
    found = problems(raw)
    assert len(found) == 1, found
    assert [word for word in words if word not in found[0]] == [], found[0]


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(declaration(
        {**CELERY, "nodes": -1, "options": {"time_limit": 5, "soft_time_limit": 9}}, {**PROCESS, "nodez": 1, "name": "b"},
        PROCESS, {"engine": "huey"}, app={"name": "Shop", "root": "x"}, manager="runit", rollout={"order": "random"}))
    for words in ("app_name", "app_root", "worker_manager", "nodes = -1", "soft_time_limit", "nodez", "name: is used by",
                  "worker_groups[3]: name: is required", "engine = 'huey'", "worker_rollout: order"):
        assert sum(words in text for text in found) == 1, words
    assert len(found) == 10


def test_a_refused_key_is_not_called_missing_too() -> None:
    assert len(problems(declaration({**PROCESS, "command": "sleep 1"}))) == 1


POLICY = {"max": 4, "backlog_per_node": 10}
SCALED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an unknown key": ({"autoscale": {**POLICY, "maximum": 4}}, ["(a): autoscale: maximum", "did you mean max?"]),
    "no max": ({"autoscale": {"backlog_per_node": 1}}, ["(a): autoscale: max: is required"]),
    "no backlog": ({"autoscale": {"max": 4}}, ["(a): autoscale: backlog_per_node: is required"]),
    "min above max": ({"autoscale": {**POLICY, "min": 5}}, ["(a): autoscale: min = 5", "must not be above max, which is 4"]),
    "min below zero": ({"autoscale": {**POLICY, "min": -1}}, ["autoscale: min = -1", "0 or more"]),
    "max zero": ({"autoscale": {**POLICY, "min": 0, "max": 0}}, ["autoscale: max = 0", "1 or more"]),
    "no task a node": ({"autoscale": {**POLICY, "backlog_per_node": 0}}, ["autoscale: backlog_per_node = 0", "1 or more"]),
    "a window below zero": ({"autoscale": {**POLICY, "scale_up_after_seconds": -1}}, ["scale_up_after_seconds = -1", "0 or more"]),
    "an age of nothing": ({"autoscale": {**POLICY, "oldest_age_seconds": 0}}, ["oldest_age_seconds = 0", "above 0"]),
    "paused by a word": ({"autoscale": {**POLICY, "paused": "yes"}}, ["autoscale: paused = 'yes'", "true or false"]),
    "a number": ({"autoscale": 4}, ["(a): autoscale: must be a mapping"]),
    "without queues": ({"autoscale": POLICY, "queues": []}, ["(a): autoscale: needs the names of the queues"]),
    "for a plain command": ({**PROCESS, "app": None, "queues": [], "autoscale": POLICY}, ["(a): autoscale: engine process has no queues"]),
}


@pytest.mark.parametrize(("changes", "words"), SCALED.values(), ids=SCALED.keys())
def test_a_mistake_in_a_policy_is_named(changes: dict[str, Any], words: list[str]) -> None:
    found = problems(declaration({**CELERY, "queues": ["q"], **changes}, app={"name": "shop", "broker_url": "redis://h"}))
    assert len(found) == 1, found
    assert [word for word in words if word not in found[0]] == [], found[0]


def test_a_policy_needs_the_broker() -> None:
    assert problems(declaration({**CELERY, "queues": ["q"], "autoscale": POLICY})) == [
        "worker_groups[0] (a): autoscale: needs app_broker_url, where the backlog is"]


def test_a_policy_is_parsed_with_its_defaults() -> None:
    app = {"name": "shop", "broker_url": "redis://h"}
    given = {**CELERY, "queues": ["q"], "autoscale": {**POLICY, "scale_up_after_seconds": "5", "paused": True}}
    assert spec.parse(declaration(given, app=app)).groups[0].autoscale == Policy(
        min=1, max=4, backlog_per_node=10, scale_up_after_seconds=5, scale_down_after_seconds=300, oldest_age_seconds=None, paused=True)
    assert spec.parse(declaration({**given, "autoscale": {}}, app=app)).groups[0].autoscale is None


def test_groups_that_are_not_there_cannot_be_chosen() -> None:
    assert spec.selected("a, b") == ["a", "b"] and spec.selected("") is None
    assert spec.unknown_names("a, b", ["a", "c"]) == ["worker_only: b: no such worker group; known are a, c"]
    assert spec.unknown_names(" ,", ["a"]) == ["worker_only = ' ,': names no worker group; known are a"]
    assert spec.unknown_names("a", ["a"]) == spec.unknown_names(None, []) == []


def test_a_percentage_is_of_the_groups_nodes_and_at_least_one() -> None:
    rollout = spec.parse(declaration(rollout={"parallelism": "25%"})).rollout
    assert [rollout.batch(nodes) for nodes in (1, 3, 4, 8, 10)] == [1, 1, 1, 2, 2]


# --- Secrets ------------------------------------------------------------------------------------------------------

#: Long enough not to be in a message by accident.
SECRETS = st.text(st.sampled_from("aZ9 '\"%$\\\n#;é{}\x07"), min_size=4, max_size=20).map(lambda text: f"GEHEIM{text}GEHEIM")
WRONG = st.one_of(
    SECRETS.map(lambda text: text + "\0"), SECRETS.map(lambda text: text + "\ud800"), SECRETS.map(lambda text: [text]),
    SECRETS.map(lambda text: {"x": text}), SECRETS.map(lambda text: (text, 1)), SECRETS, SECRETS.map(str.encode),
)


@st.composite
def leaky(draw: st.DrawFn) -> dict[str, Any]:
    """Wrong declarations with secrets wherever secrets belong, and where people put them by mistake."""
    def some(right: st.SearchStrategy[Any]) -> Any:
        return draw(st.one_of(right, WRONG))

    mapping = st.dictionaries(st.sampled_from(["A", "B-C", "1", "PASSWORD", "SPT_NOENV"]), WRONG, max_size=3)
    app = {"name": "shop", "env": some(mapping), "secrets": some(mapping), "broker_url": some(SECRETS),
           "result_url": some(SECRETS), "broker_options": some(mapping)}
    settings_ = st.dictionaries(st.sampled_from(["broker_url", "task_acks_late", "sentinel_kwargs", "x_password"]), WRONG)
    group = {**draw(st.sampled_from([PROCESS, CELERY])), "env": some(mapping), "secrets": some(mapping),
             "settings": some(settings_), "nodes": -1}
    return declaration(group, app=app)


@settings(deadline=None, max_examples=300)
@given(leaky())
def test_no_message_repeats_what_may_be_secret(raw: dict[str, Any]) -> None:
    assert "GEHEIM" not in "\n".join(problems(raw))


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(["A", "B", "DEBUG"]), SECRETS), SECRETS)
def test_no_warning_repeats_what_may_be_secret(values: dict[str, str], url: str) -> None:
    declared = spec.parse(declaration(
        {**CELERY, "env": {"CELERY_BROKER": url}, "secrets": values},
        app={"name": "shop", "secrets": {**values, "CELERY_LOADER": url}, "broker_url": f"redis://:{quote(url)}@h"}))
    assert declared.warnings and "GEHEIM" not in str(declared.warnings)


LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "an option": ({"options": {"time_limit": 400}}, "drain_seconds = 300 is below options.time_limit = 400"),
    "a setting": ({"settings": {"task_time_limit": 400.5}}, "drain_seconds = 300 is below settings.task_time_limit = 400.5"),
    "an option wins over a setting": ({"options": {"time_limit": 400}, "settings": {"task_time_limit": 200}}, "options.time_limit = 400"),
    "a word of the command": ({"command": ["celery", "worker", "--time-limit=400", "-E"]}, "is below --time-limit = 400"),
    "two words of the command": ({"command": ["celery", "worker", "--time-limit", "400"]}, "is below --time-limit = 400"),
    "a setting that fits": ({"settings": {"task_time_limit": 300}}, ""),
    "a word that fits": ({"command": ["celery", "worker", "--time-limit", "30.5"]}, ""),
    "a setting that is no limit": ({"settings": {"task_time_limit": 0}}, "neither drain_seconds nor"),
    "a soft limit only": ({"command": ["celery", "worker", "--soft-time-limit", "400"]}, "neither drain_seconds nor"),
    "no limit, and a bound": ({"drain_seconds": 300}, ""),
}


@pytest.mark.parametrize(("keys", "said"), LIMITS.values(), ids=LIMITS.keys())
def test_a_drain_is_compared_with_the_limit_of_a_celery_task_wherever_that_is_said(keys: dict[str, Any], said: str) -> None:
    warnings = spec.parse(declaration({**CELERY, **keys})).warnings
    assert len(warnings) == bool(said) and said in "".join(warnings), warnings


#: Commands, the engine of their group, and whether they start a scheduler.
BEATS: dict[str, tuple[str, str, bool]] = {
    "inside of a worker": ("celery -A app worker -B -E", "celery", True),
    "inside of a worker, in full": ("python -m celery -A app worker --beat", "process", True),
    "alone": ("/opt/shop/venv/bin/celery -A app beat -l INFO", "process", True),
    "by a shell": ("sh -c 'exec celery -A app beat'", "celery", True),
    "by a program of the app's own": ("automagik-spark beat start", "celery", True),
    "a worker": ("celery -A app worker -Q beat -n beat", "celery", False),
    "python's own -B": ("python -B start.py worker", "celery", False),
    "python's own -B before celery": ("python -B -m celery worker", "celery", False),
    "no celery": ("drums beat", "process", False),
}


@pytest.mark.parametrize(("command", "engine", "beats"), BEATS.values(), ids=BEATS.keys())
def test_a_scheduler_in_a_command_is_warned_of_and_refused_in_several_nodes(command: str, engine: str, beats: bool) -> None:
    group = {"name": "a", "engine": engine, "app": "app", "drain_seconds": 60, "command": shlex.split(command)}
    if engine == "process":
        del group["app"]
    warnings = spec.parse(declaration(group)).warnings
    assert ["(a): command: starts a celery beat, and nothing keeps it the only one" in text for text in warnings] == [True] * beats
    if beats:
        said, = problems(declaration({**group, "nodes": 2}))
        assert "(a): command: starts a celery beat in each of 2 nodes" in said and "worker_scheduler" in said
        assert spec.parse(declaration({**group, "nodes": 2, "state": "absent"})).warnings == ()


BROKER = "redis://:geheim@redis1/0"
URLS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "celery's own name": ({**CELERY, "env": {"CELERY_BROKER_URL": "redis://other"}}, {}, "CELERY_BROKER_URL"),
    "celery's own name, whatever the app reads": (
        {**CELERY, "env": {"CELERY_BROKER_URL": "redis://other"}}, {"broker_env": ["REDIS_URL"]}, "CELERY_BROKER_URL"),
    "where celery takes tasks from": ({**CELERY, "secrets": {"CELERY_BROKER_READ_URL": "redis://other"}}, {}, "CELERY_BROKER_READ_URL"),
    "where celery sends tasks to": (CELERY, {"secrets": {"CELERY_BROKER_WRITE_URL": "redis://other"}}, "CELERY_BROKER_WRITE_URL"),
    "celery's results": (CELERY, {"env": {"CELERY_RESULT_BACKEND": "redis://other"}}, "CELERY_RESULT_BACKEND"),
    "the app's name": (CELERY, {"broker_env": ["REDIS_URL"], "env": {"REDIS_URL": "redis://other"}}, "REDIS_URL"),
    "the app's name for results": (CELERY, {"result_env": ["STORE"], "env": {"STORE": "redis://other"}}, "STORE"),
    "chicory's": ({"name": "a", "engine": "chicory", "app": "a:b", "env": {"CHICORY_BROKER_REDIS_URL": "redis://other"}}, {},
                  "CHICORY_BROKER_REDIS_URL"),
    "the runner's": ({"name": "a", "engine": "arq", "app": "a.B", "env": {"WORKFLEET_BROKER_URL": "redis://other"}}, {},
                     "WORKFLEET_BROKER_URL"),
}


@pytest.mark.parametrize(("group", "app", "name"), URLS.values(), ids=URLS.keys())
def test_another_broker_than_the_one_that_is_looked_at_is_warned_of(group: dict[str, Any], app: dict[str, Any], name: str) -> None:
    app = {"name": "shop", "broker_url": BROKER, "result_url": f"{BROKER}1", **app}
    group = {"drain_seconds": 300, **group}
    said, = spec.parse(declaration(group, app=app)).warnings
    variable = "app_result_url" if name in ("CELERY_RESULT_BACKEND", "STORE") else "app_broker_url"
    assert f"environment {name}: is another URL than {variable}" in said
    assert "geheim" not in said and "other" not in said.replace("the other", "").replace("another", "")


def test_the_same_url_and_those_of_an_app_that_is_not_looked_at_are_no_other_broker() -> None:
    group = {**CELERY, "drain_seconds": 300, "secrets": {"CELERY_BROKER_URL": BROKER}}
    assert spec.parse(declaration(group, app={"name": "shop", "broker_url": BROKER})).warnings == ()
    assert spec.parse(declaration(group)).warnings == ()
    api = {**PROCESS, "env": {"REDIS_URL": "redis://cache"}}
    assert spec.parse(declaration(api, app={"name": "shop", "broker_url": BROKER, "broker_env": ["REDIS_URL"]})).warnings == ()


FORMATS = {
    "celery": ({"engine": "celery", "app": "a", "settings": {"worker_task_log_format": "own"}},
               {"worker_log_format": "%(message)s", "worker_task_log_format": "own"}, {}),
    "arq": ({"engine": "arq", "app": "a.B"}, {}, {"log_format": "%(message)s"}),
    "chicory": ({"engine": "chicory", "app": "a:b"}, {}, {"log_format": "%(message)s"}),
}


@pytest.mark.parametrize(("group", "settings", "more"), FORMATS.values(), ids=FORMATS.keys())
def test_a_log_format_reaches_the_group_as_its_engine_takes_it(
    group: dict[str, Any], settings: dict[str, Any], more: dict[str, Any]
) -> None:
    found, = spec.parse({"app": {"name": "shop"}, "groups": [{"name": "a", **group}], "log": {"format": "%(message)s"}}).groups
    assert (dict(found.settings), dict(found.more)) == (settings, more)


def test_a_group_that_cannot_be_told_a_log_format_keeps_its_own_and_refused_the_whole_inventory_once() -> None:
    own = {"name": "own", "engine": "arq", "app": "a.B", "command": ["start"]}
    log = {"name": "log", "engine": "arq", "app": "a.B", "options": {"custom_log_dict": "a.LOG"}}
    mine = {"name": "mine", "app": "a", "command": ["start"], "drain_seconds": 300}
    groups = [PROCESS, own, log, mine, {"name": "told", "app": "a", "drain_seconds": 300}]
    found = spec.parse(declaration(*groups, log={"format": "%(message)s"}))
    said = [text.partition(",")[0] for text in found.warnings if text.startswith("worker_log: format: ")]
    assert said == [f"worker_log: format: is not that of {name}" for name in ("a", "own", "log", "mine")]
    assert [bool(group.settings or group.more) for group in found.groups] == [False, False, False, False, True]


@pytest.mark.parametrize(("log", "said"), [
    ({"format": "%(nosuch)s"}, "worker_log: format = '%(nosuch)s': must be a format of Python's logging"),
    ({"format": "%(message"}, "must be a format of Python's logging"),
    ({"format": "a\n%(message)s"}, "must be a format of Python's logging"),
    ({"to": "syslog"}, "worker_log: to = 'syslog': "),
])
def test_a_log_that_cannot_be_is_refused(log: dict[str, Any], said: str) -> None:
    assert any(said in text for text in problems(declaration(PROCESS, log=log)))
