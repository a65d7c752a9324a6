"""The texts that a host is sent: read back by the rules of those who read them there, and free of secrets."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.host import envfile
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import workers as spec
from ansible_collections.workfleet.core.plugins.plugin_utils.render import Renderer, unit_words
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import values

if TYPE_CHECKING:
    from pathlib import Path

UNIT_KEYS = {
    "Description", "X-Workfleet-App", "X-Workfleet-Generation", "Wants", "After", "StartLimitIntervalSec", "Type", "User", "Group",
    "WorkingDirectory", "RuntimeDirectory", "RuntimeDirectoryPreserve", "ExecStart", "Restart", "RestartSec", "TimeoutStartSec",
    "KillMode", "KillSignal", "TimeoutStopSec", "SendSIGKILL", "OOMPolicy", "SyslogIdentifier", "WantedBy", "ProtectSystem",
}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
WORDS = st.one_of(TEXT, st.sampled_from([*values.FIXED, *values.ODD]))


def rendered(manager: str = "systemd", *, overrides: str | None = None, app: dict[str, Any] | None = None,
             **group: Any) -> tuple[dict[str, Any], Renderer]:
    """Return one group as it is sent, and its renderer."""
    declared = spec.parse({
        "host": "h1", "manager": manager, "app": {"name": "shop", "has_release": False, **(app or {})},
        "groups": [{"name": "a", "engine": "process", "command": ["sleep", "1"], **group}]})
    renderer = Renderer(declared, overrides)
    return renderer.payload()["groups"][0], renderer


def unescaped(line: str) -> list[str]:
    """Read a command line as systemd.syntax(7) says: words in double quotes with C escapes, and then ``%``."""
    def plain(word: str) -> str:
        return re.sub(r"\\(?:x(..)|(.))", lambda found: chr(int(found[1], 16)) if found[1] else found[2], word[1:-1])

    words = [plain(word) for word in re.findall(r'"(?:[^"\\]|\\.)*"', line)]
    assert not any(re.search("(?<!%)(%%)*%(?!%)", word) for word in words), "a specifier is left"
    return [word.replace("%%", "%") for word in words]


def unit_lines(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.split("\n") if line and line[0] not in "#[")


@settings(deadline=None, max_examples=100)
@given(st.lists(WORDS, min_size=1))
def test_a_units_words_are_read_back_as_they_were(words: list[str]) -> None:
    line = unit_words(words)
    assert not set(line) & set(map(chr, (*range(32), 127))) and unescaped(line) == words


@settings(deadline=None, max_examples=60)
@given(st.lists(WORDS, min_size=1), st.dictionaries(st.from_regex("[A-Z]{1,5}", fullmatch=True), WORDS))
def test_no_value_adds_a_line_to_a_unit_or_is_lost_in_it(words: list[str], env: dict[str, str]) -> None:
    group, _ = rendered(command=words, env=env, sandbox="none")
    assert set(unit_lines(group["unit_text"])) <= UNIT_KEYS
    launch = unescaped(unit_lines(group["unit_text"])["ExecStart"])
    assert unit_lines(group["unit_text"])["ExecStart"].startswith(':"')
    mark = min(launch.index(word) for word in ("--", "--json") if word in launch)  # our own options come first
    assert (launch[mark + 1:] if launch[mark] == "--" else json.loads(launch[-1])) == words
    assert {name: envfile.parse(group["env_text"])[name] for name in env} == env


@settings(deadline=None, max_examples=100)
@given(st.lists(WORDS, min_size=1))
def test_supervisor_reads_a_command_back_as_it_was(words: list[str]) -> None:
    group, _ = rendered("supervisor", command=words)
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(group["unit_text"])
    section, = parser.sections()
    launch = shlex.split(parser.get(section, "command") % {})
    assert launch[-2] == "--json" and json.loads(launch[-1]) == words


@pytest.mark.parametrize("manager", spec.MANAGERS)
def test_secrets_stand_in_the_environment_file_alone(manager: str) -> None:
    group, renderer = rendered(manager, secrets={"TOKEN": "GEHEIM1"}, app={
        "secrets": {"KEY": "GEHEIM2"}, "broker_url": "redis://:GEHEIM3@h", "broker_env": ["BROKER"],
        "result_url": "redis://:GEHEIM4@h", "result_env": ["RESULT"]})
    assert [word for word in ("1", "2", "3", "4") if f"GEHEIM{word}" not in group["env_text"]] == []
    assert "GEHEIM" not in group["unit_text"] and "GEHEIM" not in str(renderer.payload()["manager_texts"])
    assert sorted(group["secret_names"]) == ["BROKER", "KEY", "RESULT", "TOKEN"]


def test_a_groups_own_values_win_and_a_plain_one_over_a_secret_is_plain() -> None:
    group, _ = rendered(env={"A": "group", "S": "plain"}, secrets={"B": "group"},
                        app={"env": {"A": "app", "C": "app"}, "secrets": {"B": "app", "S": "app"}})
    assert {name: group["env"][name] for name in "ABCS"} == {"A": "group", "B": "group", "C": "app", "S": "plain"}
    assert group["secret_names"] == ["B"]


def test_one_number_gives_every_stop_setting() -> None:
    assert unit_lines(rendered(drain_seconds=100)[0]["unit_text"])["TimeoutStopSec"] == "115"
    assert unit_lines(rendered()[0]["unit_text"])["KillMode"] == "mixed"
    supervised = rendered("supervisor", drain_seconds=100)[0]["unit_text"].splitlines()
    assert "stopwaitsecs=115" in supervised and "stopasgroup=false" in supervised
    assert rendered(drain_seconds=100)[1].payload()["longest_drain"] == 115


def test_limits_are_in_the_unit_or_with_the_launcher() -> None:
    limits = {"open_files": 99, "nice": 5}
    unit = unit_lines(rendered(limits={**limits, "memory_max": "1G", "cpu_quota": "50%", "tasks_max": 7})[0]["unit_text"])
    wanted = {"LimitNOFILE": "99", "Nice": "5", "MemoryMax": "1G", "CPUQuota": "50%", "TasksMax": "7"}
    assert {key: unit.get(key) for key in wanted} == wanted
    program = rendered("supervisor", limits=limits)[0]["unit_text"]
    assert "--open-files=99" in program and "--nice=5" in program


#: Whether a change replaces running nodes.
CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, False), "more nodes": ({"nodes": 9}, False), "a longer drain": ({"drain_seconds": 9}, False),
    "another state": ({"state": "stopped"}, False), "the app's broker, handed to nobody": ({"app": {"broker_url": "redis://x"}}, False),
    "a command": ({"command": ["sleep", "2"]}, True), "a variable": ({"env": {"A": "1"}}, True),
    "a secret": ({"secrets": {"A": "1"}}, True), "a limit": ({"limits": {"nice": 1}}, True),
    "a sandbox": ({"sandbox": "none"}, True), "a path": ({"writable_paths": ["/x"]}, True),
    "a directive less": ({"sandbox_without": ["NoNewPrivileges"]}, True),
    "a user": ({"app": {"user": "other"}}, True), "a release": ({"app": {"has_release": True}}, True),
}


@pytest.mark.parametrize(("changes", "replaces"), CHANGES.values(), ids=CHANGES.keys())
def test_what_makes_a_new_generation(changes: dict[str, Any], replaces: bool) -> None:
    def bare(group: tuple[dict[str, Any], Renderer]) -> str:
        text = str(group[0]["values"])
        for word, token in group[1].tokens.items():
            text = text.replace(token, word)
        return text

    assert (bare(rendered()) != bare(rendered(**changes))) is replaces


def test_a_changed_template_alone_replaces_no_node(tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "node.service.j2").write_text("[Unit]\nX-Workfleet-App={{ node.app }}\n# {{ node.command[0] }}\n")
    group, _ = rendered(overrides=str(tmp_path))
    assert group["unit_text"] == "[Unit]\nX-Workfleet-App=shop\n# sleep\n"
    assert json.loads(group["values"])["command"] == ["sleep", "1"]


@pytest.mark.parametrize(("text", "words"), [
    ("{{ node.nosuch }}", "nosuch"), ("{{ inventory_hostname }}", "inventory_hostname"), ("\n{% if %}", "node.service.j2, line 2")])
def test_a_template_that_cannot_be_used_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "node.service.j2").write_text(text)
    with pytest.raises(WorkfleetError, match=r"the template systemd/node\.service\.j2") as caught:
        rendered(overrides=str(tmp_path))
    assert words in str(caught.value)


def test_no_text_of_an_inventory_is_taken_for_a_token() -> None:
    group, renderer = rendered(command=["echo", "@slot@", "<generation>", "{{ node }}"])
    assert '"@slot@" "<generation>" "{{ node }}"' in group["unit_text"]
    assert all(re.fullmatch(r"@[0-9a-f]{12}\.[a-z]+@", token) for token in renderer.tokens.values())


def test_where_logs_go_is_part_of_the_generation_and_their_size_is_not() -> None:
    def sent(**log: Any) -> dict[str, Any]:
        declared = spec.parse({"host": "h1", "app": {"name": "shop", "has_release": False}, "log": log,
                               "groups": [{"name": "a", "engine": "process", "command": ["sleep", "1"]}]})
        renderer = Renderer(declared)
        renderer.tokens = {word: f"<{word}>" for word in renderer.tokens}
        return renderer.payload()

    journal, file, larger = sent(), sent(to="file"), sent(to="file", max_bytes=9, backups=8)
    assert journal["groups"][0]["values"] != file["groups"][0]["values"] == larger["groups"][0]["values"]
    lines = unit_lines(file["groups"][0]["unit_text"])
    assert lines["X-Workfleet-Log"] == "/opt/shop/log/workfleet.shop.a.<slot>.<incarnation>.log"
    launch = unescaped(lines["ExecStart"])
    assert launch[launch.index("--log") + 1] == lines["X-Workfleet-Log"] and launch.index("--log") < launch.index("--")
    assert journal["manager_texts"] == {}
    service, = larger["manager_texts"].values()
    assert unescaped(unit_lines(service)["ExecStart"])[2:] == [
        "/opt/shop/workfleet/workfleet_logs.py", "--max-bytes=9", "--backups=8", "/opt/shop/log", "shop"]


@pytest.mark.parametrize(("command", "may"), [
    ([], True),
    (["spark", "worker", "start", "--no-color"], True),
    (["celery", "-A", "app", "worker", "-n", "w1@%h"], False),
    (["celery", "-A", "app", "worker", "--hostname=w1"], False),
    (["sh", "-c", "exec celery -A app worker -nw1"], False),
], ids=["celery", "a command", "-n", "--hostname", "in a shell"])
def test_two_celery_workers_of_one_name_never_run_side_by_side(command: list[str], may: bool) -> None:
    declared = spec.parse({"host": "h1", "app": {"name": "shop", "has_release": False},
                           "groups": [{"name": "a", "app": "app", "command": command}]})
    assert Renderer(declared).payload()["groups"][0]["overlaps"] is may


BASIC = {"NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "full", "SystemCallArchitectures": "native",
         "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK"}
SERVICE = {**BASIC, "RestrictNamespaces": "yes", "SystemCallFilter": "@system-service", "SystemCallErrorNumber": "EPERM"}
STRICT = {**SERVICE, "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes", "PrivateMounts": "yes",
          "ProtectProc": "invisible", "UMask": "0077", "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
          "ReadWritePaths": '"/opt/shop/log" "/run/workfleet/shop" "/srv/x y" "-/opt/shop/shared"'}


@pytest.mark.parametrize(("group", "holds"), [
    ({"sandbox": "none"}, {}),
    ({}, BASIC),
    ({"sandbox": "strict", "writable_paths": ["/srv/x y"]}, STRICT),
    ({"sandbox": "strict", "writable_paths": ["/srv/x y"], "sandbox_without": ["PrivateTmp", "SystemCallFilter"]}, {
        **{key: value for key, value in STRICT.items() if key not in ("PrivateTmp", "SystemCallFilter")},
        "ReadWritePaths": '"/opt/shop/log" "/run/workfleet/shop" "/srv/x y" "-/opt/shop/shared" "/tmp" "/var/tmp"'}),
], ids=["none", "basic", "strict", "strict without"])
def test_a_unit_has_the_directives_of_its_level_but_for_those_that_are_switched_off(group: dict[str, Any], holds: dict[str, str]) -> None:
    unit = unit_lines(rendered(**group)[0]["unit_text"])
    assert {key: unit[key] for key in STRICT if key in unit} == holds


@pytest.mark.parametrize(("groups", "holds"), [
    ([{}], SERVICE), ([{}, {"sandbox_without": ["RestrictNamespaces"]}], {**SERVICE, "RestrictNamespaces": None}),
    ([{}, {"sandbox": "none"}], dict.fromkeys(SERVICE)), ([{}, {"sandbox": "none", "state": "absent"}], SERVICE),
], ids=["basic", "one without", "one of none", "one that goes"])
def test_supervisords_unit_keeps_what_all_its_nodes_bear(groups: list[dict[str, Any]], holds: dict[str, str | None]) -> None:
    declared = spec.parse({"host": "h1", "manager": "supervisor", "app": {"name": "shop"}, "groups": [
        {"name": name, "engine": "process", "command": ["sleep", "1"], **group} for name, group in zip("ab", groups)]})
    text, = (text for path, text in Renderer(declared).payload()["manager_texts"].items() if path.endswith(".service"))
    unit = unit_lines(text)
    assert {key: unit.get(key) for key in holds} == holds


@pytest.mark.parametrize(("root", "home"), [("/opt/shop", "yes"), ("/home/x/shop", None)])
def test_the_service_for_logs_sees_its_files_wherever_they_are(root: str, home: str | None) -> None:
    declared = spec.parse({"host": "h1", "app": {"name": "shop", "root": root}, "log": {"to": "file"},
                           "groups": [{"name": "a", "engine": "process", "command": ["sleep", "1"]}]})
    text, = Renderer(declared).payload()["manager_texts"].values()
    unit = unit_lines(text)
    assert unit["ReadWritePaths"] == f'"{root}/log"' and unit["ProtectSystem"] == "strict" and unit.get("ProtectHome") == home
